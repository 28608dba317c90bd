"""Reads a recipe and checks it whole, before any work: every problem at once, each with its place."""

import copy
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from mmcorpus.curation.store import storage
from mmcorpus.pipelines.recipe import check_references as references
from mmcorpus.pipelines.recipe.check_types import check, field_types
from mmcorpus.pipelines.recipe.populations import samples
from mmcorpus.pipelines.recipe.problems import Path, Problem, RecipeError, suggestion
from mmcorpus.pipelines.recipe.schema import DEDUP, ON, USES, Recipe, RecipeFile, StageLinks, TrainStage
from mmcorpus.pipelines.recipe.yaml_source import YamlSource, apply_override, parse

if TYPE_CHECKING:
    from mmcorpus.curation.dedup import DedupPass

_LEADS_TO: dict[str, set[str]] = {
    "select": {"score", "dedup", "dfn"},
    "dedup": {"score", "download", "sources"},
    "pack": {"sources", "dedup"},
    "dfn": {"score", "dedup", "sources"},
    "train": {"pack"},
    "export": {"train"},
    "evaluate": {"train", "sources", "select"},
    "individual_select": {"train", "pack", "evaluate"},
    "tokenizer": {"tokenizer"},
}
"""By section, those whose names it refers to."""


def load_recipe(path: str, settings: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, or that ships under a name (`demo`), with `--set` settings (`a.b=c`) applied.

    Raises:
        RecipeError: it cannot be run; the error lists every problem with its key, its line and what it should be.
        FileNotFoundError: there is no such file, and none that ships is called so.
    """
    path = find_recipe(path)
    try:
        text = storage.read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text: {error}") from None
    source = parse(text, path)
    if not isinstance(source.data, dict):
        raise RecipeError([Problem(place=f"{path}:1", path=(), message="a recipe is a mapping of keys to values")])
    for setting in settings:
        apply_override(source, setting)
    return read_recipe(source)


def find_recipe(path: str) -> str:
    """The file of a recipe, given by its path or, of those that ship, by its name."""
    if storage.exists(path) and not (storage.is_local(path) and os.path.isdir(path)):
        return path
    folder = resources.files("mmcorpus.pipelines").joinpath("recipes")
    shipped = {file.name.removesuffix(".yaml"): str(file) for file in folder.iterdir()}
    if path not in shipped:
        raise FileNotFoundError(f"there is no recipe at {path}; {suggestion(path, shipped, listed='those that ship')}")
    return shipped[path]


def read_recipe(source: YamlSource) -> Recipe:
    """The recipe in parsed YAML; raises `RecipeError` as `load_recipe` does."""
    loader = _Loader(source)
    recipe = loader.load()
    problems = loader.problems
    if recipe is not None:
        wrong = [problem.path for problem in problems]
        left_out = {*_mapping(source.data, "sources")} - {*recipe.file.sources}
        left_out |= {*_mapping(source.data, "pack")} - {*recipe.file.pack}
        left_out |= {*_mapping(source.data, "train", "stages")} - {*recipe.stages}
        problems += [told for told in references.problems(recipe, source) if not _follows(told, wrong, left_out)]
    if recipe is None or problems:
        unique = {(problem.path, problem.message): problem for problem in problems}
        raise RecipeError(sorted(unique.values(), key=lambda problem: source.line(problem.path)))
    return recipe


def _follows(problem: Problem, wrong: Sequence[Path], left_out: Iterable[str]) -> bool:
    """Whether a broken reference may only come of what was left out as wrong: a scorer's columns, a source's name."""
    named = (problem.message, *(map(str, problem.path[1:2]) if problem.path[0] == "select" else ()))
    if any(re.search(rf"(\A|'){re.escape(name)}(\Z|'|\.)", text) for name in left_out for text in named):
        return True
    if any(problem.path[: len(path)] == path or path[: len(problem.path)] == problem.path for path in wrong):
        return True
    return bool(_LEADS_TO.get(str(problem.path[0]), set()) & {path[0] for path in wrong if path})


def read_scorers(names: Sequence[str] | None, settings: Sequence[str]) -> list[Any]:
    """The scorers of these names (the rules that ship, if None) with `scorer.key=value` settings applied.

    Raises `RecipeError` with every problem.
    """
    from mmcorpus.filters import RULES

    chosen = list(names or RULES)
    source = YamlSource(name="command line", data={name: {} for name in chosen})
    for setting in settings:
        apply_override(source, setting)
    loader = _Loader(source)
    loader.problems += [
        source.problem((name,), f"this scorer does not run here; {suggestion(name, chosen, listed='those that do')}")
        for name in source.data
        if name not in chosen
    ]
    scorers = loader.scorers({name: source.data[name] for name in chosen}, ())
    if loader.problems:
        raise RecipeError(loader.problems, what="settings")
    return list(scorers.values())


def read_pass(name: str, by: str, settings: Sequence[str]) -> "DedupPass":
    """A pass of deduplication with `key=value` settings applied; raises `RecipeError` with every problem."""
    source = YamlSource(name="command line", data={name: {"by": by}})
    for setting in settings:
        apply_override(source, f"{name}.{setting}")
    loader = _Loader(source)
    passes = loader.passes(source.data, ())
    if loader.problems:
        raise RecipeError(loader.problems, what="settings")
    return passes[name]


def _mapping(data: Any, *path: str) -> dict[str, Any]:
    """A section, or nothing where it is absent or (a problem already reported) not a mapping."""
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def _seeded(data: dict[str, Any]) -> dict[str, Any]:
    """The recipe's seed given to all that draws and has none of its own."""
    data = copy.deepcopy(data)
    sections = [*_mapping(data, "pack").values(), *_mapping(data, "train", "stages").values()]
    sections += _mapping(data, "evaluate").values()
    seed = data.get("seed", 0)
    for section in (*sections, data.get("dfn"), _mapping(data, "web").get("generate")):
        if isinstance(section, dict) and isinstance(seed, int):
            section.setdefault("seed", seed)
    return data


class _Loader:
    """Builds each section, collecting problems instead of stopping at the first."""

    def __init__(self, source: YamlSource) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self.on: dict[str, tuple[str, ...]] = {}
        """The populations that scorers name, by the scorer's own name."""

    def load(self) -> Recipe | None:
        """The recipe without what is wrong in it; None if what is left is none."""
        data = _seeded(self.source.data)
        file = self._check(RecipeFile, data, ())
        scorers = self.scorers(_mapping(data, "score", "scorers"), ("score", "scorers"))
        passes = self.passes(_mapping(data, DEDUP), (DEDUP,))
        downloads = self._downloads(data)
        model, stages = self._training(data)
        if file is None:
            return None
        return Recipe(
            file=file,
            downloads=downloads,
            scorers=scorers,
            on={scorer.name: self.on.get(name, samples(file)) for name, scorer in scorers.items()},
            passes=passes,
            model=model,
            stages=stages,
            data=self.source.data,
        )

    def _tell(self, path: Path, message: str) -> None:
        self.problems.append(self.source.problem(path, message))

    def _check(self, kind: type[Any], data: Any, path: Path, also: Sequence[str] = ()) -> Any:
        value, problems = check(kind, data, self.source, path, also=also)
        self.problems += problems
        return value

    def _check_beside(self, kind: type[Any], other: type[Any], data: dict[str, Any], path: Path) -> tuple[Any, Any]:
        """Two configs whose keys stand side by side at `path`; what belongs to neither is told of the second."""
        names = field_types(kind)
        first = self._check(kind, {key: value for key, value in data.items() if key in names}, path)
        rest = {key: value for key, value in data.items() if key not in names}
        return first, self._check(other, rest, path, also=sorted(names))

    def _downloads(self, data: dict[str, Any]) -> dict[str, Any]:
        from mmcorpus.curation.download.config import DownloadConfig

        shared, found = _mapping(data, "download"), {}
        for name, settings in _mapping(data, "sources").items():
            own = _mapping(settings, "download")
            merged = {**shared, **own}
            if (published := _mapping(settings).get("published")) is not None:
                merged["published"] = published
            extra = merged.get("save_additional_columns", [])
            if _mapping(settings).get("kind") == "conversation" and isinstance(extra, list):
                merged["save_additional_columns"] = [*extra, *(c for c in ("conversations",) if c not in extra)]
            path: Path = ("sources", name, "download") if own else ("download",)
            config, problems = check(DownloadConfig, merged, self.source, path)
            self.problems += problems if own else []  # else told with the recipe's own section
            found[name] = config or DownloadConfig()
        return found

    def passes(self, sections: Mapping[str, Any], where: Path) -> "dict[str, DedupPass]":
        """The passes of the sections that stand at `where`, each after those whose columns it reads; a circle is left
        as it is, for the check of references to tell."""
        from mmcorpus.curation.dedup import METHODS, DedupConfig, DedupPass

        waiting: dict[str, DedupPass] = {}
        for name, settings in sections.items():
            if not isinstance(settings, dict):
                continue  # reported with the file's layout
            path: Path = (*where, name)
            method = METHODS.get(str(settings.get("by")))
            if method is None:  # `by` is missing or unknown
                by = {key: value for key, value in settings.items() if key in field_types(DedupConfig)}
                self._check(DedupConfig, by, path)
                continue
            config, method = self._check_beside(DedupConfig, method, settings, path)
            if config is not None and method is not None:
                waiting[name] = DedupPass(name=name, config=config, method=method)
        ordered: dict[str, DedupPass] = {}
        while waiting:
            ready = (name for name, found in waiting.items() if not waiting.keys() & set(found.scorers))
            name = next(ready, next(iter(waiting)))
            ordered[name] = waiting.pop(name)
        return ordered

    def scorers(self, sections: dict[str, Any], where: Path) -> dict[str, Any]:
        """The scorers of the sections that stand at `where`, by the names used there."""
        from mmcorpus.filters import SCORERS, load_scorer_class

        found: dict[str, Any] = {}
        for name, parameters in sections.items():
            path: Path = (*where, name)
            if parameters is not None and not isinstance(parameters, dict):
                continue  # reported with the file's layout
            parameters = dict(parameters or {})
            uses = parameters.pop(USES, name)
            at = path if uses == name else (*path, USES)
            if where and ON in parameters:
                given = parameters.pop(ON)
                if isinstance(given, list) and given and all(isinstance(one, str) for one in given):
                    self.on[name] = tuple(dict.fromkeys(given))
                else:
                    self._tell((*path, ON), "give a list of populations, e.g. [pages.images]")
            try:
                kind = load_scorer_class(uses)
            except (ValueError, KeyError, ImportError, AttributeError, TypeError) as error:
                text = f"unknown scorer; {suggestion(str(uses), SCORERS)}" if ":" not in str(uses) else str(error)
                self._tell(at, text)
                continue
            if uses != name and not name.isidentifier():
                self._tell(path, "a scorer's name has letters, digits and _ alone, and begins with a letter")
                continue
            scorer = self._check(kind, parameters, path)
            if scorer is not None:
                found[name] = scorer.named(name) if uses != name else scorer
        return found

    def _training(self, data: dict[str, Any]) -> tuple[Any, dict[str, TrainStage]]:
        from mmcorpus.training.config import ModelConfig, SFTConfig, StageConfig

        if "train" not in data:
            return None, {}
        model = self._check(ModelConfig, _mapping(data, "train").get("model"), ("train", "model"))
        stages: dict[str, TrainStage] = {}
        for name, settings in _mapping(data, "train", "stages").items():
            if not isinstance(settings, dict):
                continue  # reported with the file's layout
            sources = _mapping(data, "pack", str(settings.get("pack"))).get("sources")
            packed = sources if isinstance(sources, list) else []
            kinds = [_mapping(data, "sources", str(source)).get("kind") for source in packed]
            settings.setdefault("kind", "sft" if "conversation" in kinds else "pretrain")
            kind = SFTConfig if settings["kind"] == "sft" else StageConfig
            links, config = self._check_beside(StageLinks, kind, settings, ("train", "stages", name))
            if links is not None and config is not None:
                path = ("train", "stages", name, "model")
                own = None if links.model is None else self._check(ModelConfig, links.model, path)
                stages[name] = TrainStage(links=links, config=config, model=own)
        return model, stages
