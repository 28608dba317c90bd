"""The report's funnel, counted from the ledger."""

from typing import Any, Final

import pyarrow.compute as pc

from mmcorpus.curation.store import ledger, storage

HELDOUT: Final = "heldout"
"""The value of samples kept aside, in the ledger's stage `select`."""
STAGE_NAMES: Final = {
    "extract": "extracted",
    "capture": "latest captures",
    "trim": "with nodes left",
    "list": "listed",
    "download": "downloaded",
    "select": "selected",
    "split": "split",
    "pack": "packed",
}


def funnel(run: str, source: str) -> dict[str, Any]:
    """One source's stages, each with what it kept and what it dropped by which rule."""
    rows = []
    widest = 1
    for stage, table in ledger.read_stages(storage.join(run, "ledger", source)).items():
        dropped = table.filter(pc.equal(table["verdict"], ledger.DROPPED))
        reasons = sorted(
            ((v["counts"], v["values"]) for v in dropped["rule"].value_counts().to_pylist()),
            key=lambda r: (-r[0], r[1]),
        )
        heldout = pc.sum(pc.equal(table["value"], HELDOUT)).as_py() or 0 if stage == "select" else 0
        widest = max(widest, table.num_rows)
        rows.append((stage, table.num_rows, dropped.num_rows, reasons, heldout))
    return {
        "source": source,
        "stages": [
            {
                "name": STAGE_NAMES[stage],
                "kept": f"{total - dropped:,}",
                "total": f"{total:,}",
                "kept_percent": f"{100 * (total - dropped) / widest:.2f}",
                "dropped_percent": f"{100 * dropped / widest:.2f}",
                "reasons": [{"count": f"{count:,}", "rule": rule} for count, rule in reasons],
                "note": f"{heldout:,} of these are held out, and packed on their own" if heldout else "",
            }
            for stage, total, dropped, reasons, heldout in rows
        ],
    }


def stage_totals(run: str, source: str) -> dict[str, tuple[int, int]]:
    """(entered, kept) by stage."""
    return {
        stage: (table.num_rows, int(pc.sum(pc.equal(table["verdict"], ledger.KEPT)).as_py() or 0))
        for stage, table in ledger.read_stages(storage.join(run, "ledger", source)).items()
    }
