"""Checks that everything a recipe refers to is there: sources, packs, stages, columns, profiles, files."""

import glob
from collections.abc import Iterable
from graphlib import CycleError
from typing import Final

import pyarrow as pa

from mmcorpus.curation.engine.order import in_order
from mmcorpus.curation.selection.config import SelectConfig
from mmcorpus.curation.store import storage
from mmcorpus.filters.serving import ServedScorer
from mmcorpus.filters.written import WrittenScorer
from mmcorpus.pipelines.recipe.check_packs import findings as _packs
from mmcorpus.pipelines.recipe.check_passes import findings as _passes
from mmcorpus.pipelines.recipe.check_passes import missing_score
from mmcorpus.pipelines.recipe.check_training import findings as _training
from mmcorpus.pipelines.recipe.check_unused import unused
from mmcorpus.pipelines.recipe.named_places import absolute, nothing_at
from mmcorpus.pipelines.recipe.populations import (
    IMAGES,
    URLS,
    after_dfn,
    dfn_columns,
    judged_as,
    passes_of,
    populations,
    scored,
    trusted,
    written_about,
)
from mmcorpus.pipelines.recipe.problems import Finding, Path, Problem, suggestion
from mmcorpus.pipelines.recipe.schema import DFN, DOCUMENTS, KEPT_ASIDE_BY, NAME, ON, WEB, Recipe
from mmcorpus.pipelines.recipe.trained import findings as _trained
from mmcorpus.pipelines.recipe.trained import is_trained, names_trained
from mmcorpus.pipelines.recipe.yaml_source import YamlSource
from mmcorpus.training.evaluation.config import OTHERS


def problems(recipe: Recipe, source: YamlSource) -> list[Problem]:
    """Everything that a well-formed recipe names and that does not exist or does not fit."""
    checks = (_names, _sources, _scorers, _passes, _dfn, _selections, _packs, _training, _trained, _evaluations)
    found = [source.problem(path, message) for check in checks for path, message in check(recipe)]
    return found + [source.problem(path, message) for path, message in unused(source.data.get("sources"))]


_NO_WEB: Final = f"{WEB} is the site's folder, and this recipe has no `web`; give a path, or add `web`"


def _names(recipe: Recipe) -> Iterable[Finding]:
    file = recipe.file
    if not file.sources:
        yield ("sources",), "empty; name at least one list, e.g. sources: {pairs: {urls: list.parquet}}"
    sections: list[tuple[Path, Iterable[str]]] = [
        (("sources",), file.sources),
        (("pack",), file.pack),
        (("train", "stages"), recipe.stages),
        (("export",), file.export),
        (("evaluate",), file.evaluate),
    ]
    for path, names in sections:
        for name in names:
            if not NAME.match(name):
                yield (*path, name), "a name becomes a folder: letters, digits, - and _ only"
    if not file.name.strip():
        yield ("name",), "empty; say what the run is called"


def _sources(recipe: Recipe) -> Iterable[Finding]:
    web = recipe.file.web
    if web and web.folder and not storage.exists(storage.join(web.folder, "site.json")):
        yield ("web", "folder"), f"{absolute(web.folder)} holds no site (no site.json); `mmcorpus web` makes one"
    for index, folder in enumerate(web.also if web else ()):
        if not storage.exists(storage.join(folder, "site.json")):
            yield ("web", "also", index), f"{absolute(folder)} holds no site (no site.json)"
    for name, entry in recipe.file.sources.items():
        path: Path = ("sources", name, "urls")
        if entry.written is not None:
            yield from _written(recipe, name)
        elif entry.reselect is not None:
            yield from _reselected(recipe, name)
        elif entry.is_indexed:
            yield from _here(recipe, name)
        elif entry.urls is None:
            yield from _pages(recipe, name)
        elif not entry.urls.startswith(WEB):
            yield from nothing_at(path, entry.urls)
        elif web is None:
            yield path, _NO_WEB
        else:
            yield from _site_list(recipe, path, entry.urls)


