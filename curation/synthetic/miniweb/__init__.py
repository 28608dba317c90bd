"""A small web of its own: a deterministic site of rendered pictures, corrupted as on the web, served on loopback.

    from mmcorpus.curation.synthetic.miniweb import MiniWebConfig, generate_site, serve_site
    generate_site(MiniWebConfig(pairs=1500), "out/web")
    with serve_site("out/web") as site:
        …                                   # fetch out/web/pairs.parquet with connect_to=site.connect_to
        site.requests.total()

Its truth (`truth.parquet`) says of every listed row what was done to it and which rule should find it. `build_site`
makes a site of any folder of pictures and captions. See docs/miniweb.md.
"""

from mmcorpus.curation.synthetic.miniweb.config import MiniWebConfig
from mmcorpus.curation.synthetic.miniweb.corruptions import CORRUPTIONS, Corruption
from mmcorpus.curation.synthetic.miniweb.generate import generate_site
from mmcorpus.curation.synthetic.miniweb.server import RunningSite, serve_site
from mmcorpus.curation.synthetic.miniweb.site import Route, Site, SiteItem, build_site, read_site

__all__ = [
    "CORRUPTIONS",
    "Corruption",
    "MiniWebConfig",
    "Route",
    "RunningSite",
    "Site",
    "SiteItem",
    "build_site",
    "generate_site",
    "read_site",
    "serve_site",
]
