"""`mmcorpus image-based`: DataComp's image-based filter over a source's saved embeddings."""

from typing import Annotated

import typer

from mmcorpus.pipelines.commands.common import Cluster, CpusOption, WorkersOption, guarded, read_config, say


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("image-based")(image_based)


@guarded
def image_based(
    embeddings: Annotated[str, typer.Argument(help="The pool's: embeddings/SOURCE of a run.")],
    scores: Annotated[str, typer.Argument(help="Where the table goes: scores/SOURCE of the run.")],
    target: Annotated[
        str,
        typer.Option(
            "--target", help="Embeddings to be like: a .npy [targets, dimensions], or another embeddings/SOURCE."
        ),
    ],
    name: Annotated[str, typer.Option("--name", help="Of the score table.")] = "image_based",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="scorer, clusters, samples_per_cluster, iterations, seed."),
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
    with Cluster(num_cpus) as cluster:
        cluster.start()
        report = image_based_filter(config, embeddings, scores, target, name=name, workers=workers)
    say(
        f"{report.targets:,} targets hit {report.clusters_hit:,} of {report.clusters:,} clusters: {report.kept:,} of "
        f"{report.samples:,} samples are in them"
    )
    say(f"  {scores.rstrip('/')}/{name}: {name}.targets > 0 keeps them")
