"""The report: one self-contained HTML file a run."""

from mmcorpus.curation.store import storage
from mmcorpus.pipelines.report.page import render_page

__all__ = ["render_page", "write_report"]


def write_report(run: str) -> str:
    """Write `report.html` into the run's folder and return its path. Raises `FileNotFoundError` if there is no run."""
    if not storage.exists(storage.join(run, "run.json")):
        raise FileNotFoundError(f"{run} holds no run (no run.json); give the --out folder of a `mmcorpus run`")
    path = storage.join(run, "report.html")
    storage.write_bytes(path, render_page(run).encode())
    return path
