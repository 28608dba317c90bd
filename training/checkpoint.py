"""Checkpoints: a folder that is whole or not there, from which a run goes on to the bit.

`checkpoints/step-00000100/` holds `optimizer.safetensors` (AdamW's moments by parameter name), `rng.safetensors`
(generators' states), `state.json` (step, counts, configs) and the model as its task keeps it: for a vision-language
model `model.safetensors` (all that is kept, fp32), `tokenizer/`, and the encoder's and decoder's own Hugging Face
configs. There is no pickle in it. Of a model that FSDP shards, each process writes its part of model and optimiser, as
`model-00001-of-00002.safetensors` (`sharded.py`, by DCP); all else is written by the first process, as one file, whose
bytes are the same from run to run. `open_tensors` reads either, whatever the number of processes now. A folder appears
whole or not at all (`folder.py`). The latest checkpoint is found by listing, so no pointer can be stale.

The learning rate and the data's cursor are functions of the step and need no file of their own.
"""

import dataclasses
import errno
import os
import posixpath
import re
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import torch

from mmcorpus.curation.store import storage
from mmcorpus.packing.chat import CHATML
from mmcorpus.training.config import TrainingConfig, model_config_from_dict
from mmcorpus.training.folder import STATE, new_folder, remove_folder, shard_name
from mmcorpus.training.model import VisionLanguageModel, build_model
from mmcorpus.training.settings import Settings
from mmcorpus.training.tensors import Loaded, Tensors, planned, read_file, read_shards, write_file
from mmcorpus.training.vision import empty_vision

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_PART: Final = "part of a checkpoint"
OTHER_FOLDER: Final = "give another folder, or move this one away to begin anew"
_FOLDER = re.compile(r"step-(\d{8})\Z")


def list_checkpoints(root: str) -> list[str]:
    """The complete checkpoints under `root` (a `checkpoints` folder), oldest first, as paths."""
    folders = [storage.join(root, name) for name in storage.list_names(root) if _FOLDER.match(name)]
    return [folder for folder in folders if storage.exists(storage.join(folder, STATE))]


def resolve_checkpoint(path: str) -> str:
    """The checkpoint that a path names: itself, or the latest in a run's or a `checkpoints` folder."""
    if storage.exists(storage.join(path, STATE)):
        return path
    for root in (path, storage.join(path, "checkpoints")):
        found = list_checkpoints(root)
        if found:
            return found[-1]
    raise FileNotFoundError(
        f"no checkpoint at {path}: give a folder such as …/checkpoints/step-00000100, or the training folder above it"
    )


def resumable(out: str, config: TrainingConfig, data: Mapping[str, Any]) -> str | None:
    """The latest checkpoint of the run in the folder `out`; None if it has none.

    Raises ValueError, naming what differs, if it is a run over other data or with other settings. A setting that the
    checkpoint does not know is one that came later, and had its default.
    """
    found = list_checkpoints(storage.join(out, "checkpoints"))
    if not found:
        return None
    before = read_state(found[-1])["identity"]
    for name in data:
        if before.get(name) != data[name]:
            raise ValueError(f"{out} holds a run over other {name}; {OTHER_FOLDER}")
    new, old = config.result_settings(), config.translate(before["stage"])
    changed = [f"{name} {old[name]!r} → {new[name]!r}" for name in new if old[name] != new[name]]
    if changed:
        raise ValueError(f"{out} holds a run with other settings ({', '.join(changed)}); {OTHER_FOLDER}")
    return found[-1]


