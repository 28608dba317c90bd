"""Individual Select: which sources are worth training on, found by trying them (POINTS, arXiv 2409.04828, §3).

From a base the stage is trained once; then, in each round, once with each candidate that is left added to what has been
taken, and the best is taken if it is better. A trial is a pack, a stage of training and an evaluation of its own in the
run's folder – `packs/sft--1--charts`, `training/sft--1--charts`, `evaluation/sft--1--charts` –, run by the runner like
any others: what is up to date is kept, and a trial that was stopped goes on. All start from the same weights.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import yaml

from mmcorpus.curation.store import storage
from mmcorpus.pipelines.recipe.load import read_recipe
from mmcorpus.pipelines.recipe.schema import IndividualSelectEntry, Recipe
from mmcorpus.pipelines.recipe.yaml_source import YamlSource
from mmcorpus.pipelines.run.run_recipe import run_recipe
from mmcorpus.pipelines.run.runner import Say
from mmcorpus.pipelines.stages.evaluation import FOLDER
from mmcorpus.training.evaluation.run import RESULTS

FILE: Final = "individual_select.json"
"""In the run's folder: the trials so far and what was chosen."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The stage, trained on some of its sources."""

    name: str
    """Of its pack, stage and evaluation: the stage, the round, the candidate (`sft--1--charts`; `sft--0`: the base)."""
    round: int
    added: str | None
    """The candidate that this round tries; None for the base."""
    sources: tuple[str, ...]
    score: float
    low: float | None
    high: float | None
    """The evaluation's interval."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The result of `individual_select`."""

    trials: tuple[Trial, ...]
    """In the order in which they were made."""
    taken: tuple[Trial, ...]
    """The base, then of each round the one that was taken."""

    @property
    def sources(self) -> tuple[str, ...]:
        """What is to be trained on."""
        return self.taken[-1].sources


class TrialFailed(RuntimeError):
    """A trial whose stages did not all succeed; the same call tries it again."""


def individual_select(
    recipe: Recipe,
    out: str,
    *,
    say: Say = lambda kind, stage, text: None,
    start_ray: Callable[[], None] = lambda: None,
    stop_ray: Callable[[], None] = lambda: None,
    debug: bool = False,
) -> Selection:
    """Choose sources as the recipe's `individual_select` says, in the run's folder `out`; goes on where it stopped.

    Raises:
        ValueError: the recipe has no `individual_select`, or a trial's questions were not answered.
        TrialFailed: a stage of a trial failed.
    """
    entry = recipe.file.individual_select
    if entry is None:
        raise ValueError(
            "the recipe has no individual_select; say its stage, base, candidates and judge (docs/recipe-points.md)"
        )
    trials: list[Trial] = []
    taken: list[Trial] = []

    def tried(number: int, added: str | None, sources: tuple[str, ...]) -> Trial:
        name = f"{entry.stage}--{number}" + (f"--{added}" if added is not None else "")
        known = {one.name: one.sources for one in trials}
        extended = with_trials(recipe, entry, {**known, name: sources})
        result = run_recipe(
            extended, out, until=f"evaluate/{name}", say=say, start_ray=start_ray, stop_ray=stop_ray, debug=debug
        )
        if result.problems:
            raise TrialFailed(f"the trial {name} failed: {'; '.join(result.problems[:3])}")
        found = storage.read_json(storage.join(out, FOLDER, name, RESULTS))["results"][0]["found"]
        if found["value"] is None:
            raise ValueError(f"the trial {name} has no score: none of the questions of {entry.judge} was answered")
        trial = Trial(name=name, round=number, added=added, sources=sources,
                      score=found["value"], low=found["low"], high=found["high"])  # fmt: skip
        trials.append(trial)
        _write(out, entry, trials, taken)
        return trial

    taken.append(tried(0, None, entry.base))
    for number in range(1, 1 + (entry.rounds or len(entry.candidates))):
        left = [source for source in entry.candidates if source not in taken[-1].sources]
        round_ = [tried(number, source, (*taken[-1].sources, source)) for source in left]
        best = max(round_, key=lambda one: one.score, default=None)  # of equal ones the first named
        if best is None or best.score <= taken[-1].score or best.score - taken[-1].score < entry.gain:
            break
        taken.append(best)
    _write(out, entry, trials, taken)
    return Selection(trials=tuple(trials), taken=tuple(taken))


def with_trials(recipe: Recipe, entry: IndividualSelectEntry, trials: dict[str, Sequence[str]]) -> Recipe:
    """The recipe with a pack, a stage and an evaluation more for each trial, by name and sources."""
    data = copy.deepcopy(recipe.data)
    pack = recipe.stages[entry.stage].links.pack
    for name, sources in trials.items():
        data["pack"][name] = _packed(data["pack"][pack], sources)
        # What it is was told by the sources of its own pack, of which a trial's may be others.
        said = {"pack": name, "kind": recipe.stages[entry.stage].config.kind}
        data["train"]["stages"][name] = {**data["train"]["stages"][entry.stage], **said}
        data["evaluate"][name] = {**data["evaluate"][entry.judge], "stage": name}
    return read_recipe(YamlSource(name="individual-select", data=data))


def settings_of(recipe: Recipe, entry: IndividualSelectEntry, sources: Sequence[str]) -> list[str]:
    """The `--set` settings with which the recipe trains its stage on these sources, and chooses no more."""
    name = recipe.stages[entry.stage].links.pack
    pack = recipe.data["pack"][name]
    changed = {key: value for key, value in _packed(pack, sources).items() if value != pack.get(key)}
    texts = {key: yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf).strip()
             for key, value in changed.items()}  # fmt: skip
    return ["individual_select=null", *(f"pack.{name}.{key}={text}" for key, text in texts.items())]


def _packed(pack: dict[str, Any], sources: Sequence[str]) -> dict[str, Any]:
    """The pack of these sources alone; what it says of others goes."""
    found = {**copy.deepcopy(pack), "sources": list(sources)}
    for key in ("mix", "annotations"):
        if isinstance(found.get(key), dict):
            found[key] = {source: value for source, value in found[key].items() if source in sources}
    for name, group in list((found.get("mix_groups") or {}).items()):
        group["sources"] = [source for source in group["sources"] if source in sources]
        group["sizes"] = {source: size for source, size in group.get("sizes", {}).items() if source in sources}
        if not group["sources"]:
            del found["mix_groups"][name]
    return found


def _write(out: str, entry: IndividualSelectEntry, trials: Sequence[Trial], taken: Sequence[Trial]) -> None:
    value = {
        **asdict(entry),
        "trials": [asdict(trial) for trial in trials],
        "taken": [trial.name for trial in taken],
        "sources": list(taken[-1].sources) if taken else [],
    }
    storage.write_json(storage.join(out, FILE), value)
