"""Web pages of the mini-web, as a crawl brings them: eight kinds around its pictures, corrupted as on the web.

`generate_site` writes them where `MiniWebConfig.pages` asks for some: WARC files, and `pages.truth.parquet`, which
names the content of each page, in order, and the fate that it should have. See docs/miniweb.md.
"""

from mmcorpus.curation.synthetic.miniweb.pages.corruptions import PAGE_CORRUPTIONS, PageCorruption

__all__ = ["PAGE_CORRUPTIONS", "PageCorruption"]
