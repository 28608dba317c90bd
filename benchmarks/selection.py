"""Selecting from millions of samples: against pandas.eval, against DataComp's way, and writing its .npy against numpy.

    python -m benchmarks.selection --rows 1000000 10000000

One line of JSON a measurement: rows, seconds, rows a second, and the peak memory of a process that did that alone; all
of them in benchmarks/results/selection.json.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.common import write_result
from mmcorpus.curation.selection import SelectConfig, select_table
from mmcorpus.curation.selection.tables import write_pairs
from mmcorpus.curation.store import uid_arrays as uids

KEEP = "image.min_side >= 200 and image.aspect_ratio <= 3 and caption.words > 2 and top(clip.score, 0.3)"


def make_scores(rows: int) -> pa.Table:
    """Synthetic scores: 2 % of the samples could not be decoded."""
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, 2**64, (rows, 2), np.uint64).view(uids.PAIR).ravel()
    unscored = rng.random(rows) < 0.02
    return pa.table(
        {
            "uid": uids.decode(pairs),
            "image.min_side": pa.array(rng.integers(20, 2000, rows).astype(np.int32), mask=unscored),
            "image.aspect_ratio": pa.array(1 + rng.exponential(1.0, rows), mask=unscored),
            "caption.words": pa.array(rng.poisson(8, rows).astype(np.int32)),
            "clip.score": pa.array(rng.normal(0.25, 0.05, rows).astype(np.float32), mask=unscored),
        }
    )


def ours(table: pa.Table, folder: Path) -> int:
    """The selection as DataComp's .npy."""
    return select_table(SelectConfig(keep=KEEP), table, str(folder / "ours.npy")).kept


def ours_with_ledger(table: pa.Table, folder: Path) -> int:
    """The selection, the explanation, and each dropped sample's rule and value in the ledger."""
    config = SelectConfig(keep=KEEP)
    explain = str(folder / "explain.json")
    out = str(folder / "ours.parquet")
    return select_table(config, table, out, ledger_root=str(folder / "ledger"), explain_out=explain).kept


def with_pandas(table: pa.Table, folder: Path) -> int:
    """pandas.eval for the clauses, a quantile for the fraction, Python's int() for the uids."""
    frame = table.to_pandas()
    frame.columns = [name.replace(".", "_") for name in frame.columns]
    mask = frame.eval("image_min_side >= 200 and image_aspect_ratio <= 3 and caption_words > 2")
    kept = frame.uid[mask & (frame.clip_score >= frame.clip_score.quantile(0.7))]
    return datacomp_save(kept.tolist(), folder / "pandas.npy")


def datacomp(table: pa.Table, folder: Path) -> int:
    """What DataComp's baselines do: numpy masks a file, then Python integers, one sort, one array."""
    columns = {name: table[name].to_pandas().to_numpy() for name in table.column_names}
    score = columns["clip.score"]
    scored = np.sort(score[~np.isnan(score)])[::-1]
    cut = scored[int(len(scored) * 0.3)]
    mask = (columns["image.min_side"] >= 200) & (columns["image.aspect_ratio"] <= 3) & (columns["caption.words"] > 2)
    return datacomp_save(list(columns["uid"][mask & (score >= cut)]), folder / "datacomp.npy")


def datacomp_save(kept: list[str], path: Path) -> int:
    """uids to the sorted `u8,u8` array, a Python integer at a time."""
    array = np.array([(int(uid[:16], 16), int(uid[16:32], 16)) for uid in kept], np.dtype("u8,u8"))
    array.sort()
    np.save(path, array)
    return len(array)


def export_ours(table: pa.Table, folder: Path) -> int:
    """Every uid to .npy."""
    pairs = uids.encode(table["uid"])
    write_pairs(str(folder / "all.npy"), pairs, np.ones(len(pairs), np.int64))
    return len(pairs)


def export_numpy(table: pa.Table, folder: Path) -> int:
    """Every uid to .npy as DataComp does."""
    return datacomp_save(table["uid"].to_pylist(), folder / "numpy.npy")


MEASURED: dict[str, Callable[[pa.Table, Path], int]] = {
    function.__name__: function
    for function in (ours, ours_with_ledger, with_pandas, datacomp, export_ours, export_numpy)
}


def measure(name: str, rows: int, results: Any) -> None:
    """Run one measurement and put its line."""
    table = make_scores(rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        result = MEASURED[name](table, Path(folder))
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results.put(
        {
            "what": name,
            "rows": rows,
            "result": result,
            "seconds": round(seconds, 3),
            "rows_per_second": round(rows / seconds),
            "table_mb": round(table.nbytes / 2**20),
            "peak_mb": round(peak / 2**10),
            "above_table_mb": round((peak - before) / 2**10),
        }
    )


def main() -> None:
    """Each measurement in a process of its own, so that its peak memory is its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--only", nargs="+", choices=list(MEASURED), default=list(MEASURED)[:-1])
    arguments = parser.parse_args()
    lines = []
    context = multiprocessing.get_context("spawn")
    for rows in arguments.rows:
        for name in arguments.only:
            results = context.Queue()
            process = context.Process(target=measure, args=(name, rows, results))
            process.start()
            lines.append(results.get())
            print(json.dumps(lines[-1]), flush=True)
            process.join()
    write_result("selection", {"expression": KEEP, "measurements": lines})


if __name__ == "__main__":
    main()
