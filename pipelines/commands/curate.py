"""`mmcorpus web`, `render`, `download`, `select`, `reshard`: the stages of curation, each on its own."""

import dataclasses
import os
import tempfile
from typing import Annotated

import typer

from mmcorpus.pipelines.commands.common import (
    FAILED,
    BudgetOption,
    Cluster,
    CpusOption,
    RetryOption,
    SettingsOption,
    ShardsArgument,
    UsageError,
    WorkersOption,
    a_folder,
    budget_of,
    counted,
    fail_if,
    named,
    read_config,
    say,
)
from mmcorpus.pipelines.commands.data import are_scores, beside, scores_for, shards_for


def web(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="The site's folder.", callback=a_folder)],
    serve: Annotated[bool, typer.Option("--serve", help="Serve the site on loopback until Ctrl-C.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --serve: 0 takes a free one.")] = 0,
    settings: SettingsOption = None,
) -> None:
    """Generate a mini-web, a small site with corrupted samples and the truth of each, or serve one on loopback.

    The site's folder holds the files, `pairs.parquet` and `instructions.parquet` (URL lists) and `truth.parquet`; with
    `pages` also `pages/*.warc.gz` and `pages.truth.parquet`.
    Its host names lead nowhere: a download reaches them through the `connect_to` that --serve prints.

    **Examples**

        mmcorpus web site/ --set pairs=500 --set spoil=0.2

        mmcorpus web site/ --set pairs=500 --set pages=300

        mmcorpus web site/ --serve --port 8000
    """
    if serve:
        _serve(folder, port, settings)
        return
    from mmcorpus.curation.synthetic.miniweb import MiniWebConfig, generate_site

    counts = generate_site(read_config(MiniWebConfig, settings), folder)
    total = f"{counts['pairs']:,} pairs ({counts['spoiled']:,} corrupted), {counts['instructions']:,} instructions"
    if "pages" in counts:
        total += f", {counts['pages']:,} pages ({counts['pages.spoiled']:,} corrupted)"
    say(f"{folder}: {total}, {counts['bytes'] / 1e6:.1f} MB")


def _serve(folder: str, port: int, settings: list[str] | None) -> None:
    import time

    from mmcorpus.curation.synthetic.miniweb import serve_site

    if settings:
        raise UsageError(
            "--serve serves the site that is in the folder; generate it first, then serve it without --set"
        )
    with serve_site(folder, port) as running:
        say(f"Serving {folder} on 127.0.0.1:{running.port}; Ctrl-C stops. Download from it with")
        say("  --set 'connect_to={" + ", ".join(f'{host}: "{at}"' for host, at in running.connect_to.items()) + "}'")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            say(f"{running.requests.total():,} requests served.")


def render(
    out: Annotated[str, typer.Argument(metavar="OUT", help="Folder of the new shards.", callback=a_folder)],
    settings: SettingsOption = None,
    workers: WorkersOption = None,
    num_cpus: CpusOption = None,
) -> None:
    """Render pictures with true captions, questions and points: clocks, charts, tables, counted scenes; as shards.

    Kinds: clock, dated_clock, chart, table, scene and objects need nothing more; document (Typst), diagram (Graphviz),
    vega_chart (Vega-Lite) and matplotlib_chart need `pip install 'mmcorpus[render]'`, page (HTML) a Chromium or Chrome.
    The work is spread over Ray and resumes where it stopped; picture n of a seed is the same on any machine.

    **Examples**

        mmcorpus render clocks/ --set count=10000 --set 'kinds={clock: 1}'

        mmcorpus render papers/ --set 'kinds={document: 2, diagram: 1}' --set conversations=annotations

        mmcorpus render s3://bucket/rendered --set count=1000000 --set seed=7
    """
    from mmcorpus.curation.synthetic.render import RenderConfig, render_shards

    config = read_config(RenderConfig, settings)
    with Cluster(num_cpus):
        report = render_shards(config, out, **({} if workers is None else {"workers": workers}))
    say(f"{out}: {counted(report)}")


def download(
    urls: Annotated[str, typer.Argument(metavar="URLS", help="parquet, csv, tsv, jsonl or txt; local or remote.")],
    out: Annotated[
        str, typer.Option("--out", help="Makes shards/, lists/ and ledger/ in this folder.", callback=a_folder)
    ],
    site: Annotated[
        str | None, typer.Option("--site", metavar="FOLDER", help="Serve this mini-web on loopback meanwhile.")
    ] = None,
    retry_failed: RetryOption = False,
    settings: SettingsOption = None,
    sample_budget: BudgetOption = None,
    num_cpus: CpusOption = None,
) -> None:
    """Download a URL list into shards, with img2dataset on Ray; what is committed already is kept.

    Images come out upright; addresses in private networks are refused; each failure keeps its reason. The settings
    have img2dataset's own names where it has them.

    **Examples**

        mmcorpus download list.parquet --out data/ --set image_size=384 --set 'save_additional_columns=[similarity]'

        mmcorpus download site/pairs.parquet --out data/ --site site/

        mmcorpus download list.parquet --out data/ --retry-failed
    """
    from mmcorpus.curation.download import DownloadConfig
    from mmcorpus.curation.store.storage import join
    from mmcorpus.pipelines.stages.collect import download as download_list

    config = read_config(DownloadConfig, settings)
    with budget_of(sample_budget), Cluster(num_cpus):
        result = download_list(
            config,
            urls,
            shards=join(out, "shards"),
            lists=join(out, "lists"),
            ledger_root=join(out, "ledger"),
            sites=(site,) if site else (),
            retry_failed=retry_failed,
        )
    say(f"{join(out, 'shards')}: {counted(result.counts)}")
    fail_if(result.failures)


