import dataclasses
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mmcorpus.curation.store import storage
from mmcorpus.training.checkpoint import list_checkpoints, read_tensors
from mmcorpus.training.clip import last_model, train_contrastive
from mmcorpus.training.loop import Trainer
from mmcorpus.training.metrics import read_metrics
from mmcorpus.training.signals import TrainingInterrupted
from tests.training.clip.conftest import TINY, MakePairs, picture, samples, tiny, write_source

ROOT = Path(__file__).parents[3]
MACHINES = ("seconds", "pairs_per_second", "data_wait", "memory")


def lines(out: Path | str) -> list[dict[str, Any]]:
    """The metrics without what a clock says."""
    found = read_metrics(storage.join(str(out), "metrics.jsonl"))
    return [{name: value for name, value in line.items() if name not in MACHINES} for line in found]


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int, error: type[BaseException]) -> None:
    real = Trainer._step

    def stops(self: Trainer, *args: Any) -> Any:
        if self.task.totals.step == step:
            raise error
        return real(self, *args)

    monkeypatch.setattr(Trainer, "_step", stops)


@pytest.mark.parametrize("threads", [0, 2])
def test_killed_and_resumed_it_is_the_same_to_the_bit(
    squares: MakePairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    sources, heldout = {"s": squares("s", 20)}, {"s": squares("h", 8, 100)}
    config = tiny(steps=7, checkpoint_every=3, heldout_every=2, num_workers=threads)
    whole = train_contrastive(config, sources, str(tmp_path / "whole"), heldout=heldout)
    with monkeypatch.context() as patch:
        stop_after(patch, 5, SystemError)
        with pytest.raises(SystemError):
            train_contrastive(config, sources, str(tmp_path / "cut"), heldout=heldout)
    assert [line["step"] for line in lines(tmp_path / "cut") if "loss" in line][-1] == 5
    resumed = train_contrastive(config, sources, str(tmp_path / "cut"), heldout=heldout)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    for name in ("model/open_clip_model", "optimizer", "rng"):
        cut, uncut = (read_tensors(str(Path(report.model).parent), name) for report in (resumed, whole))
        assert cut.keys() == uncut.keys()
        assert all(torch.equal(cut[key], uncut[key]) for key in cut)
    assert resumed.totals.heldout == whole.totals.heldout
    assert resumed.totals.pairs == 7 * 8


def test_a_finished_run_is_left_as_it_is(squares: MakePairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {"s": squares("s", 8)}
    first = train_contrastive(tiny(steps=2), sources, str(tmp_path / "o"))
    stop_after(monkeypatch, 2, SystemError)
    again = train_contrastive(tiny(steps=2, log_every=2), sources, str(tmp_path / "o"))
    assert again.model == first.model == last_model(str(tmp_path / "o"))


def test_a_folder_with_another_run_is_refused(squares: MakePairs, tmp_path: Path) -> None:
    sources, out = {"s": squares("s", 8)}, str(tmp_path / "o")
    train_contrastive(tiny(steps=1), sources, out)
    with pytest.raises(ValueError, match=r"optimizer\.learning_rate 0\.003 → 0\.004"):
        train_contrastive(tiny(steps=1, learning_rate=4e-3), sources, out)
    with pytest.raises(ValueError, match=r"model \{.*'embed_dim': 32.*\} → 'ViT-B-32'"):
        train_contrastive(tiny(steps=1, model="ViT-B-32"), sources, out)
    with pytest.raises(ValueError, match="run over other pairs"):
        train_contrastive(tiny(steps=1), {"s": squares("t", 9)}, out)


def test_ctrl_c_leaves_a_checkpoint(squares: MakePairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources, out = {"s": squares("s", 8)}, str(tmp_path / "o")
    real = Trainer._step

    def asked(self: Trainer, batches: Any, interrupts: Any) -> Any:
        interrupts.asked = self.task.totals.step == 1
        return real(self, batches, interrupts)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", asked)
        with pytest.raises(TrainingInterrupted, match="after step 2 of 4"):
            train_contrastive(tiny(steps=4), sources, out)
    assert [os.path.basename(path) for path in list_checkpoints(f"{out}/checkpoints")] == ["step-00000002"]
    assert train_contrastive(tiny(steps=4), sources, out).totals.step == 4


def test_a_broken_image_costs_its_pair(tmp_path: Path) -> None:
    made = samples(8)
    broken = dataclasses.replace(made[3].images[0], data=picture("red", 3)[:90])
    made[3] = dataclasses.replace(made[3], images=(broken,))
    report = train_contrastive(tiny(steps=2), {"s": write_source(tmp_path / "s", [made])}, str(tmp_path / "o"))
    assert report.totals.broken_images == 2
    assert report.totals.pairs == 16
    assert report.totals.loss is not None


def test_old_checkpoints_go_and_the_temperature_is_kept_below_its_bound(squares: MakePairs, tmp_path: Path) -> None:
    config = tiny(steps=5, checkpoint_every=1, keep_last=2, largest_scale=10.0)
    train_contrastive(config, {"s": squares("s", 8)}, str(tmp_path / "o"))
    names = [os.path.basename(path) for path in list_checkpoints(str(tmp_path / "o" / "checkpoints"))]
    assert names == ["step-00000004", "step-00000005"]
    assert all(line["scale"] <= 10.001 for line in lines(tmp_path / "o"))


def test_too_few_pairs_are_refused_before_anything_is_written(squares: MakePairs, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.batch_size is 8, but there are 7 pairs.*lower batch_size"):
        train_contrastive(tiny(), {"s": squares("s", 7)}, str(tmp_path / "o"))
    assert not (tmp_path / "o" / "checkpoints").exists()


def test_what_is_learned_from_cannot_test(squares: MakePairs, tmp_path: Path) -> None:
    sources, heldout = {"s": squares("s", 12)}, {"h": squares("h", 12, 10)}
    with pytest.raises(ValueError, match="2 of 12 held-out pairs are learned from too"):
        train_contrastive(tiny(), sources, str(tmp_path / "o"), heldout=heldout)
    assert not (tmp_path / "o" / "checkpoints").exists()


def test_models_that_are_not_there_or_learn_otherwise_are_refused(squares: MakePairs, tmp_path: Path) -> None:
    sources = {"s": squares("s", 8)}
    with pytest.raises(ValueError, match="ViT-B-33"):
        train_contrastive(tiny(model="ViT-B-33"), sources, str(tmp_path / "a"))
    with pytest.raises(ValueError, match="no-such-tag"):
        train_contrastive(tiny(model="ViT-B-32", pretrained="no-such-tag"), sources, str(tmp_path / "b"))


def test_it_learns_to_tell_pictures_apart(squares: MakePairs, tmp_path: Path) -> None:
    """Eight kinds of picture: a guess finds a right caption first in one of eight cases."""
    config = tiny(steps=60, learning_rate=1e-3, warmup=0.1)
    report = train_contrastive(
        config, {"s": squares("s", 64)}, str(tmp_path / "o"), heldout={"s": squares("h", 40, 1000)}
    )
    found = report.totals.heldout
    assert found["image_to_text_r1"] > 0.6
    assert found["text_to_image_r1"] > 0.6
    assert report.heldout_pairs == 40


def test_training_goes_on_from_a_models_weights(squares: MakePairs, tmp_path: Path) -> None:
    sources = {"s": squares("s", 8)}
    first = train_contrastive(tiny(steps=2), sources, str(tmp_path / "a"))
    config = tiny(steps=1, learning_rate=1e-12, model=f"local-dir:{first.model}", seed=5)
    second = train_contrastive(config, sources, str(tmp_path / "b"))
    before, after = (
        read_tensors(str(Path(report.model).parent), "model/open_clip_model") for report in (first, second)
    )
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_on_object_storage(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sources, out = {"s": write_source(f"{s3_root}/s", [samples(8)])}, f"{s3_root}/run"
    config = tiny(steps=4, checkpoint_every=2)
    with monkeypatch.context() as patch:
        stop_after(patch, 3, SystemError)
        with pytest.raises(SystemError):
            train_contrastive(config, sources, out)
    report = train_contrastive(config, sources, out)
    assert report.totals.step == 4
    assert [line["step"] for line in lines(out)] == [1, 2, 3, 4]
    assert storage.list_names(report.model) == ["open_clip_config.json", "open_clip_model.safetensors"]


_SCRIPT = """
import sys
import torch
torch.set_num_threads(1)
from tests.training.clip.conftest import tiny
from mmcorpus.training.clip import PairSource, train_contrastive
source, tested = (PairSource(shards=path, selection=path + ".selection.txt") for path in sys.argv[1:3])
train_contrastive(tiny(steps=4, heldout_every=2), {"s": source}, sys.argv[3], heldout={"s": tested}, device="cpu")
"""


@pytest.mark.slow
def test_two_devices_learn_what_one_does(tmp_path: Path) -> None:
    made = samples(16)
    cut = dataclasses.replace(made[5].images[0], data=made[5].images[0].data[:90])
    made[5] = dataclasses.replace(made[5], images=(cut,))  # one device has a pair fewer than the other
    source, tested = write_source(tmp_path / "s", [made]), write_source(tmp_path / "h", [samples(8, 100)])
    script = tmp_path / "two.py"
    script.write_text(_SCRIPT)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    places = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])  # `tests` is no installed package
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), source.shards, tested.shards, str(tmp_path / "two")]
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, **shared, "PYTHONPATH": places, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait(240) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    train_contrastive(tiny(steps=4, heldout_every=2), {"s": source}, str(tmp_path / "one"), heldout={"s": tested})
    for one, two in zip(lines(tmp_path / "one"), lines(tmp_path / "two"), strict=True):
        assert one == pytest.approx(two, rel=1e-4), "two devices must learn from the whole batch"


def test_the_small_model_is_what_its_config_says() -> None:
    import open_clip

    model = open_clip.model.CLIP(**TINY.model_cfg())
    assert model.visual.image_size == (16, 16)
    assert model.context_length == 12
    assert model.text_projection.shape == (32, 32)
