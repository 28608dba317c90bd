"""Reads a recipe and checks it whole, before any work: every problem at once, each with its place."""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from mmcorpus.curation.store import storage
from mmcorpus.pipelines.recipe import check_references as references
from mmcorpus.pipelines.recipe.check_types import check, field_types
from mmcorpus.pipelines.recipe.populations import samples
from mmcorpus.pipelines.recipe.problems import Path, Problem, RecipeError, suggestion
from mmcorpus.pipelines.recipe.schema import DEDUP, ON, USES, Recipe, RecipeFile, StageLinks, TrainStage
from mmcorpus.pipelines.recipe.yaml_source import YamlSource, apply_override, parse

if TYPE_CHECKING:
    from mmcorpus.curation.dedup import DedupPass

_ROUNDS: Final = 6
"""How often a recipe is checked again without what was found wrong."""


def load_recipe(path: str, settings: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, with `--set` settings (`a.b=c`) applied.

    Raises:
        RecipeError: it cannot be run; the error lists every problem with its key, its line and what it should be.
        FileNotFoundError: there is no such file.
    """
    try:
        text = storage.read_bytes(path).decode("utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"there is no recipe at {path}; pipelines/recipes/demo.yaml is one to start from"
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text: {error}") from None
    source = parse(text, path)
    if not isinstance(source.data, dict):
        raise RecipeError([Problem(place=f"{path}:1", path=(), message="a recipe is a mapping of keys to values")])
    for setting in settings:
        apply_override(source, setting)
    return read_recipe(source)


def read_recipe(source: YamlSource) -> Recipe:
    """The recipe in parsed YAML; raises `RecipeError` as `load_recipe` does."""
    found: dict[tuple[Path, str], Problem] = {}
    rest, pruned = source, list[Path]()
    for _ in range(_ROUNDS):
        loader = _Loader(rest)
        recipe = loader.load()
        problems = loader.problems
        if recipe is not None:
            problems = [p for p in references.problems(recipe, rest) if not _follows(p, pruned)]
            if not found and not problems:
                return recipe
        found |= {(problem.path, problem.message): problem for problem in problems}
        # What is wrong is taken out and the rest checked again, so that one mistake does not hide another.
        cut = [problem.path for problem in problems]
        if recipe is not None:
            break
        rest_data = copy.deepcopy(rest.data)
        if not all(_prune(rest_data, path) for path in cut):
            break
        pruned += cut
        rest = dataclasses.replace(rest, data=rest_data)
    raise RecipeError(sorted(found.values(), key=lambda problem: _line(source, problem)))


def _prune(data: Any, path: Path) -> bool:
    """Take out the key at `path`; False if it is not there (something is missing), so that nothing can be taken out."""
    for part in path[:-1]:
        if isinstance(data, dict):
            data = data.get(str(part))
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        if not isinstance(data, dict | list):
            return data is None  # it went with another problem's key
    if not path or not isinstance(data, dict):
        return False
    return data.pop(path[-1], None) is not None


def _follows(problem: Problem, pruned: Sequence[Path]) -> bool:
    """Whether a broken reference only comes of what was taken out: a scorer's columns, a source's or stage's name."""
    sections = {path[0] for path in pruned}
    leads_to = {"select": {"score", "dedup", "dfn"}, "dedup": {"score", "download", "sources"}}
    leads_to |= {"pack": {"sources", "dedup"}, "dfn": {"score", "dedup", "sources"}}
    leads_to |= {"train": {"pack"}, "tokenizer": {"tokenizer"}}
    if any(problem.path[: len(path)] == path or path[: len(problem.path)] == problem.path for path in pruned):
        return True
    return bool(leads_to.get(str(problem.path[0]), set()) & sections)


def _line(source: YamlSource, problem: Problem) -> int:
    for end in range(len(problem.path), 0, -1):
        if problem.path[:end] in source.lines:
            return source.lines[problem.path[:end]]
    return 0


def read_scorers(names: Sequence[str] | None, settings: Sequence[str]) -> list[Any]:
    """The scorers of these names (the rules that ship, if None) with `scorer.key=value` settings applied.

    Raises `RecipeError` with every problem.
    """
    from mmcorpus.filters import RULES

    chosen = list(names or RULES)
    source = YamlSource(name="command line", data={name: {} for name in chosen})
    for setting in settings:
        apply_override(source, setting)
    unasked = [name for name in source.data if name not in chosen]
    loader = _Loader(source)
    loader.problems += [
        source.problem((name,), f"this scorer does not run here; {suggestion(name, chosen, listed='those that do')}")
        for name in unasked
    ]
    scorers = loader.scorers({name: source.data[name] for name in chosen}, ())
    if loader.problems:
        raise RecipeError(loader.problems, what="settings")
    return list(scorers.values())


def read_passes(
    sections: Mapping[str, Any], source: YamlSource, where: Path = (DEDUP,)
) -> tuple[dict[str, "DedupPass"], list[Problem]]:
    """The passes of the sections that stand at `where`, each after those whose columns it reads, and what is wrong."""
    from mmcorpus.curation.dedup import METHODS, DedupConfig, DedupPass

    found: dict[str, DedupPass] = {}
    problems: list[Problem] = []
    shared = field_types(DedupConfig)
    for name, settings in sections.items():
        if not isinstance(settings, dict):
            continue  # reported with the file's layout
        path: Path = (*where, name)
        config, wrong = check(DedupConfig, {k: v for k, v in settings.items() if k in shared}, source, path)
        problems += wrong
        kind = METHODS.get(str(settings.get("by")))
        if kind is None:
            continue  # `by` is missing or unknown, and that has been said
        own = {k: v for k, v in settings.items() if k not in shared}
        method, wrong = check(kind, own, source, path, also=sorted(shared))
        problems += wrong
        if config is not None and method is not None:
            found[name] = DedupPass(name=name, config=config, method=method)
    return _in_order(found), problems


def _in_order(passes: "dict[str, DedupPass]") -> "dict[str, DedupPass]":
    """In the recipe's order, but each after the passes whose columns it reads; a circle is left as it is, for
    the check of references to tell."""
    ordered: dict[str, DedupPass] = {}
    waiting = dict(passes)
    while waiting:
        ready = (name for name, found in waiting.items() if not waiting.keys() & set(found.scorers))
        name = next(ready, next(iter(waiting)))
        ordered[name] = waiting.pop(name)
    return ordered


class _Loader:
    """Builds each section, collecting problems instead of stopping at the first."""

    def __init__(self, source: YamlSource) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self.on: dict[str, tuple[str, ...]] = {}
        """The populations that scorers name, by the scorer's own name."""

    def load(self) -> Recipe | None:
        file = self._check(RecipeFile, self.source.data, ())
        data = self.source.data
        score, train = self._mapping(data, "score"), self._mapping(data, "train")
        scorers = self.scorers(self._mapping(score, "scorers"), ("score", "scorers"))
        passes, problems = read_passes(self._mapping(data, "dedup"), self.source)
        self.problems += problems
        downloads = self._downloads(data)
        model, stages = self._training(train, data) if "train" in data else (None, {})
        if file is None or self.problems:
            return None
        file = self._seeded(file, self._mapping(data, "pack"))
        return Recipe(
            file=file,
            downloads=downloads,
            scorers=scorers,
            on={scorer.name: self.on.get(name, samples(file)) for name, scorer in scorers.items()},
            passes=passes,
            model=model,
            stages=stages,
            data=data,
        )

    def _check(self, kind: type[Any], data: Any, path: Path) -> Any:
        value, problems = check(kind, data, self.source, path)
        self.problems += problems
        return value

    def _mapping(self, data: Any, key: str) -> dict[str, Any]:
        """A section, or nothing where it is absent or (a problem already reported) not a mapping."""
        value = data.get(key) if isinstance(data, dict) else None
        return value if isinstance(value, dict) else {}

    def _seeded(self, file: RecipeFile, packs: dict[str, Any]) -> RecipeFile:
        """The recipe's seed given to the generated site and to the packs that have none of their own."""
        pack = {
            name: entry if "seed" in self._mapping(packs, name) else dataclasses.replace(entry, seed=file.seed)
            for name, entry in file.pack.items()
        }
        file = dataclasses.replace(file, pack=pack)
        if file.dfn is not None and "seed" not in self._mapping(self.source.data, "dfn"):
            file = dataclasses.replace(file, dfn=dataclasses.replace(file.dfn, seed=file.seed))
        generate = file.web.generate if file.web else None
        if generate is None or "seed" in self._mapping(self._mapping(self.source.data, "web"), "generate"):
            return file
        assert file.web is not None
        web = dataclasses.replace(file.web, generate=dataclasses.replace(generate, seed=file.seed))
        return dataclasses.replace(file, web=web)

    def _downloads(self, data: dict[str, Any]) -> dict[str, Any]:
        from mmcorpus.curation.download.config import DownloadConfig

        shared, found = self._mapping(data, "download"), {}
        for name, settings in self._mapping(data, "sources").items():
            own = self._mapping(settings, "download")
            path: Path = ("sources", name, "download") if own else ("download",)
            before = len(self.problems)
            merged = {**shared, **own}
            extra = merged.get("save_additional_columns", [])
            if isinstance(settings, dict) and settings.get("kind") == "conversation" and isinstance(extra, list):
                merged["save_additional_columns"] = [*extra, *(c for c in ("conversations",) if c not in extra)]
            found[name] = self._check(DownloadConfig, merged, path)
            if not own:
                del self.problems[before:]  # reported once, with the recipe's own section
        return found

    def scorers(self, sections: dict[str, Any], where: Path) -> dict[str, Any]:
        """The scorers of the sections that stand at `where`, by the names used there."""
        from mmcorpus.filters import SCORERS, load_scorer_class

        found: dict[str, Any] = {}
        for name, parameters in sections.items():
            path: Path = (*where, name)
            if parameters is not None and not isinstance(parameters, dict):
                continue  # reported with the file's layout
            uses = (parameters or {}).get(USES, name)
            at = path if uses == name else (*path, USES)
            try:
                kind = load_scorer_class(uses)
            except (ValueError, KeyError, ImportError, AttributeError, TypeError) as error:
                text = f"unknown scorer; {suggestion(str(uses), SCORERS)}" if ":" not in str(uses) else str(error)
                self.problems.append(self.source.problem(at, text))
                continue
            if uses != name and not name.isidentifier():
                text = "a scorer's name has letters, digits and _ alone, and begins with a letter"
                self.problems.append(self.source.problem(path, text))
                continue
            taken = {USES, ON} if where else {USES}
            own = {key: value for key, value in (parameters or {}).items() if key not in taken}
            if where:
                self._populations(name, parameters or {}, path)
            scorer = self._check(kind, own, path)
            found[name] = scorer.named(name) if scorer is not None and uses != name else scorer
        return found

    def _populations(self, name: str, parameters: dict[str, Any], path: Path) -> None:
        """Note which populations a scorer is to judge."""
        if ON not in parameters:
            return
        given = parameters[ON]
        if isinstance(given, list) and given and all(isinstance(one, str) for one in given):
            self.on[name] = tuple(dict.fromkeys(given))
            return
        self.problems.append(self.source.problem((*path, ON), "give a list of populations, e.g. [pages.images]"))

    def _training(self, train: dict[str, Any], data: dict[str, Any]) -> tuple[Any, dict[str, TrainStage]]:
        from mmcorpus.training.config import ModelConfig, SFTConfig, StageConfig

        model = self._check(ModelConfig, train.get("model"), ("train", "model"))
        stages: dict[str, TrainStage] = {}
        link_names = set(field_types(StageLinks))
        seed = self.source.data.get("seed", 0)
        for name, settings in self._mapping(train, "stages").items():
            if not isinstance(settings, dict):
                continue
            path: Path = ("train", "stages", name)
            links = self._check(StageLinks, {k: v for k, v in settings.items() if k in link_names}, path)
            own = {"seed": seed, **{key: value for key, value in settings.items() if key not in link_names}}
            pack = self._mapping(self._mapping(data, "pack"), str(settings.get("pack")))
            sources = pack.get("sources") if isinstance(pack.get("sources"), list) else []
            kinds = {self._mapping(self._mapping(data, "sources"), str(name)).get("kind") for name in sources or []}
            own.setdefault("kind", "sft" if "conversation" in kinds else "pretrain")
            kind = SFTConfig if own["kind"] == "sft" else StageConfig
            config, found = check(kind, own, self.source, path, also=sorted(link_names))
            self.problems += found
            if links is not None and config is not None:
                stages[name] = TrainStage(links=links, config=config)
        return model, stages
