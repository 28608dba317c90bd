"""Rendered images with true captions, questions and points, in the spirit of PixMo-Clocks and PixMo-Docs.

    from mmcorpus.curation.synthetic.render import render
    rendered = render("clock", seed=7)      # the same picture on every machine
    rendered.image, rendered.caption, rendered.qa, rendered.points, rendered.facts

A picture is a pure function of its kind, seed and size; a set of pictures, of its `RenderConfig`. `render_shards`
writes such a set on Ray.
"""

from mmcorpus.curation.synthetic.render.config import ALL_KINDS, KINDS, RenderConfig, render
from mmcorpus.curation.synthetic.render.contact import contact_sheet
from mmcorpus.curation.synthetic.render.conversations import conversations
from mmcorpus.curation.synthetic.render.rendered import Point, Rendered
from mmcorpus.curation.synthetic.render.shards import render_shards

__all__ = [
    "ALL_KINDS",
    "KINDS",
    "Point",
    "RenderConfig",
    "Rendered",
    "contact_sheet",
    "conversations",
    "render",
    "render_shards",
]
