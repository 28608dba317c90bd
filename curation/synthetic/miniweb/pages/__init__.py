"""Web pages of the mini-web, as a crawl brings them: eight kinds around its pictures, spoiled as the web spoils.

`generate_site` writes them where `MiniWebConfig.pages` asks for some: WARC files, and `pages.truth.parquet`, which
says of each page what its content is, in order, and what should become of it. See docs/miniweb.md.
"""

from mmcorpus.curation.synthetic.miniweb.pages.spoilers import PAGE_SPOILERS, PageSpoiler

__all__ = ["PAGE_SPOILERS", "PageSpoiler"]
