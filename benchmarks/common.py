"""What every benchmark needs: the machine, repeats, a table on the screen, JSON in benchmarks/results/."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final, TypeVar

RESULTS: Final = Path(__file__).parent / "results"

T = TypeVar("T")


def machine() -> dict[str, Any]:
    """Processor, cores, memory and the versions that decide speed; nothing that names the machine."""
    packages = ("ray", "pillow", "opencv-python-headless", "numpy", "pyarrow", "torch", "img2dataset")
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "packages": {name: version for name in packages if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def timed(function: Callable[[], T]) -> tuple[T, float]:
    """What the function returned and the seconds it took."""
    start = time.perf_counter()
    value = function()
    return value, time.perf_counter() - start


def repeat(function: Callable[[], float], times: int) -> dict[str, float]:
    """Median, least and greatest of several measurements."""
    values = [function() for _ in range(times)]
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "runs": float(times)}


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as a table; floats to four digits. In a log file it is wide, so that nothing is cut off."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        numeric = all(isinstance(row.get(name), int | float | None) for row in rows)
        table.add_column(name, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in names))
    Console(width=None if sys.stdout.isatty() else 220).print(table)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def write_result(name: str, result: Mapping[str, Any]) -> Path:
    """Write benchmarks/results/NAME.json with the machine beside the numbers."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **result}, indent=1, sort_keys=True) + "\n")
    return path
