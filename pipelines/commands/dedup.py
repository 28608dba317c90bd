"""`mmcorpus dedup`: one pass of deduplication over folders of shards and scores; `methods`: what it can be by."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from mmcorpus.pipelines.commands.common import (
    Cluster,
    CpusOption,
    UsageError,
    WorkersOption,
    counted,
    fail_if,
    say,
    settings_option,
)
from mmcorpus.pipelines.commands.data import scores_for, shards_for

if TYPE_CHECKING:
    from mmcorpus.curation.dedup import Source


def dedup(
    folders: Annotated[
        list[str],
        typer.Argument(
            metavar="FOLDER…",
            help="Runs, or folders that hold shards/ and scores/ as `mmcorpus download` makes them; with --out, "
            "folders of shards, or data that is indexed first.",
        ),
    ],
    by: Annotated[
        str,
        typer.Option("--by", help="url, bytes, pixels, text, text_image, columns, minhash, image or semantic."),
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the score tables; same_METHOD by default, e.g. same_image.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--source", help="Look through this source alone; repeatable.")
    ] = None,
    settings: Annotated[
        list[str] | None, settings_option("survivor, among, index …, or a parameter of the method.")
    ] = None,
    work: Annotated[
        str | None, typer.Option("--work", help="Where the work files lie; FOLDER/dedup/NAME by default.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", help="Gets shards/ and scores/ of folders without: shards, or data that is indexed first."
        ),
    ] = None,
    workers: WorkersOption = None,
    num_cpus: CpusOption = None,
) -> None:
    """Find duplicates over all sources together: columns of scores by uid, nothing deleted.

    `NAME.copies` counts a sample's duplicates with itself, `NAME.rank` is its place among them (0 survives),
    `NAME.cluster` the survivor's uid; `mmcorpus select --keep 'NAME.rank == 0'` keeps one of each. The scores that a
    method or an expression reads must be there: `image` and `fingerprint` for --by image, `caption` for --by text.
    What is done already is kept, and the result is the same for any number of workers.

    With --out, what a method asks of the rules that ship is judged first.

    **Examples**

        mmcorpus dedup runs/demo --by image --source pairs --set 'survivor=image.min_side'

        mmcorpus dedup cc12m/ --by image --out data/cc12m

        mmcorpus dedup data/web data/shop --by minhash --set preset=curator --set 'survivor=length(caption)'

        mmcorpus dedup data/new --by text --name seen --set index=s3://bucket/seen --set extend=true
    """
    from mmcorpus.curation.dedup import METHODS
    from mmcorpus.pipelines.recipe.load import read_pass
    from mmcorpus.pipelines.recipe.problems import suggestion
    from mmcorpus.pipelines.recipe.schema import DEDUP
    from mmcorpus.pipelines.stages.dedup import deduplicate_sources

    if by not in METHODS:
        raise UsageError(f"--by {by}: unknown method; {suggestion(by, METHODS)}")
    name = name or f"same_{by}"
    found = read_pass(name, by, settings or ())
    unread: list[str] = []
    with Cluster(num_cpus, lazy=True) as cluster:
        if out is None:
            given = find_sources(folders, only or list(found.config.sources))
        else:
            if only:
                raise UsageError("--source chooses among a run's sources; with --out name the folders that you mean")
            given, unread = _data_sources(folders, out, found.columns, cluster, workers)
        place = work or "/".join([(out or folders[0]).rstrip("/"), DEDUP, name])
        result = deduplicate_sources(found, given, place, start_ray=cluster.start, workers=workers)
    say(f"{name} over {', '.join(each.name for each in given)}: {counted(result.counts)}")
    for each in given:
        say(f"  {each.scores}/{name}")
    fail_if([*unread, *result.failures])


def _data_sources(
    folders: list[str], out: str, columns: Iterable[str], cluster: Cluster, workers: int | None
) -> "tuple[list[Source], list[str]]":
    """Folders of shards, or of data that is indexed first, judged as far as `columns` ask; and what cannot be read."""
    from mmcorpus.curation.dedup import Source
    from mmcorpus.curation.store.storage import join

    found: dict[str, Source] = {}
    unread: list[str] = []
    for folder in folders:
        name = folder.rstrip("/").rpartition("/")[2]
        if name in found:
            raise UsageError(f"two of the folders are called {name!r}; rename one")
        own = None if len(folders) == 1 else name
        shards, failed = shards_for(folder, join(out, "shards"), name=own, workers=workers, start=cluster.start)
        suffix = "" if own is None else f".{own}"
        scores, embeddings = (join(out, f"{kind}{suffix}") for kind in ("scores", "embeddings"))
        scores_for(columns, shards.folder, scores, start=cluster.start)
        found[name] = Source(name=name, shards=shards.folder, scores=scores, embeddings=embeddings)
        unread += failed
    return list(found.values()), unread


def find_sources(folders: list[str], only: list[str]) -> "list[Source]":
    """The sources in some folders: `FOLDER/shards` itself, named as the folder is, or each folder in it."""
    from mmcorpus.curation.dedup import Source
    from mmcorpus.curation.store import storage
    from mmcorpus.curation.store.shards import list_shards
    from mmcorpus.pipelines.recipe.problems import suggestion

    found: dict[str, Source] = {}
    for folder in folders:
        root = storage.join(folder.rstrip("/"), "shards")
        single = bool(list_shards(root))
        names = [folder.rstrip("/").rpartition("/")[2]] if single else storage.list_names(root)
        if not names:
            raise FileNotFoundError(
                f"{folder} holds no shards/; give a run's folder, or one that was downloaded into; or say with --out "
                "where to put what is made of shards or data"
            )
        for name in names:
            if name in found:
                raise UsageError(f"two of the folders have a source {name!r}; choose with --source, or rename one")
            inner = () if single else (name,)
            kinds = {
                kind: storage.join(folder.rstrip("/"), kind, *inner) for kind in ("shards", "scores", "embeddings")
            }
            found[name] = Source(name=name, **kinds)
    for name in only:
        if name not in found:
            raise UsageError(f"there is no source {name!r}; {suggestion(name, found, listed='sources')}")
    return [source for name, source in found.items() if not only or name in only]


def methods() -> None:
    """List the methods of deduplication: what makes two samples copies, and the parameters with their defaults.

    **Examples**

        mmcorpus methods

        mmcorpus dedup data/web --by image --set max_distance=6
    """
    from mmcorpus.curation.dedup import METHODS, DedupConfig
    from mmcorpus.pipelines.commands.look import show_parameters

    for name, kind in METHODS.items():
        show_parameters(name, kind)
    show_parameters("every pass", DedupConfig)