def index(
    paths: Annotated[list[str], typer.Argument(metavar="PATH…", help="Files, folders or globs; local or remote.")],
    out: Annotated[str, typer.Option("--out", help="Makes shards/ and ledger/ in this folder.", callback=a_folder)],
    kind: Annotated[
        str | None, typer.Option("--kind", help="`pair` or `conversation`; else what the first rows are.")
    ] = None,
    image_root: Annotated[
        str | None,
        typer.Option("--image-root", metavar="FOLDER", help="The folder that paths of images are relative to."),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--column", metavar="ROLE=NAME", help="The column that holds the image, caption, conversations, …"
        ),
    ] = None,
    settings: SettingsOption = None,
    sample_budget: BudgetOption = None,
    workers: WorkersOption = None,
    num_cpus: CpusOption = None,
) -> None:
    """Make shards of data that you have, where it lies: images are not copied, but referred to.

    Reads any WebDataset tars, img2dataset's formats, folders of images and texts, Hugging Face parquet and Arrow,
    LLaVA's and ShareGPT's JSON, chat messages; a file's format is told by its first bytes. All commands that take a
    folder of shards take OUT/shards.

    **Examples**

        mmcorpus index cc12m/ --out data/cc12m

        mmcorpus index llava_v1_5_mix665k.json --kind conversation --image-root playground/data --out data/llava

        mmcorpus index FineVision/ai2d --kind conversation --out data/ai2d

        mmcorpus index photos.parquet --column image=picture --column caption=alt --out data/photos
    """
    from mmcorpus.curation.sources import IndexConfig
    from mmcorpus.curation.sources import index as run
    from mmcorpus.curation.sources.direct import kind_of
    from mmcorpus.curation.sources.run import absolute, download_command, images_command
    from mmcorpus.curation.store.storage import join

    roles = named(columns, "--column")
    if kind is None and not any(text.startswith(("kind=", "published=")) for text in settings or ()):
        kind = kind_of(*paths, columns=roles)
        if kind == "conversation":
            say("Its first rows are conversations, and read as such (--kind pair: as an image and a caption).")
    data = {"columns": roles, **({} if kind is None else {"kind": kind})}
    data |= {} if image_root is None else {"image_root": image_root}
    config = read_config(IndexConfig, settings, data)
    if config.image_root is not None:  # so that others know it, whatever folder they are in
        config = dataclasses.replace(config, image_root=absolute(config.image_root))
    if config.downloaded is not None:
        config = dataclasses.replace(config, downloaded=absolute(config.downloaded))
    shards = join(out, "shards")
    with budget_of(sample_budget), Cluster(num_cpus, lazy=True) as cluster:
        report = run(config, paths, shards, join(out, "ledger"), workers=workers, start=cluster.start)
    say(
        f"{shards}: {report.samples:,} samples of {report.rows:,} rows in {report.shards:,} shards, {report.images:,} "
        f"images, {report.copied:,} of them copied ({report.copied_bytes / 1e6:,.1f} MB)"
    )
    if report.dropped:
        say("Dropped: " + ", ".join(f"{count:,} {rule}" for rule, count in report.dropped.items()))
    if report.to_download:
        say(f"{report.to_download:,} rows have their image at an address; to get these: {download_command(shards)}")
    if (several := report.dropped.get("image_url", 0) - report.to_download) > 0:
        say(
            f"{several:,} rows have several images, some at addresses; to get these: {images_command(shards)}, "
            "and then this command again with --set downloaded=FOLDER/shards"
        )
    fail_if(f"{name}: {error}" for name, error in report.failed.items())