def _written(recipe: Recipe, name: str) -> Iterable[Finding]:
    """What a source of written texts is made of: another source, and a column that a scorer gives of that."""
    sources = recipe.file.sources
    entry = sources[name].written
    assert entry is not None
    path: Path = ("sources", name, "written")
    if entry.source not in sources:
        told = suggestion(entry.source, [one for one in sources if one != name], listed="sources")
        yield (*path, "source"), f"unknown source {entry.source!r}; {told}"
    elif sources[entry.source].kind in DOCUMENTS:
        yield (*path, "source"), f"a {sources[entry.source].kind} has no one image; name a source of pairs"
    elif written_about(name, recipe.file) is None:
        yield (*path, "source"), "is made of itself, by way of the sources that it is made of"
    else:
        columns = available_columns(recipe, entry.source)
        scorers = {own.name: own for own in recipe.scorers.values()}
        if entry.column not in columns:
            yield (*path, "column"), missing_score(entry.column, columns, [entry.source], recipe)
        elif entry.scorer not in scorers or not pa.types.is_string(
            scorers[entry.scorer].schema().field(entry.column.partition(".")[2]).type
        ):
            yield (*path, "column"), f"{entry.column!r} is no text; name one that a scorer writes"
        elif isinstance(writer := scorers[entry.scorer], WrittenScorer) and entry.column.endswith(".text"):
            kind = "conversation" if writer.asked.answer.form == "turns" else "pair"
            if sources[name].kind != kind:
                told = f"the prompt {writer.prompt} of {writer.name} asks for {writer.asked.answer.form}"
                yield ("sources", name, "kind"), f"{told}; say `kind: {kind}`"


def _reselected(recipe: Recipe, name: str) -> Iterable[Finding]:
    """What a source that selects from another once more is made of, and what it cannot say itself."""
    file = recipe.file
    entry, path = file.sources[name], ("sources", name)
    assert entry.reselect is not None
    other, first = file.sources.get(entry.reselect), judged_as(name, file)
    if other is None:
        told = suggestion(entry.reselect, [one for one in file.sources if one != name], listed="sources")
        yield (*path, "reselect"), f"unknown source {entry.reselect!r}; {told}"
    elif first is None:
        yield (*path, "reselect"), "selects from itself, by way of the sources that it selects from"
    elif other.kind in DOCUMENTS:
        yield (*path, "reselect"), f"a {other.kind} is trimmed by its selections; name a source of pairs, conversations"
    elif entry.kind != other.kind:
        yield (*path, "kind"), f"{entry.kind}, and {entry.reselect!r} is of kind {other.kind}: say `kind: {other.kind}`"
    own = file.select.get(name, SelectConfig())
    for key in KEPT_ASIDE_BY:
        if getattr(own, key) != getattr(SelectConfig(), key):
            text = f"what is kept aside is what {first} keeps aside, so that neither is learned from; leave it out"
            yield ("select", name, key), text


def _here(recipe: Recipe, name: str) -> Iterable[Finding]:
    """What a source names of samples that are here."""
    entry = recipe.file.sources[name]
    key = str(entry.indexed_as)
    for index, given in enumerate(entry.inputs):
        single = isinstance(getattr(entry, key), str)
        path: Path = ("sources", name, key, *([] if single else [index]))
        if not any(sign in given for sign in "*?["):
            yield from nothing_at(path, given)
        elif storage.is_local(given) and not glob.glob(given, recursive=True):
            yield path, f"there is nothing at {absolute(given)}"
    for key, folder in (("image_root", entry.image_root), ("downloaded", entry.downloaded)):
        if folder is not None:
            yield from nothing_at(("sources", name, key), folder)


def _pages(recipe: Recipe, name: str) -> Iterable[Finding]:
    """What a source's pages name: inputs that are there, or that the run's site will have."""
    from mmcorpus.curation.crawl.inputs import InputError, find_inputs

    web, entry = recipe.file.web, recipe.file.sources[name]
    for index, given in enumerate(entry.inputs):
        path: Path = ("sources", name, "pages", *([] if isinstance(entry.pages, str) else [index]))
        if given.startswith(WEB) and web is None:
            yield path, _NO_WEB
        elif given.startswith(WEB) and web is not None and web.generate is not None:
            if not web.generate.pages:
                yield path, "the generated site has no pages; give web.generate.pages a number"
            elif not given.removeprefix(WEB).strip("/").startswith("pages"):
                yield path, "a generated site has its pages under pages: ${web}/pages/*.warc.gz"
        else:
            there = given.replace(WEB, web.folder) if web is not None and web.folder is not None else given
            try:
                find_inputs(entry.extract, there)
            except InputError as error:
                yield path, str(error)


