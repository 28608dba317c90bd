"""Checks of what a recipe's packs refer to: sources, passes, layouts, the tokenizer."""

from collections.abc import Iterable

from mmcorpus.pipelines.recipe.named_places import absolute, missing_local
from mmcorpus.pipelines.recipe.populations import judged_as, sources_of, written_about
from mmcorpus.pipelines.recipe.problems import Finding, Path, suggestion
from mmcorpus.pipelines.recipe.schema import Recipe


def findings(recipe: Recipe) -> Iterable[Finding]:
    """What the packs and their tokenizer name that is not there, or does not fit."""
    file = recipe.file
    if file.pack and file.tokenizer is None:
        text = "missing; packs need one: `name: Qwen/Qwen2.5-1.5B`, a folder, or `train: {vocab_size: …}`"
        yield ("tokenizer",), text
    for index, source in enumerate(file.tokenizer.train.sources if file.tokenizer and file.tokenizer.train else ()):
        if source not in file.sources:
            told = suggestion(source, file.sources, listed="sources")
            yield ("tokenizer", "train", "sources", index), f"unknown source {source!r}; {told}"
    if file.tokenizer and file.tokenizer.name and missing_local(file.tokenizer.name):
        yield ("tokenizer", "name"), f"there is nothing at {absolute(file.tokenizer.name)}"
    yield from _kept_aside(recipe)
    for name, config in file.pack.items():
        for index, source in enumerate(config.sources):
            if source not in file.sources:
                where: Path = ("pack", name, "sources", index)
                yield where, f"unknown source {source!r}; {suggestion(source, file.sources, listed='sources')}"
        for source, share in config.mix.items():
            if source not in config.sources:
                yield ("pack", name, "mix", source), _not_packed(source, config.sources)
            elif share <= 0:
                yield ("pack", name, "mix", source), f"{share}; give more than 0, or take it out of `sources`"
        for group, own in config.mix_groups.items():
            for source in own.sources:
                if source not in config.sources:
                    yield ("pack", name, "mix_groups", group), _not_packed(source, config.sources)
        missing = [source for source in config.sources if config.mixed and source not in config.mixed]
        if missing:
            key = "mix" if config.mix else "mix_groups"
            yield ("pack", name, key), f"says nothing of {', '.join(missing)}; give each source a share"
        yield from _annotations(recipe, name)
        yield from _layout(recipe, name)
        yield from _images(recipe, name)


def _kept_aside(recipe: Recipe) -> Iterable[Finding]:
    """Written texts that are kept aside, though their pictures are learned from by another source."""
    file = recipe.file
    packed = dict.fromkeys(source for config in file.pack.values() for source in config.sources)
    about = {source: written_about(source, file) for source in packed}
    for source in packed:
        entry, own = file.sources.get(source), file.select.get(source)
        others = [other for other in packed if other != source and about[other] == about[source] is not None]
        if entry is not None and entry.written is not None and own is not None and own.heldout_fraction and others:
            first = about[source]
            fix = f"keep aside of {first!r}: of what that keeps aside nothing is written"
            told = f"their pictures are also those of {' and '.join(map(repr, others))}, which is learned from; {fix}"
            yield ("select", source, "heldout_fraction"), told


def _layout(recipe: Recipe, name: str) -> Iterable[Finding]:
    """What does not fit of a pack's `layout`."""
    config = recipe.file.pack[name]
    if config.layout is not None and config.layout.kind != "square" and config.format == "both":
        yield ("pack", name, "format"), "Open-Qwen2VL's pickles hold squares; leave the layout out, or the pickles"


def _images(recipe: Recipe, name: str) -> Iterable[Finding]:
    """Sources whose images are references themselves, in packs that would refer to them."""
    config = recipe.file.pack[name]
    firsts = {source: recipe.file.sources.get(judged_as(source, recipe.file) or "") for source in config.sources}
    indexed = [own for own, entry in firsts.items() if entry is not None and (entry.is_indexed or entry.written)]
    if config.images == "reference" and indexed:
        text = f"reference, but the images of {', '.join(indexed)} lie in files of others: give original or resized"
        yield ("pack", name, "images"), text


def _not_packed(source: str, sources: Iterable[str]) -> str:
    return f"{source!r} is not packed here; {suggestion(source, sources, listed='sources')}"


def _annotations(recipe: Recipe, name: str) -> Iterable[Finding]:
    """What does not fit of a pack's `annotations`: sources, passes, and passes that write none."""
    config = recipe.file.pack[name]
    if config.annotations and config.format == "both":
        text = "Open-Qwen2VL's pickles cannot say that an image has several captions; leave one of the two out"
        yield ("pack", name, "format"), text
    for source, own in config.annotations.items():
        path: Path = ("pack", name, "annotations", source)
        entry, found = recipe.file.sources.get(source), recipe.passes.get(own)
        if source not in config.sources:
            yield path, _not_packed(source, config.sources)
        elif entry is not None and entry.kind != "pair":
            yield path, f"annotations are captions of images, and {source!r} is of kind {entry.kind}"
        elif found is None:
            yield path, f"unknown pass {own!r}; {suggestion(own, recipe.passes, listed='passes of dedup')}"
        elif not found.config.annotations:
            yield path, f"the pass {own!r} writes no annotations; give it `annotations: true`"
        elif judged_as(source, recipe.file) not in sources_of(found, recipe):
            yield path, f"the pass {own!r} does not look through the source {source!r}"
