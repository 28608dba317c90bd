"""`mmcorpus score`, `recaption`, `evaluations`, `image-based`: judging samples, using what was written about them, and
what some of them are compared with."""

import posixpath
from typing import TYPE_CHECKING, Annotated

import typer

from mmcorpus.pipelines.commands.common import (
    BudgetOption,
    Cluster,
    CpusOption,
    ShardsArgument,
    UsageError,
    WorkersOption,
    a_folder,
    budget_of,
    fail_if,
    named,
    read_config,
    say,
    settings_option,
)
from mmcorpus.pipelines.commands.data import beside, shards_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmcorpus.filters.scorer import Scorer


def score(
    shards: ShardsArgument,
    out: Annotated[str, typer.Option("--out", help="The source's scores: a folder a scorer.", callback=a_folder)],
    scorers: Annotated[
        list[str] | None,
        typer.Option("--scorer", help="`image`, `caption`, …, or `module:Class`; all rules by default."),
    ] = None,
    settings: Annotated[
        list[str] | None, settings_option("A scorer's parameter: `language.languages=[en, de]`.", "SCORER.KEY=VALUE")
    ] = None,
    embeddings: Annotated[
        str | None,
        typer.Option(
            "--embeddings", help="Where `save_embeddings` puts them; embeddings/ beside the scores by default."
        ),
    ] = None,
    workers: WorkersOption = None,
    model_workers: Annotated[
        int | None,
        typer.Option("--model-workers", help="Processes for scorers that are models; one per GPU by default."),
    ] = None,
    cost: Annotated[
        bool, typer.Option("--cost", help="Only say what asking for texts (`written`) would cost, and ask nothing.")
    ] = False,
    sample_budget: BudgetOption = None,
    num_cpus: CpusOption = None,
) -> None:
    """Judge every sample of some shards: columns of scores by uid, nothing deleted.

    An image is decoded once for all the scorers that want it. Tables that exist and were made with the same parameters
    are kept; others are made anew. Scorers that ask a model server (`mllm`) start one, or use the endpoints given; its
    answers are kept beside the scores, in answers/, so that nothing is asked twice.

    Data that nobody indexed yet (CC3M's tars, say, or parquet) is indexed first, into shards/ beside the scores; see
    `mmcorpus index`.

    **Examples**

        mmcorpus score data/shards --out data/scores

        mmcorpus score data/shards --out data/scores --scorer language --set 'language.languages=[en, fr]'

        mmcorpus score data/shards --out data/scores --scorer my_rules:FaceScorer --workers 8

        mmcorpus score data/shards --out data/scores --scorer clip --set clip.model_name=ViT-B-32 \
            --set clip.pretrained=laion2b_s34b_b79k --set clip.save_embeddings=true

        mmcorpus score data/shards --out data/scores --scorer mllm --set mllm.model_name=Qwen/Qwen2.5-VL-7B-Instruct \
            --set 'mllm.endpoints=["http://gpu1:8000/v1"]'

        mmcorpus score data/shards --out data/scores --scorer written --set written.prompt=recaption \
            --set written.model_name=Qwen/Qwen2.5-VL-7B-Instruct --cost
    """
    from mmcorpus.curation.scoring.servers.score import score as score_shards
    from mmcorpus.pipelines.recipe.load import read_scorers

    judges = read_scorers(scorers, settings or [])
    root = beside(out)
    if cost:
        _say_cost(judges, shards_for(shards, out, workers=0)[0].folder, out)
        return
    with budget_of(sample_budget), Cluster(num_cpus):
        found, unread = shards_for(shards, out, workers=workers)
        report = score_shards(
            found.folder,
            out,
            judges,
            embeddings=embeddings or posixpath.join(root, "embeddings"),
            workers=workers,
            model_workers=model_workers,
            logs=posixpath.join(root, "logs"),
            answers=posixpath.join(root, "answers"),
        )
    say(f"{out}: {report.samples:,} samples, {report.shards:,} shards, {report.skipped:,} of them scored before")
    fail_if([*unread, *(f"shard {name}: {error}" for name, error in report.failed.items())])


def _say_cost(judges: "Sequence[Scorer]", shards: str, out: str) -> None:
    from mmcorpus.curation.scoring.servers.cost import estimate
    from mmcorpus.filters.written import WrittenScorer

    writing = [scorer for scorer in judges if isinstance(scorer, WrittenScorer)]
    if not writing:
        raise UsageError("--cost says what having texts written costs, and no scorer here writes: --scorer written")
    for scorer in writing:
        say(estimate(scorer, shards, out).said())