def optimizer_tensors(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's state as `moment.parameter` → tensor."""
    return {
        f"{key}.{name}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]
) -> None:
    """Restore what `optimizer_tensors` gave; sharded parameters take their shard."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for index, parameter in enumerate(parameters):
        if f"step.{names[parameter]}" not in tensors:  # it never had a gradient
            continue
        state[index] = {
            key: _like(tensors[f"{key}.{names[parameter]}"], parameter) for key in ("exp_avg", "exp_avg_sq")
        }
        state[index]["step"] = tensors[f"step.{names[parameter]}"].clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _like(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """A copy of `value` placed as `parameter` is: on its device, and of a sharded one this process's shard alone."""
    if not hasattr(parameter, "device_mesh"):
        return value.to(parameter.device, copy=True)
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = parameter
    # Every process has read the value: nothing is sent. The clone lets the rest of it go.
    return distribute_tensor(value, sharded.device_mesh, sharded.placements, src_data_rank=None).clone()


def rng_tensors(device: torch.device) -> dict[str, torch.Tensor]:
    """The states of the generators that training may draw from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_rng(tensors: dict[str, torch.Tensor], device: torch.device) -> None:
    """Restore what `rng_tensors` gave."""
    torch.set_rng_state(tensors["cpu"])
    if device.type == "cuda" and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"], device)


@dataclasses.dataclass(frozen=True, eq=False)
class Saving:
    """A checkpoint that is there, or is being written."""

    path: str
    _wait: Callable[[], object] = lambda: None

    def wait(self) -> str:
        """Its path, once it is there. Raises what writing it raised."""
        self._wait()
        return self.path


def begin_checkpoint(
    root: str,
    state: dict[str, Any],
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    weights: Mapping[str, torch.Tensor],
    save_model: Callable[[str, Mapping[str, torch.Tensor] | None], None],
    *,
    keep_last: int,
    write: bool,
    device: torch.device,
    background: bool,
) -> Saving:
    """Write `root/step-…` atomically and remove the oldest beyond `keep_last`; with `background` while the caller goes
    on, once all tensors are copied to the host's memory. Wait for it before the next.

    Every process calls it; of what is not sharded, only the one with `write` writes. `save_model` writes the model's
    files into a local folder: the weights, which are whole but may lie on the device, and what else a model is; None
    for weights that are sharded, of which each process has written its part.
    """
    path = storage.join(root, f"step-{state['step']:08d}")
    moments, generators = optimizer_tensors(model, optimizer), rng_tensors(device)

    def write_rest(folder: str, whole: Mapping[str, torch.Tensor] | None) -> None:
        save_model(folder, whole)
        write_tensors(folder, "rng", generators)
        storage.write_json(os.path.join(folder, STATE), state)

    if any(hasattr(tensor, "device_mesh") for tensor in weights.values()):
        from mmcorpus.training import sharded

        wait = sharded.save(
            path, {"model": weights, "optimizer": moments}, lambda folder: write_rest(folder, None),
            then=lambda: remove_old(root, keep_last), background=background,
        )  # fmt: skip
        return Saving(path, wait)
    if not write:
        return Saving(path)
    if background:
        weights, moments = _copied(weights), _copied(moments)

    def work() -> None:
        with new_folder(path) as folder:
            write_tensors(folder, "optimizer", moments)
            write_rest(folder, weights)
        remove_old(root, keep_last)

    if not background:
        work()
        return Saving(path)
    with_one = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
    future = with_one.submit(work)
    with_one.shutdown(wait=False)
    return Saving(path, future.result)


def _copied(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def remove_old(root: str, keep_last: int) -> None:
    """Remove the checkpoints under `root` before the last `keep_last`, and what a kill left of removing some before."""
    complete = list_checkpoints(root)
    for name in sorted(filter(_FOLDER.match, storage.list_names(root))):
        folder = storage.join(root, name)
        if folder in complete[-keep_last:]:
            break
        remove_folder(folder)


def read_state(path: str) -> dict[str, Any]:
    """A checkpoint's `state.json`."""
    return storage.read_json(storage.join(path, STATE))


def chat_template_of(state: Mapping[str, Any]) -> str | None:
    """What the conversations of a checkpoint were written in, by its state; None for a pretrained one.

    Those from before it was recorded were all trained with ChatML.
    """
    return (state.get("chat_template") or CHATML) if state["kind"] == "sft" else None


def open_tensors(path: str, name: str) -> Tensors:
    """The tensors of `model`, `optimizer` or `rng` in a checkpoint, whole, each read when it is asked for.

    They lie in one file, or in one of each process that trained a sharded model. A remote checkpoint's are fetched
    first, to the disk. Raises Damaged, with the file, for one that cannot be read or is missing among the others.
    """
    files = _files(path, name)
    if storage.is_local(path):
        return _opened([storage.filesystem(file)[1] for file in files])
    with storage.naming_full_disk(tempfile.gettempdir()), tempfile.TemporaryDirectory() as folder:
        fs, _ = storage.filesystem(path)
        copies = [os.path.join(folder, posixpath.basename(file)) for file in files]
        for file, copy in zip(files, copies, strict=True):
            fs.get_file(storage.filesystem(file)[1], copy)
        try:
            return _opened(copies)  # mapped: what is open outlives its name
        except storage.Damaged as error:
            raise storage.Damaged(files[copies.index(error.path)], error.kind, error.why) from error


def _files(path: str, name: str) -> list[str]:
    """Where a checkpoint's tensors lie: the one file, or the shards."""
    whole = storage.join(path, f"{name}.safetensors")
    shard = re.compile(rf"{re.escape(name)}-\d{{5}}-of-(\d{{5}})\.safetensors")
    counts = {match[1] for other in storage.list_names(path) if (match := shard.fullmatch(other))}
    if storage.exists(whole):
        return [whole]
    if not counts:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), whole)
    ranks = int(max(counts))
    files = [storage.join(path, shard_name(name, rank, ranks)) for rank in range(ranks)]
    for file in files:
        if not storage.exists(file):
            raise storage.Damaged(file, _PART, "the file is missing")
    return files