def select(
    scores: Annotated[
        str,
        typer.Argument(metavar="SCORES", help="A source's scores, e.g. runs/demo/scores/pairs; or data, judged first."),
    ],
    keep: Annotated[
        list[str] | None, typer.Option("--keep", metavar="EXPR", help="What must be true; repeatable.")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="A published filter: see `mmcorpus profiles`.")] = None,
    settings: SettingsOption = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", help="The selection: .parquet, .npy (DataComp's) or .txt; without it, samples are only counted."
        ),
    ] = None,
    heldout_out: Annotated[str | None, typer.Option("--heldout-out", help="Where the held-out samples go.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what each clause removes alone, and in order.")
    ] = False,
) -> None:
    """Choose samples by their scores; cheap, and done again whenever a threshold moves.

    An expression reads scores as `scorer.column`: comparisons, `and or not`, `in`, arithmetic, `top(x, 0.3)`,
    `bottom(x, 1000)`, `is_null(x)`, `selected("other.parquet")`.

    Of shards, or data that is indexed first (into shards/ beside --out), what the expression asks of the rules that
    ship is judged into scores/ beside --out.

    **Examples**

        mmcorpus select runs/demo/scores/pairs --keep 'image.min_side >= 200 and caption.words > 2' --explain

        mmcorpus select runs/demo/scores/pairs --profile datacomp_basic --out basic.npy

        mmcorpus select scores/ --keep 'top(image.entropy, 0.3)' --set 'subtract=[seen.npy]' --out new.parquet

        mmcorpus select cc12m/ --keep 'image.min_side >= 200' --out data/basic.parquet
    """
    from mmcorpus.curation.selection import SelectConfig
    from mmcorpus.curation.selection import select as run
    from mmcorpus.curation.selection.tables import check_name
    from mmcorpus.curation.store.storage import exists, join

    data = {**({"keep": keep} if keep else {}), **({} if profile is None else {"profile": profile})}
    config = read_config(SelectConfig, settings, data)
    for path in filter(None, (out, heldout_out)):
        check_name(path)
    unread: list[str] = []
    if not are_scores(scores):
        if not exists(scores) and not any(sign in scores for sign in "*?["):
            raise FileNotFoundError(f"{scores}: there is no such folder of scores; `mmcorpus score` makes one")
        if out is None:
            raise UsageError(
                f"{scores} holds no scores; give --out, beside which they are made, or `mmcorpus score` it"
            )
        with Cluster(lazy=True) as cluster:
            found, unread = shards_for(scores, out, start=cluster.start)
            scores = join(beside(out), "scores" + found.suffix)
            scores_for(config.columns, found.folder, scores, start=cluster.start)
    with tempfile.TemporaryDirectory() as nowhere:
        report = run(
            config,
            scores,
            out or os.path.join(nowhere, "selection.parquet"),
            heldout_out=heldout_out or (None if out else os.path.join(nowhere, "heldout.parquet")),
        )
    if explain:
        say(report.text())
    else:
        say(f"{report.samples:,} judged: {report.kept:,} kept, {report.heldout:,} held out, {report.dropped:,} dropped")
    if out:
        say(f"Selection: {out}")
    fail_if(unread)


def reshard(
    shards: ShardsArgument,
    selection: Annotated[str, typer.Option("--selection", help=".parquet, .npy or .txt.")],
    out: Annotated[str, typer.Option("--out", help="Folder of the new shards.", callback=a_folder)],
    samples_per_shard: Annotated[int, typer.Option(min=1, help="Samples in each new shard.")] = 10_000,
    blur_faces: Annotated[
        str | None,
        typer.Option("--blur-faces", metavar="SCORES", help="Tables of the scorer faces; blur what it found."),
    ] = None,
    workers: WorkersOption = None,
    num_cpus: CpusOption = None,
) -> None:
    """Write a selection's samples into new shards, as often as their counts say; images keep their bytes, but for those
    with faces where --blur-faces asks for it.

    Packing does not need this: it reads the selection. Use it to hand a subset on, or to delete the rest.

    **Examples**

        mmcorpus reshard data/shards --selection basic.parquet --out basic/

        mmcorpus reshard s3://bucket/shards --selection basic.npy --out s3://bucket/basic --samples-per-shard 5000

        mmcorpus reshard data/shards --selection basic.parquet --out basic/ --blur-faces data/scores/faces
    """
    from mmcorpus.curation.selection.blur_faces import FaceBlurring
    from mmcorpus.curation.selection.reshard import reshard as run

    blur = FaceBlurring(scores=blur_faces) if blur_faces else None
    with Cluster(num_cpus):
        found, unread = shards_for(shards, out, workers=workers)
        report = run(found.folder, selection, out, samples_per_shard=samples_per_shard, blur=blur, workers=workers)
    say(f"{out}: {counted(report)}")
    if report.missing:
        say(f"{len(report.missing):,} samples of the selection are in no shard that can be read: {report.missing[0]} …")
    if report.unreadable:
        for failure in (*unread, *(f"input shard {name}: {error}" for name, error in report.unreadable.items())):
            say(f"failed: {failure}")
        say("Their samples are not in the new shards. Once they are mended, give another --out: all are laid out anew.")
        raise typer.Exit(FAILED)
    fail_if([*unread, *(f"shard {name}: {error}" for name, error in report.failed.items())])
