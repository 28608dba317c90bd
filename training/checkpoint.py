"""Checkpoints: a folder that is whole or not there, from which a run goes on to the bit.

`checkpoints/step-00000100/` holds `optimizer.safetensors` (AdamW's moments by parameter name), `rng.safetensors`
(generators' states), `state.json` (step, counts, configs) and the model as its task keeps it: for a vision-language
model `model.safetensors` (all that is kept, fp32), `tokenizer/`, and the encoder's and decoder's own Hugging Face
configs. There is no pickle in it. A local folder is written beside its place and renamed; a remote one is complete once
`state.json` is there, which is uploaded last. The latest checkpoint is found by listing, so no pointer can be stale.

The learning rate and the data's cursor are functions of the step and need no file of their own.
"""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from mmcorpus.curation.store import storage
from mmcorpus.packing.chat import CHATML
from mmcorpus.training.config import TrainingConfig, model_config_from_dict
from mmcorpus.training.model import VisionLanguageModel, build_model
from mmcorpus.training.settings import Settings
from mmcorpus.training.vision import empty_vision

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

STATE: Final = "state.json"
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


def gather(tensors: Mapping[str, torch.Tensor], *, keep: bool) -> dict[str, torch.Tensor]:
    """The tensors whole, contiguous and on the CPU, if this process is to `keep` them; else empty.

    Every process must call it, with the same names in the same order, since sharded tensors are gathered.
    """
    whole = {}
    for name, tensor in tensors.items():
        full: torch.Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
        if keep:
            whole[name] = full.detach().cpu().contiguous()
    return whole


def optimizer_tensors(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's state as `moment.parameter` → tensor."""
    return {
        f"{key}.{name}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(model: torch.nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
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
        state[index]["step"] = tensors[f"step.{names[parameter]}"]
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _like(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """`value` placed as `parameter` is: on its device, and sharded if it is."""
    if not hasattr(parameter, "device_mesh"):
        return value
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = parameter
    return distribute_tensor(value.to(parameter.device), sharded.device_mesh, sharded.placements)


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


def save_checkpoint(
    root: str,
    state: dict[str, Any],
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    weights: Mapping[str, torch.Tensor],
    save_model: Callable[[str, dict[str, torch.Tensor]], None],
    *,
    keep_last: int,
    write: bool,
    device: torch.device,
) -> str:
    """Write `root/step-…` atomically and remove the oldest beyond `keep_last`; returns its path.

    Every process calls it, since sharded tensors are gathered; only the one with `write` touches files. `save_model`
    writes the model's files into a local folder from its whole weights.
    """
    from safetensors.torch import save_file

    path = storage.join(root, f"step-{state['step']:08d}")
    whole = gather(weights, keep=write)
    moments = gather(optimizer_tensors(model, optimizer), keep=write)
    if not write:
        return path
    with new_folder(path) as folder:
        save_model(folder, whole)
        save_file(moments, os.path.join(folder, "optimizer.safetensors"))
        save_file(rng_tensors(device), os.path.join(folder, "rng.safetensors"))
        storage.write_json(os.path.join(folder, STATE), state)
    remove_old(root, keep_last)
    return path


def remove_old(root: str, keep_last: int) -> None:
    """Remove the checkpoints under `root` before the last `keep_last`, and what a kill left of removing some before."""
    complete = list_checkpoints(root)
    for name in sorted(filter(_FOLDER.match, storage.list_names(root))):
        folder = storage.join(root, name)
        if folder in complete[-keep_last:]:
            break
        storage.remove(storage.join(folder, STATE))  # first: without it, what is left is no checkpoint
        storage.remove(folder)


@contextlib.contextmanager
def new_folder(path: str) -> Iterator[str]:
    """A local folder that becomes `path` when the block ends; nothing is there if it raises."""
    if storage.is_local(path):
        _, inner = storage.filesystem(path)
        temporary = inner + storage.TEMPORARY_SUFFIX
        storage.remove(temporary)
        with storage.naming_full_disk(inner):
            os.makedirs(temporary)
            try:
                yield temporary
                storage.remove(inner)
                os.replace(temporary, inner)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
        return
    with storage.naming_full_disk(tempfile.gettempdir()), tempfile.TemporaryDirectory() as temporary:
        yield temporary
        names = [str(file.relative_to(temporary)) for file in Path(temporary).rglob("*") if file.is_file()]
        for name in sorted(names, key=lambda name: (name == STATE, name)):
            storage.upload(os.path.join(temporary, name), storage.join(path, name))


def read_state(path: str) -> dict[str, Any]:
    """A checkpoint's `state.json`."""
    return storage.read_json(storage.join(path, STATE))


def chat_template_of(state: Mapping[str, Any]) -> str | None:
    """What the conversations of a checkpoint were written in, by its state; None for a pretrained one.

    Those from before it was recorded were all trained with ChatML.
    """
    return (state.get("chat_template") or CHATML) if state["kind"] == "sft" else None


def read_tensors(path: str, name: str) -> dict[str, torch.Tensor]:
    """The tensors of `model`, `optimizer` or `rng`. Raises Damaged, with the file, if they cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    file = storage.join(path, f"{name}.safetensors")
    data = storage.read_bytes(file)
    with storage.reading(file, "part of a checkpoint"):
        try:
            return load(data)
        except SafetensorError as error:
            raise ValueError(error) from error


def save_model(
    folder: str, model: VisionLanguageModel, tokenizer: "PreTrainedTokenizerFast", weights: dict[str, torch.Tensor]
) -> None:
    """Write a vision-language model into a checkpoint's local folder; the weights are whole and on the CPU."""
    from safetensors.torch import save_file

    save_file(weights, os.path.join(folder, "model.safetensors"))
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
    load_weights(model, read_tensors(path, "model"))
    return model.eval(), tokenizer, state


def load_weights(model: VisionLanguageModel, tensors: dict[str, torch.Tensor]) -> None:
    """Copy a checkpoint's tensors into a model; raises ValueError naming what does not fit."""
    parameters = model.kept()
    wrong = sorted(parameters.keys() ^ tensors.keys())
    wrong += [name for name in parameters.keys() & tensors.keys() if parameters[name].shape != tensors[name].shape]
    if wrong:
        raise ValueError(f"the checkpoint is of another model: {', '.join(wrong[:5])} differ")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
