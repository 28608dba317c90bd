"""The report: one self-contained HTML file a run."""

from mmcorpus.curation.store import storage
from mmcorpus.pipelines.report.page import render_page
from mmcorpus.pipelines.truth.run_verdict import TRUTH_FILE, judge_run

__all__ = ["render_page", "write_report"]


def write_report(run: str) -> str:
    """Write `report.html` into the run's folder and return its path; `truth.json` too, of a run of a generated site.

    Raises `FileNotFoundError` if there is no run.
    """
    if not storage.exists(storage.join(run, "run.json")):
        raise FileNotFoundError(f"{run} holds no run (no run.json); give the --out folder of a `mmcorpus run`")
    path, verdict = storage.join(run, "report.html"), judge_run(run)
    if verdict.verdicts:
        storage.write_json(storage.join(run, TRUTH_FILE), verdict.as_dict())
    else:
        storage.remove(storage.join(run, TRUTH_FILE))
    storage.write_bytes(path, render_page(run, verdict).encode())
    return path
