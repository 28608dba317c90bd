"""The loop in small, whole: a model of the run is exported, served by a real vLLM, and selects what the next one learns
from; killed while it rates, and run again."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import load_scores
from mmcorpus.pipelines.recipe.load import load_recipe
from mmcorpus.pipelines.report import reselected
from mmcorpus.pipelines.run.run_recipe import plan_run
from mmcorpus.training.metrics import read_metrics
from tests.curation.scoring.servers.vllm import vllm_server
from tests.processes import kill, wait_until

RATING = "score.scorers.rating"
CONCURRENCY = 2


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_killed_while_it_rates_it_goes_on_and_pays_for_no_answer_twice(tmp_path: Path) -> None:
    run, server = tmp_path / "run", vllm_server("--logprobs-mode", "processed_logprobs")
    settings = [
        "web.generate.pairs=90",
        "web.generate.weights={swapped_caption: 20, slow: 0, drip: 0, endless: 0}",
        *(f"train.stages.{stage}.schedule.steps=4" for stage in ("first", "second")),
        *(f"evaluate.{stage}.limit=8" for stage in ("first", "second")),
        "select.again.keep=bottom(ppl.ppl, 0.7) and top(rating.image_text_matching, 0.9)",
        f"{RATING}.client={{concurrency: {CONCURRENCY}}}",
        f"{RATING}.server.python={server.python}",
        f"{RATING}.server.args={json.dumps(server.args)}",
        f"{RATING}.server.env={json.dumps(server.env)}",
    ]
    command = [sys.executable, "-m", "mmcorpus.pipelines.cli", "run", "loop_small", "--out", str(run)]
    command += ["--num-cpus=2", *(f"--set={setting}" for setting in settings)]

    def kept() -> list[str]:
        """The questions whose answers are kept, by their keys."""
        lines = [line for path in (run / "answers").rglob("*.jsonl") for line in path.read_bytes().splitlines()]
        return [json.loads(line)["key"] for line in lines if line.endswith(b"}")]

    process = subprocess.Popen(command, start_new_session=True)
    wait_until(lambda: len(kept()) >= 5, process, 600)
    kill(process, group=True)
    before = kept()
    subprocess.run(command, check=True, timeout=900)
    stages = storage.read_json(str(run / "run.json"))["stages"]
    assert {record["status"] for record in stages.values()} == {"done"}
    questions = Counter(kept())
    assert set(before) < questions.keys()
    assert max(questions.values()) == 1, "an answer was paid for twice"
    table = load_scores(
        str(run / "scores" / "pairs"), columns=["rating.image_text_matching", "rating.reason", "ppl.ppl"]
    )
    rows = table.to_pylist()
    rated = [row for row in rows if row["rating.image_text_matching"] is not None]
    assert len(rated) > 0.9 * len(rows), "held to numbers, the smallest model rates"
    assert all(0 <= row["rating.image_text_matching"] <= 100 for row in rated)
    assert {row["rating.reason"] for row in rows if row not in rated} <= {"no_caption"}

    recipe = load_recipe(str(run / "recipe.yaml"))
    assert {decision.action for decision in plan_run(recipe, str(run))} == {"keep"}, "the recipe kept is the recipe run"
    (found,) = reselected.section(str(run), [], 8)
    assert found["source"] == "again"
    assert sum(count for _, count in found["counts"]) > 20
    assert found["counts"][1][1] > 0, "the second selection drops some that the first kept"
    (clean, total, (kept_first, kept_second)), *others = found["truth"]
    assert clean == "clean"
    assert total >= kept_first > kept_second, "at most nine tenths are kept"
    assert all(one != two for _, _, (one, two) in others), "what both keep as many of is left out"
    assert sum(row[2][1] for row in found["truth"]) <= found["kept"][1]
    first, second = found["models"]
    assert (first["name"], first["steps"], second["name"], second["steps"]) == ("first", 4, "second", 4)
    assert first["loss"] != second["loss"]
    assert 0.9 < first["positions"] / second["positions"] < 1.1, "compared at equal positions"
    assert all(
        "heldout_loss" in read_metrics(f"{run}/training/{name}/metrics.jsonl")[-1] for name in ("first", "second")
    )
    page = (run / "report.html").read_text()
    for shown in ("again: pairs once more", "kept by pairs alone", "<td>first</td><td>first</td>"):
        assert shown in page