def _opened(files: list[str]) -> Tensors:
    return read_file(files[0], _PART) if len(files) == 1 else read_shards(files, _PART)


def read_tensors(path: str, name: str) -> dict[str, torch.Tensor]:
    """The tensors of `open_tensors`, all of them, in memory."""
    return {name: read().clone() for name, read in open_tensors(path, name).items()}


def write_tensors(folder: str, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write whole tensors, on whatever device, into a checkpoint's local folder, one after the other."""
    write_file(os.path.join(folder, f"{name}.safetensors"), planned(tensors), None)


def save_model(
    folder: str,
    model: VisionLanguageModel,
    tokenizer: "PreTrainedTokenizerFast",
    weights: Mapping[str, torch.Tensor] | None,
) -> None:
    """Write a vision-language model into a checkpoint's local folder; whole weights, or None if they are there."""
    if weights is not None:
        write_tensors(folder, "model", weights)
    tokenizer.save_pretrained(os.path.join(folder, "tokenizer"))
    towers = zip(_vision_folders(len(model.vision.names)), model.vision.towers(), strict=True)
    parts: dict[str, Any] = {**{name: tower for name, (_, tower) in towers}, "language": model.language}
    for name, part in parts.items():
        part.config.save_pretrained(os.path.join(folder, name))


def _vision_folders(count: int) -> list[str]:
    """Where the encoders' configs stand in a checkpoint."""
    return ["vision", *(f"vision_{number}" for number in range(1, count))]


def load_model(path: str) -> tuple[VisionLanguageModel, "PreTrainedTokenizerFast", dict[str, Any]]:
    """The model, tokenizer and state of a checkpoint; it needs nothing but the checkpoint's folder."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    from mmcorpus.packing.tokens import load_tokenizer

    path = resolve_checkpoint(path)
    state = read_state(path)
    tokenizer = load_tokenizer(storage.join(path, "tokenizer"))
    config = model_config_from_dict(state["model"])
    if all(isinstance(part, Settings) for part in (config.language, *(one.source for one in config.encoders))):
        model = build_model(config, len(tokenizer))
    else:
        folders = _vision_folders(len(config.encoders))
        *visions, decoder = (
            storage.read_json(storage.join(path, part, "config.json")) for part in (*folders, "language")
        )
        kind = CONFIG_MAPPING[decoder["model_type"]]
        language = AutoModelForCausalLM.from_config(kind.from_dict(decoder), attn_implementation="sdpa")
        model = VisionLanguageModel(config, empty_vision(config.encoders, visions), language)
    load_weights(model, Loaded(open_tensors(path, "model")))
    return model.eval(), tokenizer, state


def load_weights(model: VisionLanguageModel, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy a checkpoint's tensors into a model; raises ValueError naming what does not fit."""
    parameters = model.kept()
    wrong = sorted(parameters.keys() ^ tensors.keys())
    with torch.no_grad():
        for name in sorted(parameters.keys() & tensors.keys()):
            parameter, tensor = parameters[name], tensors[name]
            if parameter.shape == tensor.shape:
                parameter.copy_(tensor)
            else:
                wrong.append(name)
    if wrong:
        raise ValueError(f"the checkpoint is of another model: {', '.join(wrong[:5])} differ")
