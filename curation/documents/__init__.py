"""Documents: web pages as texts and images in page order, from WARC, HTML or corpora that exist.

Pages are extracted, their images fetched once and placed back, nodes and documents judged, and what is left is packed.
"""

from mmcorpus.curation.html.nodes import ImageNode, Node, TextNode

__all__ = ["ImageNode", "Node", "TextNode"]
