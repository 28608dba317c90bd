"""What a corpus costs: core-hours, hours and storage at a size, from the unit costs that the other benchmarks measured.

    python -m benchmarks.costs --samples 1e6 1e8 1e9 --cores 64

Reads benchmarks/results/*.json; a stage whose benchmark has not been run is left out. docs/cluster.md shows the table.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.common import RESULTS

BYTES: Final = {
    "shards (image, 512 px, JPEG)": 65_000,
    "scores of the rules": 380,
    "a pass of deduplication": 60,
    "its work files, texts verified": 530,
}
"""Of storage a sample: the first as the download benchmark's images, the next two of the demo's tables, the last of
`benchmarks.dedup --only costs`."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage's unit cost."""

    name: str
    result: str
    """The benchmark's file."""
    cpu_seconds: Callable[[Any], float | None]
    """Of one sample, from what the benchmark wrote; None where it is not in there."""
    spread: bool = True
    """Over all cores; else one process does it."""


def _download(result: Any) -> float | None:
    rows = [row["cpu_ms_per_image"] for row in result["medians"] if row["variant"] == "mmcorpus"]
    return rows[0] / 1000 if rows else None


def _score(result: Any) -> float | None:
    rates = {row["way"]: row["images/s"] for row in result["rows"]}
    warm = {row["way"]: row.get("efficiency warm") for row in result["rows"]}
    way = "Ray, 2 workers"
    return 1 / (rates["plain loop"] * warm[way]) if warm.get(way) else None


def _dedup(result: Any) -> float | None:
    """Of the largest size, pairs verified."""
    rows = [row for row in result.get("costs", ()) if row["verify"] != "none"]
    largest = max(rows, key=lambda row: row["documents"], default=None)
    return largest["cpu_us"] / 1e6 if largest else None


def _extract(result: Any) -> float | None:
    rates = [row["pages/s"] for row in result["rows"]["all"] if row["who"] == "mmcorpus"]
    return 1 / rates[0] if rates else None


def _lengths(result: Any) -> float | None:
    rows = {row["step"]: row for row in result["rows"]}
    return float(rows["lengths"]["cpu_us"] / 1e6)


def _plan_from_tables(result: Any) -> float | None:
    rows = {row["step"]: row for row in result["rows"]}
    return float(rows["plan"]["cpu_us"] / 1e6)


STAGES: Final = (
    Stage(name="download", result="download", cpu_seconds=_download),
    Stage(name="score, five rules", result="scoring", cpu_seconds=_score),
    Stage(name="deduplicate texts", result="dedup-costs", cpu_seconds=_dedup),
    Stage(name="extract a page", result="extraction", cpu_seconds=_extract),
    Stage(name="measure lengths (tokenise)", result="lengths", cpu_seconds=_lengths),
    Stage(name="plan sequences", result="lengths", cpu_seconds=_plan_from_tables, spread=False),
)


def table(samples: Sequence[float], cores: int) -> list[dict[str, Any]]:
    """A row a stage: the measured CPU time of a sample, and for each size what it costs and how long it takes."""
    rows = []
    for stage in STAGES:
        path = RESULTS / f"{stage.result}.json"
        seconds = stage.cpu_seconds(json.loads(path.read_text())) if path.exists() else None
        if seconds is None:
            continue
        row: dict[str, Any] = {"stage": stage.name, "CPU ms": f"{seconds * 1000:.2g}"}
        used = cores if stage.spread else 1
        for count in samples:
            hours = seconds * count / 3600
            row[_size(count)] = f"{_hours(hours)} of CPU, {_hours(hours / used)}" if used > 1 else _hours(hours)
        rows.append(row)
    return rows


def _size(count: float) -> str:
    return f"{count / 1e9:g} B" if count >= 1e9 else f"{count / 1e6:g} M"


def _hours(hours: float) -> str:
    """A duration as a person says it."""
    if hours >= 48:
        return f"{hours / 24:,.0f} days"
    return f"{hours:.2g} h" if hours >= 1 else f"{hours * 60:.2g} min" if hours >= 1 / 60 else f"{hours * 3600:.2g} s"


def _bytes(count: float) -> str:
    return f"{count / 1e12:,.3g} TB" if count >= 1e12 else f"{count / 1e9:,.3g} GB"


def _print(rows: Sequence[dict[str, Any]]) -> None:
    """As Markdown, to be put into docs/cluster.md."""
    names = list(rows[0]) if rows else []
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join(str(row[name]) for name in names) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=float, nargs="+", default=[1e6, 1e8, 1e9])
    parser.add_argument("--cores", type=int, default=64)
    arguments = parser.parse_args()
    print(f"CPU time, and time on {arguments.cores} cores\n")
    _print(table(arguments.samples, arguments.cores))
    print("\nStorage\n")
    _print(
        [
            {"what": name, "bytes a sample": f"{size:,}"}
            | {_size(count): _bytes(size * count) for count in arguments.samples}
            for name, size in BYTES.items()
        ]
    )


if __name__ == "__main__":
    main()
