"""Image layouts: what an image of any size becomes for a model, and how many positions and crops that is.

Planner, packer, loader and model ask the layout's config; nobody else knows how an image is tiled. numpy only; Pillow
where pixels are rendered (packing/layout/render.py).
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Final

from mmcorpus.packing.layout.base import Crop, ImageLayout, LayoutBase, Token
from mmcorpus.packing.layout.catty import CattyLayout
from mmcorpus.packing.layout.internvl import InternVLLayout
from mmcorpus.packing.layout.mm1 import MM1Layout
from mmcorpus.packing.layout.molmo import MolmoLayout
from mmcorpus.packing.layout.native import NativeLayout
from mmcorpus.packing.layout.square import SquareLayout


class _ByKind:
    """Has pydantic, which reads recipes, ask `read_layout` rather than try one class after the other."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            lambda given: given if isinstance(given, LayoutBase) else read_layout(given)
        )


LayoutConfig = Annotated[
    SquareLayout | MolmoLayout | CattyLayout | InternVLLayout | MM1Layout | NativeLayout, _ByKind()
]
"""A layout's config: one of these, told apart by `kind`."""
PerImage = int | LayoutConfig
"""Positions of every image, or the layout that says them of each image's size."""
LAYOUTS: Final[dict[str, type[LayoutConfig]]] = {
    str(config.kind): config
    for config in (SquareLayout, MolmoLayout, CattyLayout, InternVLLayout, MM1Layout, NativeLayout)
}
"""Every layout's config by its kind."""


def read_layout(settings: Mapping[str, Any]) -> LayoutConfig:
    """The config of settings as YAML or a manifest has them, e.g. `{kind: molmo, max_crops: 36}`; without `kind` it is
    `square`. Raises ValueError for a kind or a key that there is not, or a value out of range."""
    if not isinstance(settings, Mapping):
        raise ValueError(f"a layout is a mapping such as {{kind: molmo}}, not {settings!r}")
    kind = settings.get("kind", "square")
    if not isinstance(kind, str) or kind not in LAYOUTS:
        raise ValueError(f"the layout {kind!r} is not known; there are {', '.join(LAYOUTS)}")
    known = [field.name for field in dataclasses.fields(LAYOUTS[kind])]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ValueError(f"the layout {kind!r} has no setting {', '.join(unknown)}; it has {', '.join(known)}")
    given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
    return LAYOUTS[kind](**given)


__all__ = [
    "LAYOUTS",
    "CattyLayout",
    "Crop",
    "ImageLayout",
    "InternVLLayout",
    "LayoutBase",
    "LayoutConfig",
    "MM1Layout",
    "MolmoLayout",
    "NativeLayout",
    "PerImage",
    "SquareLayout",
    "Token",
    "read_layout",
]
