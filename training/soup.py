"""Model soups: one model whose weights are the mean of several that were trained from the same one.

Source: POINTS (Liu et al. 2024, arXiv 2409.04828), model soups: the candidates are tuned on the same base set and one
more dataset each; `maximum` averages the best by an evaluation, `average` all, `greedy` adds one after the other, the
best first, where the evaluation does not fall (59.0 → 61.0, 61.2, 61.8 there). After Wortsman et al. 2022, arXiv
2203.05482.

Weights are read, summed in fp32 and written tensor by tensor, so that a soup of any number of models needs the memory
of its largest tensor a few times over.
"""

import dataclasses
import functools
import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch

from mmcorpus.curation.engine.made_from import digest, file_digest
from mmcorpus.curation.store import storage
from mmcorpus.training.checkpoint import open_tensors, read_state, resolve_checkpoint
from mmcorpus.training.config import ModelConfig, model_config_from_dict
from mmcorpus.training.folder import STATE, new_folder
from mmcorpus.training.tensors import Planned, Read, Tensors, in_order, write_file

Method = Literal["average", "maximum", "greedy"]
Score = Callable[[str], float]
"""A checkpoint's worth; the higher the better."""

_SCORES: Final = "scores.json"
_TRIAL: Final = "trial"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SoupReport:
    """A soup that was made."""

    checkpoint: str
    members: list[str]
    """The checkpoints that it is the mean of, in the order in which they came in."""
    scores: dict[str, float]
    """Of each candidate by itself; empty for `average`, which asks for none."""
    score: float | None
    """Of the soup; None for `average`."""


