"""What is true of every listed row of a generated site, and what a sound pipeline should make of it."""

from typing import Any, Final

import pyarrow as pa

from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.curation.synthetic.miniweb.page import Page
from mmcorpus.curation.synthetic.miniweb.spoilers import SPOILERS

CLEAN: Final = "clean"
_FIELDS: Final[list[tuple[str, pa.DataType]]] = [
    ("row", pa.int64()),  # in its list, from 0
    ("list", pa.string()),  # pairs, instructions
    ("uid", pa.string()),
    ("url", pa.string()),
    ("caption", pa.string()),
    ("kind", pa.string()),  # the renderer
    ("spoil", pa.string()),  # a name of SPOILERS, or `clean`
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


def truth_row(row: int, listed_in: str, spoil: str, page: Page, duplicate_of: str | None) -> dict[str, Any]:
    """One row of the truth."""
    spoiler = SPOILERS.get(spoil)
    dropped = spoiler is not None and spoiler.stage is not None
    width, height = page.upright or (None, None)
    return {
        "row": row,
        "list": listed_in,
        "uid": pair_uid(page.url, page.caption),
        "url": page.url,
        "caption": page.caption,
        "kind": page.kind,
        "spoil": spoil,
        "expect": "dropped" if dropped else "kept",
        "expect_stage": spoiler.stage if spoiler else None,
        "expect_rule": (spoiler.rule or None) if spoiler else None,
        "true_caption": page.true_caption,
        "duplicate_of": duplicate_of,
        "upright_width": width,
        "upright_height": height,
        "note": (spoiler.note or None) if spoiler else None,
    }