def _site_list(recipe: Recipe, path: Path, urls: str) -> Iterable[Finding]:
    from mmcorpus.curation.synthetic.miniweb.site import LISTS

    web, name = recipe.file.web, urls.removeprefix(WEB).strip("/")
    lists = [f"{entry}.parquet" for entry in LISTS if entry != "truth"]
    lists += [f"pairs.{kind}.parquet" for kind in (web.generate.listed_kinds if web and web.generate else ())]
    if web and web.generate and name not in lists:
        yield path, f"a generated site has no {name!r}; {suggestion(name, lists, listed='it has')}"
    elif web and web.folder and not storage.exists(storage.join(web.folder, name)):
        yield path, f"there is nothing at {absolute(storage.join(web.folder, name))}"


def available_columns(recipe: Recipe, source: str) -> list[str]:
    """The columns that the recipe's scorers and passes give of a population, as expressions name them."""
    from mmcorpus.curation.dedup.passes import COLUMNS

    source = judged_as(source, recipe.file) or source
    scorers = [scorer for scorer in recipe.scorers.values() if source in recipe.on[scorer.name]]
    found = [f"{scorer.name}.{column}" for scorer in scorers for column in scorer.schema().names]
    found += [f"{own.name}.{column}" for own in passes_of(source, recipe) for column in COLUMNS]
    found += dfn_columns() if source in scored(recipe) else []
    return [*found, "uid"]


def _dfn(recipe: Recipe) -> Iterable[Finding]:
    from mmcorpus.curation.selection.expression import selections_of

    entry = recipe.file.dfn
    if entry is None:
        return
    pairs, later = scored(recipe), {DFN, *after_dfn(recipe)}
    if any(scorer.name == DFN for scorer in recipe.scorers.values()):
        fix = f"give that one another name (`dfn_public: {{uses: {DFN}, …}}`)"
        yield (DFN,), f"score.scorers has a {DFN!r} too, and both would write the same tables; {fix}"
    if not pairs:
        yield (DFN,), "there is no source of kind pair to learn from"
    for index, name in enumerate(entry.sources):
        if name not in pairs:
            yield (DFN, "sources", index), f"no source of pairs {name!r}; {suggestion(name, pairs, listed='sources')}"
    for source in trusted(recipe):
        there = [c for c in available_columns(recipe, source) if c.partition(".")[0] not in later]
        for column in entry.trust.columns:
            if column not in there:
                yield (DFN, "trust"), f"{column!r} is not there for {source!r} yet; {suggestion(column, there)}"
    for clause in (*entry.trust.clauses, *entry.trust.upsample):
        for path in selections_of(clause):
            if storage.is_local(path) and not storage.exists(path):
                yield (DFN, "trust"), f"there is no selection at {path}"


def _scorers(recipe: Recipe) -> Iterable[Finding]:
    places = populations(recipe.file)
    trained = {scorer.name for scorer in recipe.scorers.values() if is_trained(scorer)}
    yield from _circle(recipe)
    for name, scorer in recipe.scorers.items():
        on: Path = ("score", "scorers", name, ON)
        if not recipe.on[scorer.name]:
            yield on, f"missing; the recipe has no pairs, so say what {name} judges: {', '.join(places)}"
        for index, population in enumerate(recipe.on[scorer.name]):
            if population not in places:
                yield (*on, index), f"unknown population {population!r}; {_known(population, places)}"
            elif first := places[population].of:
                yield (*on, index), f"{population!r} has the scores of {first!r}; name that"
            elif "image" in scorer.inputs and places[population].level in ("paragraph", "document"):
                text = f"{name} looks at an image, and a {places[population].level} is a text"
                yield (*on, index), f"{text}; name the images, e.g. {places[population].source}.{IMAGES}"
            else:
                judged = [one for one in available_columns(recipe, population) if one.partition(".")[0] in recipe.on]
                for column in scorer.reads():
                    if column not in judged:
                        told = missing_score(column, judged, [population], recipe)
                        yield ("score", "scorers", name, "prompt"), told
                    elif column.partition(".")[0] in trained:
                        told = f"{column!r} is there only once the run has trained its model; {name} is asked before"
                        yield ("score", "scorers", name, "prompt"), told
        if is_trained(scorer) and not isinstance(scorer, ServedScorer):
            continue  # the run makes what it reads; of one that is served all else can be seen now
        try:
            scorer.check()
        except (ValueError, FileNotFoundError) as error:
            yield ("score", "scorers", name), str(error)


