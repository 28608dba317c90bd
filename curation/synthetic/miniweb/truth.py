"""The truth of every listed row of a generated site, and the fate that a sound pipeline should give it."""

from typing import Any, Final

import pyarrow as pa

from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.curation.synthetic.miniweb.corruptions import CORRUPTIONS, Corruption
from mmcorpus.curation.synthetic.miniweb.page import Page

CLEAN: Final = "clean"
_NONE: Final = Corruption(apply=lambda page: None, weight=0)
_FIELDS: Final[list[tuple[str, pa.DataType]]] = [
    ("row", pa.int64()),  # in its list, from 0
    ("list", pa.string()),  # pairs, instructions
    ("uid", pa.string()),
    ("url", pa.string()),
    ("caption", pa.string()),
    ("kind", pa.string()),  # the renderer
    ("spoil", pa.string()),  # a name of CORRUPTIONS, or `clean`
    ("expect", pa.string()),  # kept, dropped
    ("expect_stage", pa.string()),  # list, download, select; null if kept
    ("expect_rule", pa.string()),  # the code or column that drops it; null if kept
    ("true_caption", pa.string()),
    ("duplicate_of", pa.string()),  # the uid of the row that it copies
    ("upright_width", pa.int32()),  # of the picture as published; null if it cannot be had
    ("upright_height", pa.int32()),
    ("note", pa.string()),
]
SCHEMA: Final = pa.schema(_FIELDS)


def truth_row(row: int, listed_in: str, spoil: str, page: Page) -> dict[str, Any]:
    """One row of the truth."""
    corruption = CORRUPTIONS.get(spoil, _NONE)
    width, height = page.upright or (None, None)
    copied = None if page.partner is None or corruption.partner == "swap" else page.partner
    return {
        "row": row,
        "list": listed_in,
        "uid": pair_uid(page.url, page.caption),
        "url": page.url,
        "caption": page.caption,
        "kind": page.rendered.kind,
        "spoil": spoil,
        "expect": "dropped" if corruption.stage else "kept",
        "expect_stage": corruption.stage,
        "expect_rule": corruption.rule,
        "true_caption": page.rendered.caption,
        "duplicate_of": pair_uid(copied.url, copied.caption) if copied else None,
        "upright_width": width,
        "upright_height": height,
        "note": corruption.note,
    }
