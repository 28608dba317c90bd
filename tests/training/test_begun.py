"""A folder holds one run: it is not gone on with from another model, nor from other weights."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mmcorpus.training import StageConfig, train
from mmcorpus.training.begun import begun_from
from mmcorpus.training.checkpoint import list_checkpoints, read_state
from mmcorpus.training.config import ModelConfig, RandomLanguage
from mmcorpus.training.evaluation import Checkpoint


@pytest.fixture(scope="module")
def runs(
    packs: str, tiny: ModelConfig, stage: Callable[..., StageConfig], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Two runs from the same model, and one that goes on from the first's checkpoint."""
    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("one", 0), ("two", 1)):
        train(stage(steps=1, seed=seed), packs, str(folder / name), model=tiny)
    train(stage(steps=2, checkpoint_every=1), packs, str(folder / "tuned"), init=str(folder / "one"))
    return folder


@pytest.fixture
def folder(runs: Path, tmp_path: Path) -> Path:
    """The same, to be spoilt."""
    return Path(shutil.copytree(runs, tmp_path / "runs"))


def test_a_run_is_gone_on_with_as_it_was_begun(
    folder: Path, packs: str, tiny: ModelConfig, stage: Callable[..., StageConfig]
) -> None:
    other = dataclasses.replace(tiny, language=dataclasses.replace(RandomLanguage(), layers=1))
    with pytest.raises(
        ValueError, match=r"one holds a run .*model\.language RandomLanguage\(.* → .*give another folder"
    ):
        train(stage(steps=1), packs, str(folder / "one"), model=other)
    with pytest.raises(ValueError, match=r"a new model → init .*two at step 1"):
        train(stage(steps=1), packs, str(folder / "one"), init=str(folder / "two"))
    settings, out = stage(steps=2, checkpoint_every=1), str(folder / "tuned")
    with pytest.raises(ValueError, match=r"init .*one at step 1 → init .*two at step 1"):
        train(settings, packs, out, init=str(folder / "two"))
    with pytest.raises(ValueError, match=r"init .*one at step 1 → a new model"):
        train(settings, packs, out, model=tiny)
    first, last = list_checkpoints(f"{out}/checkpoints")
    Path(last, "state.json").unlink()
    begun = folder / "one/checkpoints/step-00000001/state.json"
    state = json.loads(begun.read_text())  # as when its evaluation was made late
    state["totals"] |= {"heldout_loss": 1.0, "seconds": 9.0}
    begun.write_text(json.dumps(state))
    moved = folder.rename(folder.with_name("moved"))
    train(settings, packs, f"{moved}/tuned", init=f"{moved}/one/checkpoints/step-00000001")
    states = [read_state(f"{moved}/tuned/checkpoints/{Path(path).name}")["begun"] for path in (first, last)]
    assert states[0] == states[1], "it stays what it was when the run began"


def test_what_is_gone_is_known_by_its_name(folder: Path, tiny: ModelConfig) -> None:
    (resumed,) = list_checkpoints(str(folder / "tuned" / "checkpoints"))[-1:]
    state, gone = read_state(resumed), str(folder / "one")
    shutil.rmtree(gone)
    state["begun"]["init"] = gone
    Path(resumed, "state.json").write_text(json.dumps(state))
    assert begun_from("out", resumed, None, gone) == state["begun"]
    with pytest.raises(ValueError, match="→ init elsewhere"):
        begun_from("out", resumed, None, "elsewhere")
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        begun_from("out", None, None, gone)
    del state["begun"]
    Path(resumed, "state.json").write_text(json.dumps(state))
    assert begun_from("out", resumed, tiny, None)["model"]["layout"] == 4, "earlier checkpoints do not know it"


def test_answers_are_of_the_prompt_the_tokenizer_and_the_layout_too(folder: Path) -> None:
    """The same weights answer otherwise where any of these differs."""
    path = Path(list_checkpoints(str(folder / "one" / "checkpoints"))[0])

    def identity() -> str:
        return json.dumps(Checkpoint(str(path)).identity(), sort_keys=True)

    state, seen = json.loads((path / "state.json").read_text()), {identity()}
    layout = {**state["model"], "layout": 16}
    for changes in ({"kind": "sft"}, {"kind": "sft", "chat_template": "{{ messages }}"}, {"model": layout}):
        (path / "state.json").write_text(json.dumps({**state, **changes}))
        seen.add(identity())
    words = next((path / "tokenizer").glob("tokenizer.json"))
    words.write_text(words.read_text() + "\n")
    assert len(seen | {identity()}) == 5
    (path / "state.json").write_text(json.dumps({**state, "totals": {}}))
    before = identity()
    (path / "optimizer.safetensors").write_bytes(b"")
    assert identity() == before, "what has no part in an answer"
