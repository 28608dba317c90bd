"""Soups are the formula's, greedy ones as POINTS describes them, and no score is asked for twice."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mmcorpus.packing.tokens import load_tokenizer
from mmcorpus.packing.vocabulary import train_tokenizer
from mmcorpus.training import Generator
from mmcorpus.training.checkpoint import read_state, read_tensors, write_tensors
from mmcorpus.training.soup import soup
from tests.training.exchange.test_export import write_random


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Four models of one kind, with other weights each; their last layer's bias-like norm holds their number."""
    root = tmp_path_factory.mktemp("soup")
    tokenizer = load_tokenizer(train_tokenizer(["a red square", "user assistant system"], 300, str(root / "tokenizer")))
    found = []
    for number in range(4):
        path = write_random(root / f"model{number}", "all patches", tokenizer)
        weights = read_tensors(path, "model")
        chance = torch.Generator().manual_seed(number)
        moved = {name: value + 0.1 * torch.randn(value.shape, generator=chance) for name, value in weights.items()}
        write_tensors(path, "model", moved)
        found.append(path)
    return found


def mean(paths: list[str]) -> dict[str, torch.Tensor]:
    each = [read_tensors(path, "model") for path in paths]
    return {name: torch.stack([one[name].double() for one in each]).mean(0).float() for name in each[0]}


def same(path: str, members: list[str]) -> bool:
    expected, found = mean(members), read_tensors(path, "model")
    assert expected.keys() == found.keys()
    return all(torch.allclose(found[name], value, atol=1e-6, rtol=1e-6) for name, value in expected.items())


def test_the_average_is_a_checkpoint(models: list[str], tmp_path: Path) -> None:
    out = str(tmp_path / "soup")
    report = soup(models[:3], out)
    assert report.members == models[:3]
    assert same(out, models[:3])
    assert not same(out, models[1:])
    assert read_state(out)["soup"] == {"method": "average", "members": models[:3]}
    assert isinstance(Generator.load(out, "cpu"), Generator)
    assert not os.path.exists(f"{out}.trials")


def scorer(values: dict[str, float], asked: list[str]) -> Callable[[str], float]:
    """A score of single models by their path, of means by their members'."""

    def score(path: str) -> float:
        state = read_state(path)
        members = state["soup"]["members"] if "soup" in state else [path]
        asked.append(" ".join(sorted(os.path.basename(member) for member in members)))
        return values[asked[-1]]

    return score


VALUES = {
    "model0": 50.0, "model1": 60.0, "model2": 58.0, "model3": 55.0,
    "model1 model2": 61.0, "model1 model2 model3": 60.9, "model0 model1 model2": 61.0, "model1 model3": 70.0,
}  # fmt: skip


def test_greedy_adds_what_makes_it_no_worse(models: list[str], tmp_path: Path) -> None:
    asked: list[str] = []
    out = str(tmp_path / "greedy")
    report = soup(models, out, method="greedy", score=scorer(VALUES, asked), scored_by="a")
    # 1, then 2 (61 >= 60), not 3 (60.9 < 61), then 0 (61 >= 61): model1 model3 is never tried
    assert [os.path.basename(member) for member in report.members] == ["model1", "model2", "model0"]
    assert report.score == 61.0
    assert same(out, [models[1], models[2], models[0]])
    assert asked == ["model0", "model1", "model2", "model3", "model1 model2", "model1 model2 model3",
                     "model0 model1 model2"]  # fmt: skip
    again = soup(models, out, method="greedy", score=scorer(VALUES, asked), scored_by="a")
    assert len(asked) == 7, "a score is asked for once"
    assert again == report
    soup(models[:2], out, method="maximum", top=1, score=scorer(VALUES, asked), scored_by="b")
    assert len(asked) == 9, "other questions, other scores"


def test_a_greedy_soup_that_was_stopped_goes_on(models: list[str], tmp_path: Path) -> None:
    asked: list[str] = []
    score = scorer(VALUES, asked)

    def stops(path: str) -> float:
        if len(asked) == 5:
            raise KeyboardInterrupt
        return score(path)

    out = str(tmp_path / "greedy")
    with pytest.raises(KeyboardInterrupt):
        soup(models, out, method="greedy", score=stops)
    assert not os.path.exists(out)
    assert soup(models, out, method="greedy", score=score).score == 61.0
    assert len(asked) == len(set(asked)) == 7


def test_maximum_takes_the_best(models: list[str], tmp_path: Path) -> None:
    out = str(tmp_path / "maximum")
    report = soup(models, out, method="maximum", top=2, score=scorer(VALUES, []))
    assert [os.path.basename(member) for member in report.members] == ["model1", "model2"]
    assert same(out, models[1:3])


def test_what_cannot_be_mixed_is_refused(models: list[str], tmp_path: Path) -> None:
    out = str(tmp_path / "soup")
    with pytest.raises(ValueError, match="two checkpoints or more"):
        soup([models[0]], out)
    with pytest.raises(ValueError, match="named twice"):
        soup([models[0], models[1], models[0]], out)
    with pytest.raises(ValueError, match="greedy needs a score"):
        soup(models, out, method="greedy")
    with pytest.raises(ValueError, match="top is 9"):
        soup(models, out, method="maximum", top=9, score=lambda path: 1.0)
    with pytest.raises(ValueError, match="none of the questions was answered"):
        soup(models, out, method="maximum", score=lambda path: float("nan"))
    tokenizer = load_tokenizer(train_tokenizer(["other words", "user assistant system"], 300, str(tmp_path / "t")))
    other = write_random(tmp_path / "other", "all patches", tokenizer)
    with pytest.raises(ValueError, match=r"other is no model of the same kind as .*model0: "):
        soup([models[0], other], out)
    assert not os.path.exists(out)


def test_what_else_is_at_its_place_is_left_alone(models: list[str], tmp_path: Path) -> None:
    """A training folder, one of the models, notes: none of them is taken for an earlier soup."""
    run = tmp_path / "run"
    member = run / "checkpoints" / "step-00000001"
    shutil.copytree(models[0], member)
    (run / "metrics.jsonl").write_text("{}")
    for out in (str(run), str(member), f"{member}/"):
        with pytest.raises(ValueError, match=r"is not empty.*another folder"):
            soup([str(run), models[1]], out)
    assert (run / "metrics.jsonl").exists()
    assert read_tensors(str(member), "model").keys() == read_tensors(models[0], "model").keys()
    out = str(tmp_path / "soup")
    soup(models[:2], out)
    with pytest.raises(ValueError, match=r"is not empty.*another folder"):
        soup([out, models[2]], out)
    soup(models[2:], out)  # an earlier soup gives way
    assert same(out, models[2:])
