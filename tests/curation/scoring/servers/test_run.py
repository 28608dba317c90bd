"""Servers that live with a run on Ray: shared, replaced, restarted, and gone when the driver is killed."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from mmcorpus.curation.scoring.run import ScoreReport
from mmcorpus.curation.scoring.servers import served
from mmcorpus.curation.scoring.servers.score import score
from mmcorpus.curation.store.scores import load_scores
from mmcorpus.filters import SCORERS
from mmcorpus.filters.mllm import MllmScorer
from mmcorpus.filters.serving import ClientConfig
from tests.curation.scoring.servers.conftest import alive, fake, pids, until, write_shard
from tests.processes import kill, wait_until

CLIENT = ClientConfig(concurrency=4, timeout=20.0, backoff=0.05, patience=120.0)
IDENTITY = {"model_name": "some/model", "revision": "1"}


def judge(marks: Path, **more: Any) -> MllmScorer:
    scorer = MllmScorer(model_name="some/model", server=fake(marks, **more), client=CLIENT)
    object.__setattr__(scorer, "_model", "some/model@1")  # no hub is asked for its commit
    return scorer


def run(tmp_path: Path, scorers: list[Any], out: str = "scores") -> ScoreReport:
    return score(
        str(tmp_path / "shards"),
        str(tmp_path / out),
        scorers,
        workers=2,
        logs=str(tmp_path / "logs"),
        answers=str(tmp_path / "answers"),
    )


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*.parquet")
    }


def asked(marks: Path) -> int:
    return len((marks / "asked").read_text().splitlines()) if (marks / "asked").exists() else 0


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_a_server_runs_as_long_as_there_is_something_to_ask(tmp_path: Path) -> None:
    for number in range(3):
        write_shard(str(tmp_path / "shards"), number, 6)
    marks = tmp_path / "marks"
    report = run(tmp_path, [SCORERS["caption"](), judge(marks)])
    assert report.ok
    assert report.scored == {"caption": 18, "mllm": 12}
    assert report.unscored["mllm"] == {"no_caption": 3, "truncated": 3}
    assert asked(marks) == 48
    assert len(pids(marks)) == 2
    assert not any(alive(pid) for pid in pids(marks))
    assert "serving on" in (tmp_path / "logs" / "mllm-0.log").read_text()
    table = load_scores(str(tmp_path / "scores"))
    assert set(table["mllm.semantic_understanding"].to_pylist()) == {86.0, None}

    assert run(tmp_path, [SCORERS["caption"](), judge(marks)]).skipped == 3
    assert len(pids(marks)) == 2, "no server is started for nothing"

    # The tables are lost, the answers are not.
    before = digests(tmp_path / "scores")
    for path in (tmp_path / "scores" / "mllm").iterdir():
        path.unlink()
    assert run(tmp_path, [judge(marks)]).ok
    assert digests(tmp_path / "scores") == before
    assert asked(marks) == 48


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_scorers_of_one_model_share_its_servers_and_replicas_share_the_work(tmp_path: Path) -> None:
    for number in range(2):
        write_shard(str(tmp_path / "shards"), number, 8)
    marks = tmp_path / "marks"
    one = judge(marks, replicas=2)
    with served([one, one.named("other"), SCORERS["caption"]()], logs=str(tmp_path / "logs")) as connected:
        lent = [scorer.connection() for scorer in connected[:2]]  # type: ignore[attr-defined]
        assert lent[0].endpoints == lent[1].endpoints
        assert len(lent[0].endpoints) == 2
        assert [scorer.fingerprint() for scorer in connected[:1]] == [one.fingerprint()]
        from mmcorpus.curation.scoring.run import score as plain

        assert plain(str(tmp_path / "shards"), str(tmp_path / "scores"), connected[:1], workers=1).ok
    assert len(set((marks / "asked").read_text().split())) == 2
    assert not any(alive(pid) for pid in pids(marks))


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_a_server_that_does_not_start_stops_the_scoring_with_its_log(tmp_path: Path) -> None:
    write_shard(str(tmp_path / "shards"), 0, 4)
    marks = tmp_path / "marks"
    broken = judge(marks, max_restarts=0)
    (marks / "die").touch()
    with pytest.raises(RuntimeError, match="does not run: the server ended with exit code 7") as caught:
        run(tmp_path, [broken])
    assert "CUDA out of memory, say" in str(caught.value)
    with pytest.raises(ValueError, match="2 servers of 1 GPUs each do not fit into the 0 of the Ray cluster"):
        run(tmp_path, [judge(marks, gpus=1, replicas=2)])


DRIVER = """
import sys
from pathlib import Path
import ray
from tests.curation.scoring.servers.test_run import judge, run
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False)
root = Path(sys.argv[1])
run(root, [judge(root / "marks")])
"""


@pytest.mark.soak
@pytest.mark.usefixtures("ray_local")
def test_killed_drivers_and_keepers_leave_no_server_and_the_same_scores(tmp_path: Path) -> None:
    for number in range(4):
        write_shard(str(tmp_path / "shards"), number, 40)
    marks = tmp_path / "marks"
    root = Path(__file__).parents[4]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_ADDRESS")}
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], cwd=root, env=environment)
    wait_until(lambda: asked(marks) > 40, driver)
    kill(driver)
    until(lambda: not any(alive(pid) for pid in pids(marks)), 120)
    before = asked(marks)
    assert before < 608

    reports: list[ScoreReport] = []
    thread = threading.Thread(target=lambda: reports.append(run(tmp_path, [judge(marks)])))
    thread.start()
    until(lambda: asked(marks) > before + 40, 240)
    for pid in filter(alive, pids(marks)):
        os.kill(pid, signal.SIGKILL)
    thread.join(300)
    assert reports[0].ok
    assert reports[0].scored == {"mllm": 152}
    assert 608 <= asked(marks) <= 608 + 2 * 16 + 8, "an answer was paid for twice"
    assert run(tmp_path, [judge(marks)], "again").ok
    assert digests(tmp_path / "again") == digests(tmp_path / "scores")
    assert not any(alive(pid) for pid in pids(marks))
