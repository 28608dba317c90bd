"""`mmcorpus export-documents`: documents for those who read other forms than ours."""

from typing import Annotated

import typer

from mmcorpus.pipelines.commands.common import FAILED, Cluster, CpusOption, WorkersOption, a_folder, guarded, say


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command("export-documents")(export_documents)


@guarded
def export_documents(
    shards: Annotated[str, typer.Argument(metavar="SHARDS", help="Trimmed documents: RUN/shards/SOURCE.trimmed.")],
    out: Annotated[str, typer.Option("--out", help="Folder of the parquet files.", callback=a_folder)],
    selection: Annotated[
        str | None, typer.Option("--selection", help=".parquet, .npy or .txt; every document by default.")
    ] = None,
    workers: WorkersOption = None,
    num_cpus: CpusOption = None,
) -> None:
    """Write documents as parquet in OBELICS's schema: parallel lists of texts and images, which are their addresses.

    One file a shard; what is there is kept. `metadata` says of each image its address, alt text and sizes,
    `general_metadata` of each document its address and the record it was read from.

    **Examples**

        mmcorpus export-documents runs/pages/shards/pages.trimmed --out obelics/

        mmcorpus export-documents s3://bucket/run/shards/pages.trimmed --selection selections/pages.parquet --out out/
    """
    from mmcorpus.curation.documents.export_obelics import export_obelics

    with Cluster(num_cpus) as cluster:
        cluster.start()
        report = export_obelics(shards, out, selection=selection, workers=workers)
    say(f"{out}: {report.documents:,} documents with {report.images:,} images in {report.files:,} files")
    if report.missing:
        say(f"{report.missing:,} selected documents are in none of the shards")
    if report.failed:
        for name, error in report.failed.items():
            say(f"failed: {name}: {error}")
        say("The same command tries them again.")
        raise typer.Exit(FAILED)
