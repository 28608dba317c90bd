"""Main content of a web page, its images in place: `extract(html, url) -> Extracted`.

The page is decoded as browsers do (`encoding`), parsed by the HTML standard into flat lists (`parse`), measured
(`features`: text, links, prose of each element; `hints`: what its names say), cut down to its content (`content`), and
written as nodes (`emit`, `images`, `urls`).
"""

from mmcorpus.curation.html.config import ExtractConfig, ExtractError
from mmcorpus.curation.html.encoding import decode_html
from mmcorpus.curation.html.page import Extracted, extract

__all__ = ["ExtractConfig", "ExtractError", "Extracted", "decode_html", "extract"]