def recaption(
    shards: Annotated[str, typer.Argument(metavar="SHARDS", help="The shards that were written about.")],
    scores: Annotated[str, typer.Argument(metavar="SCORES", help="Their scores, with the table of the texts.")],
    column: Annotated[str, typer.Argument(metavar="COLUMN", help="The texts: SCORER.COLUMN, such as written.text.")],
    out: Annotated[str, typer.Option("--out", help="Makes shards/ and ledger/ in this folder.", callback=a_folder)],
    kind: Annotated[str, typer.Option("--kind", help="`pair`, or `conversation` for turns.")] = "pair",
    fallback: Annotated[
        str, typer.Option("--fallback", help="Samples without a text: `drop` them, or use their `original` caption.")
    ] = "drop",
    selection: Annotated[
        str | None, typer.Option("--selection", metavar="FILE", help="Of these samples alone.")
    ] = None,
    num_cpus: CpusOption = None,
) -> None:
    """Make shards of what a model wrote about others: its captions, or conversations, with the same images.

    The images stay where they are, and are referred to. All commands that take a folder of shards take OUT/shards.

    **Examples**

        mmcorpus recaption data/shards data/scores written.text --out data/recaptioned --fallback original

        mmcorpus recaption data/shards data/scores capqa.text --kind conversation --out data/capqa
    """
    from mmcorpus.curation.sources.written import WrittenConfig, write_source
    from mmcorpus.curation.store.storage import join

    if kind not in ("pair", "conversation"):
        raise UsageError(f"--kind is {kind}; give pair or conversation")
    given = {"source": posixpath.basename(shards.rstrip("/")), "column": column, "fallback": fallback}
    config = read_config(WrittenConfig, None, given)
    made = join(out, "shards")
    with Cluster(num_cpus, lazy=True) as cluster:
        report = write_source(
            config, "pair" if kind == "pair" else "conversation", shards, scores, made, join(out, "ledger"),
            selection=selection, start=cluster.start,
        )  # fmt: skip
    original = f", {report.original:,} of them with their original caption" if report.original else ""
    say(f"{made}: {report.samples:,} samples in {report.shards:,} shards{original}")
    if report.dropped:
        say("Dropped: " + ", ".join(f"{count:,} {rule}" for rule, count in report.dropped.items()))


def evaluations(
    sets: Annotated[list[str], typer.Argument(metavar="NAME=PATH…", help="Evaluation sets, each by a name.")],
    out: Annotated[str, typer.Option("--out", help="Folder of the index; local or any fsspec URL.")],
    settings: Annotated[
        list[str] | None, settings_option("n, min_words, max_items; sets.NAME.texts, .images, .id.")
    ] = None,
) -> None:
    """Read evaluation sets into an index, so that scoring can find the samples that also occur in them.

    A set is a .jsonl, .parquet or .arrow file, or a folder: of such files, of a dataset saved by Hugging Face
    `datasets`, of WebDataset shards, or of pictures with texts beside them. Every text and picture in a row is
    compared, unless settings name columns. A recipe names the index: `contamination: {index: eval/index}`.

    **Examples**

        mmcorpus evaluations coco=eval/coco.jsonl vqa=eval/vqa/ --out eval/index

        mmcorpus evaluations mmmu=eval/mmmu --out eval/index --set n=8 --set 'sets.mmmu.texts=[question]'
    """
    from mmcorpus.curation.evaluations import EvaluationsConfig, build_index

    entries = {name: {"path": path} for name, path in named(sets, "evaluation set").items()}
    report = build_index(read_config(EvaluationsConfig, settings, {"sets": entries}), out)
    for name, found in report.sets.items():
        say(f"{name}: {found.items:,} items, {found.texts:,} texts, {found.pictures:,} pictures")
        if found.unreadable:
            say(f"  {found.unreadable:,} pictures could not be read, such as {found.example}")
    common = f" ({report.common:,} common ones left out)" if report.common else ""
    say(f"{out}: {report.grams:,} n-grams{common}, contents {report.content}")


def image_based(
    embeddings: Annotated[str, typer.Argument(help="The pool's: embeddings/SOURCE of a run.")],
    scores: Annotated[str, typer.Argument(help="Where the table goes: scores/SOURCE of the run.")],
    target: Annotated[
        str,
        typer.Option(
            "--target", help="The target set's embeddings: a .npy [targets, dimensions], or another embeddings/SOURCE."
        ),
    ],
    name: Annotated[str, typer.Option("--name", help="Name of the score table.")] = "image_based",
    settings: Annotated[
        list[str] | None, settings_option("scorer, clusters, samples_per_cluster, iterations, seed.")
    ] = None,
    workers: WorkersOption = None,
    num_cpus: CpusOption = None,
) -> None:
    """Cluster a pool's image embeddings, and mark the clusters that a target set hits (DataComp, §3.4).

    The pool must have been scored by a `clip` with `save_embeddings: true`, the target by the same model. What is
    written is a score table: `mmcorpus select --keep 'image_based.targets > 0 and top(clip.similarity, 0.3)'` is the
    filter of DataComp-1B, but for its rules for captions.

    **Examples**

        mmcorpus image-based data/web/embeddings data/web/scores --target imagenet.npy

        mmcorpus image-based run/embeddings/web run/scores/web --target run/embeddings/trusted --set clusters=1000
    """
    from mmcorpus.curation.scoring.image_based import ImageBasedConfig, image_based_filter

    config = read_config(ImageBasedConfig, settings)
    with Cluster(num_cpus):
        report = image_based_filter(config, embeddings, scores, target, name=name, workers=workers)
    say(
        f"{report.targets:,} targets hit {report.clusters_hit:,} of {report.clusters:,} clusters: {report.kept:,} of "
        f"{report.samples:,} samples are in them"
    )
    say(f"  {scores.rstrip('/')}/{name}: {name}.targets > 0 keeps them")
