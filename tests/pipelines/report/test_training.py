"""What the report draws of training."""

import json
from pathlib import Path

from mmcorpus.pipelines.report.training import training


def test_losses_by_source_and_by_tag_have_a_chart_each(tmp_path: Path) -> None:
    """With a curve for each name, also one that comes late; a stage without them has none."""
    lines = [
        {"step": 1, "loss": 2.0, "loss_by_source": {"web": 2.5, "books": 1.0}, "loss_by_tag": {"caption": 2.0}},
        {
            "step": 2,
            "loss": 1.5,
            "expert_load": {"1": [0.1, 0.7, 0.2], "3": [0.3, 0.3, 0.4]},
            "expert_entropy": {"1": 0.73, "3": 0.99},
            "loss_by_source": {"web": 2.0, "books": 0.5},
            "loss_by_tag": {"qa": 1.0},
        },
        {"step": 2, "heldout_loss": 1.7},
    ]
    for stage, told in (("sft", lines), ("pretrain", [{"step": 1, "loss": 3.0}])):
        (tmp_path / "training" / stage).mkdir(parents=True)
        text = "".join(json.dumps(line) + "\n" for line in told)
        (tmp_path / "training" / stage / "metrics.jsonl").write_text(text)
    found = training(str(tmp_path))
    assert found is not None
    labels = {chart["title"]: chart["labels"] for chart in found["charts"]}
    assert labels["sft: training loss by source"] == ["books", "web"]
    assert labels["sft: training loss by tag of its targets"] == ["caption", "qa"]
    assert labels["sft: evenness of the experts' load"] == ["mean of its layers", "least even layer"]
    assert [(row["layer"], row["shares"], row["least"]) for row in found["experts"]] == [
        ("1", "70.0% 20.0% 10.0%", 0.1), ("3", "40.0% 30.0% 30.0%", 0.3)
    ]  # fmt: skip
    assert not any(title.startswith("pretrain:") for title in labels)


def test_what_seeing_is_worth_leads(tmp_path: Path) -> None:
    for stage, lines in {
        "pretrain": [
            {"step": 1, "loss": 3.0},
            {"step": 2, "heldout_loss": 2.0, "heldout_loss_blank": 2.5},
            {"step": 4, "heldout_loss": 1.5, "heldout_loss_blank": 2.0},
        ],
        "sft": [{"step": 1, "loss": 1.0}],
    }.items():
        folder = tmp_path / "training" / stage
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = training(str(tmp_path))
    assert found is not None
    assert "After pretrain they cost 1.500 nats a token with their images, and 2.000 with grey ones" in found["lead"]
    assert "0.500 nats (25%) come from seeing" in found["lead"]