def _circle(recipe: Recipe) -> Iterable[Finding]:
    """Scorers that read each other's tables, so that none can be the first."""
    reads = {own.name: [column.partition(".")[0] for column in own.reads()] for own in recipe.scorers.values()}
    try:
        in_order(reads)
    except CycleError as error:
        circle = list(reversed(error.args[1]))
        named = next(name for name, own in recipe.scorers.items() if own.name == circle[0])
        yield ("score", "scorers", named, "prompt"), f"{' reads '.join(circle)}: none of them can be the first"


def _selections(recipe: Recipe) -> Iterable[Finding]:
    from mmcorpus.curation.selection.expression import columns_of, selections_of
    from mmcorpus.filters import PROFILES

    places = populations(recipe.file)
    for name, config in recipe.file.select.items():
        path: Path = ("select", name)
        columns = available_columns(recipe, name)
        if name not in places:
            yield path, f"there is no source of this name; {_known(name, places)}"
            continue
        yield from _of_level(path, places[name].level, config)
        asked: dict[str, Iterable[str | None]] = {
            "keep": (config.keep,) if isinstance(config.keep, str) else config.keep,
            "require": config.required,
            "upsample": config.upsample,
            "heldout_by": (config.heldout_by,),
            "profile": () if config.profile is None else PROFILES[config.profile].clauses,
        }
        told = set(columns)
        for key, clause in [(key, text) for key, texts in asked.items() for text in texts if text]:
            for column in columns_of(clause):
                if column not in told:
                    told.add(column)
                    yield (*path, key), missing_score(column, columns, [name], recipe)
            for named in selections_of(clause):
                yield from nothing_at((*path, key), named, f"selected({named!r}): ")
        for key in ("intersect", "subtract", "union"):
            for index, named in enumerate(getattr(config, key)):
                yield from nothing_at((*path, key, index), named)


def _known(name: str, places: Iterable[str]) -> str:
    """What a population's name may have been meant for."""
    if name.endswith(f".{URLS}"):
        return f"addresses are judged where they stand: as {name.removesuffix(URLS)}{IMAGES}"
    return suggestion(name, places, listed="there are")


def _of_level(path: Path, level: str, config: SelectConfig) -> Iterable[Finding]:
    """What only nodes, or only whole samples, can be asked."""
    if level in ("image", "paragraph"):
        if config.heldout_fraction or config.heldout_by:
            key = "heldout_fraction" if config.heldout_fraction else "heldout_by"
            yield (*path, key), "documents are held out whole: say it of the source, not of its nodes"
        if config.upsample:
            yield (*path, "upsample"), "a node stands once in its document: say it of the source, not of its nodes"
    elif config.required:
        yield (*path, "require"), "drops the document of a node: say it of images or paragraphs; here use keep"


def _evaluations(recipe: Recipe) -> Iterable[Finding]:
    file = recipe.file
    for name, entry in file.evaluate.items():
        path: Path = ("evaluate", name)
        if entry.stage not in names_trained(recipe):
            told = suggestion(entry.stage, names_trained(recipe), listed="stages")
            yield (*path, "stage"), f"unknown stage {entry.stage!r}; {told}"
        for key in ("data", "demonstrations", "annotations", "images"):
            if (place := getattr(entry, key)) is not None and (key, place) != ("demonstrations", OTHERS):
                yield from nothing_at((*path, key), place)
        if entry.source is None:
            continue
        source = file.sources.get(entry.source)
        if source is None:
            told = suggestion(entry.source, file.sources, listed="sources")
            yield (*path, "source"), f"unknown source {entry.source!r}; {told}"
            continue
        if source.kind not in ("pair", "conversation"):
            yield (*path, "source"), f"a {source.kind} asks nothing; name a source of pairs or conversations"
            continue
        first = judged_as(entry.source, file) or entry.source  # of a circle, which is told elsewhere, itself
        if not file.select.get(first, SelectConfig()).heldout_fraction:
            fix = f"give select.{first}.heldout_fraction a share, e.g. 0.1"
            yield (*path, "source"), f"{entry.source!r} keeps nothing aside from training; {fix}"