def soup(
    checkpoints: Sequence[str],
    out: str,
    *,
    method: Method = "average",
    top: int | None = None,
    score: Score | None = None,
    scored_by: str = "",
) -> SoupReport:
    """Make a checkpoint of the mean of others, in the folder `out`.

    Args:
        checkpoints: two or more, or their training folders, of the same model and tokenizer.
        out: gets the soup, whole or not at all; beside it, in `OUT.trials`, scores are kept, so that a run that was
            stopped asks for none twice.
        method: see the module.
        top: how many `maximum` takes; None for half of them.
        score: judges a checkpoint; needed by `maximum` and `greedy`.
        scored_by: names the score, so that another one's are not taken for it.

    Raises:
        ValueError: too few checkpoints, models that differ (named, and by what), a method without its score, something
            at `out` that is no earlier soup, or is one of `checkpoints`.
        FileNotFoundError: there is no checkpoint at a path.
    """
    paths = [resolve_checkpoint(path) for path in checkpoints]
    if len(set(paths)) < 2:
        raise ValueError(f"a soup is made of two checkpoints or more, and there are {len(set(paths))}")
    if storage.list_names(out) and (_place(out) in map(_place, paths) or not _is_soup(out)):
        raise ValueError(f"{out} is not empty, and no earlier soup to be replaced; give another folder, or remove it")
    if len(set(paths)) < len(paths):
        raise ValueError(f"{next(path for path in paths if paths.count(path) > 1)} is named twice; name each once")
    if method == "average":
        if score is not None or top is not None:
            raise ValueError("average takes all checkpoints and asks for no score; take maximum or greedy")
        _write(paths, out, method)
        return SoupReport(checkpoint=out, members=paths, scores={}, score=None)
    if score is None:
        raise ValueError(f"{method} needs a score: say which questions judge the models")
    if top is not None and not (method == "maximum" and 1 <= top <= len(paths)):
        raise ValueError(f"top is {top}; it is the number of checkpoints that maximum takes, 1 to {len(paths)}")
    _open_alike(paths)
    kept = _Scores(f"{out.rstrip('/')}.trials", score, scored_by)
    scores = {path: kept.of([path]) for path in paths}
    ranked = sorted(paths, key=lambda path: -scores[path])  # of equal ones the first named
    if method == "maximum":
        members = ranked[: top or max(2, len(paths) // 2)]
        best = kept.of(members)
    else:
        members, best = [ranked[0]], scores[ranked[0]]
        for path in ranked[1:]:
            found = kept.of([*members, path])
            _log.info("greedy soup: %d and %s: %.4f against %.4f", len(members), path, found, best)
            if found >= best:
                members, best = [*members, path], found
    _write(members, out, method, {"scores": scores, "score": best})
    storage.remove(storage.join(kept.folder, _TRIAL))
    return SoupReport(checkpoint=out, members=members, scores=scores, score=best)


def _is_soup(path: str) -> bool:
    return storage.exists(storage.join(path, STATE)) and "soup" in read_state(path)


def _place(path: str) -> str:
    """One name for all names of a folder."""
    return storage.whole(os.path.realpath(storage.filesystem(path)[1]) if storage.is_local(path) else path.rstrip("/"))


class _Scores:
    """What was asked of a mean of checkpoints is written down, and not asked again."""

    def __init__(self, folder: str, score: Score, scored_by: str) -> None:
        self.folder, self._score, self._scored_by = folder, score, scored_by
        self._path = storage.join(folder, _SCORES)
        self._known: dict[str, float] = storage.read_json(self._path) if storage.exists(self._path) else {}

    def of(self, members: Sequence[str]) -> float:
        """The score of the mean of these checkpoints."""
        name = digest([self._scored_by, sorted(map(_identity, members))])
        if name not in self._known:
            trial = members[0]
            if len(members) > 1:
                trial = storage.join(self.folder, _TRIAL)
                _write(members, trial, "trial")
            found = self._score(trial)
            if math.isnan(found):
                raise ValueError(f"{trial} has no score: none of the questions was answered")
            self._known[name] = found
            storage.write_json(self._path, self._known)
        return self._known[name]


@functools.lru_cache(maxsize=256)
def _identity(path: str) -> str:
    """A checkpoint's weights by their bytes."""
    weights = [name for name in storage.list_names(path) if name.startswith("model")]
    return digest({name: file_digest(storage.join(path, name)) for name in weights})


def _open_alike(paths: Sequence[str]) -> list[Tensors]:
    """The tensors of checkpoints of one model and tokenizer; raises ValueError where they differ, by path and name."""
    opened = [open_tensors(path, "model") for path in paths]
    states = [read_state(path) for path in paths]
    tokenizers = [_tokenizer(path) for path in paths]
    for path, tensors, state, tokenizer in zip(paths[1:], opened[1:], states[1:], tokenizers[1:], strict=True):
        why = ""
        if tensors.shapes != opened[0].shapes:
            names = sorted(
                name for name in {*tensors, *opened[0]} if tensors.shapes.get(name) != opened[0].shapes.get(name)
            )
            why = f"{names[0]} is {tensors.shapes.get(names[0])}, there {opened[0].shapes.get(names[0])}"
        elif differing := _differing(*(model_config_from_dict(one["model"]) for one in (state, states[0]))):
            why = f"its model's {', '.join(differing)} differ"
        elif tokenizer != tokenizers[0]:
            why = "its tokenizer differs"
        if why:
            raise ValueError(f"{path} is no model of the same kind as {paths[0]}: {why}")
    return opened


def _differing(one: ModelConfig, other: ModelConfig) -> list[str]:
    names = [field.name for field in dataclasses.fields(one)]
    return [name for name in names if getattr(one, name) != getattr(other, name)]


def _tokenizer(path: str) -> str:
    folder = storage.join(path, "tokenizer")
    return digest({name: file_digest(storage.join(folder, name)) for name in storage.list_names(folder)})


def _write(members: Sequence[str], out: str, method: str, more: dict[str, Any] | None = None) -> None:
    opened = _open_alike(members)
    first = members[0]
    planned = [
        Planned(name, opened[0].shapes[name], functools.partial(_mean, [tensors[name] for tensors in opened]))
        for name in opened[0]
    ]
    state = read_state(first)
    state["soup"] = {"method": method, "members": list(members), **(more or {})}
    with new_folder(out) as folder:
        write_file(os.path.join(folder, "model.safetensors"), in_order(planned), None)
        fs, root = storage.filesystem(first)
        for file in fs.find(root):
            name = str(file)[len(root.rstrip("/")) + 1 :]
            if "/" in name:  # the tokenizer, the configs of encoders and decoder
                os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
                fs.get_file(file, os.path.join(folder, name))
        storage.write_json(os.path.join(folder, STATE), state)


def _mean(readers: Sequence[Read]) -> torch.Tensor:
    total = readers[0]().to(torch.float32, copy=True)
    for read in readers[1:]:
        total += read()
    return total / len(readers)
