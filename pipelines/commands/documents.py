"""`mmcorpus extract`: pages to documents; `export-documents`: documents for those who read other forms than ours."""

from typing import Annotated, Literal

import typer

from mmcorpus.pipelines.commands.common import (
    BudgetOption,
    Cluster,
    CpusOption,
    SettingsOption,
    WorkersOption,
    a_folder,
    budget_of,
    fail_if,
    read_config,
    say,
)


def extract(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT…", help="Files, folders, globs, URLs, or lists of paths; local or remote."),
    ],
    out: Annotated[str, typer.Option("--out", help="Makes documents/ and ledger/ in this folder.", callback=a_folder)],
    kind: Annotated[
        Literal["document", "text"], typer.Option("--kind", help="`text` leaves the images out.")
    ] = "document",
    settings: SettingsOption = None,
    sample_budget: BudgetOption = None,
    num_cpus: CpusOption = None,
) -> None:
    """Extract documents, texts and images in page order, from WARC files, HTML, or corpora of documents.

    Every page ends as a row: a document, or the reason why there is none. Of several captures of an address the latest
    stays. What is committed already is kept: the same command goes on where it was stopped.

    **Examples**

        mmcorpus extract crawl/*.warc.gz --out data/

        mmcorpus extract site.zip --out data/ --set url_prefix=https://example.org/

        mmcorpus extract warc.paths.gz --out data/ --set prefix=https://data.commoncrawl.org/

        mmcorpus extract obelics/*.parquet --out data/ --set format=obelics

        mmcorpus extract books.jsonl.gz --out data/ --kind text --set text_col=content
    """
    from mmcorpus.curation.crawl.config import PagesConfig
    from mmcorpus.curation.documents.capture import choose_captures
    from mmcorpus.curation.documents.extract import extract_documents
    from mmcorpus.curation.store.storage import join

    config = read_config(PagesConfig, settings)
    documents, ledger = join(out, "documents"), join(out, "ledger")
    with budget_of(sample_budget), Cluster(num_cpus):
        report = extract_documents(config, inputs, documents, ledger, kind=kind)
        captured = choose_captures(
            documents, f"{documents}.captures", ledger, join(out, "dedup"), captures=config.captures
        )
    say(
        f"{documents}: {report.pages:,} pages of {report.files:,} files, {report.documents:,} documents with "
        f"{report.texts:,} texts and {report.images:,} images; {captured.kept:,} stay as captures"
    )
    for title, counts in (("no document", report.failed), ("no pages", report.others), ("captures", captured.dropped)):
        if counts:
            say(f"{title}: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))
    if report.opted_out:
        say(f"{report.opted_out:,} documents ask not to be used; they are kept, and marked")
    fail_if(f"{name}: {error}" for name, error in report.failed_files.items())


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

    with Cluster(num_cpus):
        report = export_obelics(shards, out, selection=selection, workers=workers)
    say(f"{out}: {report.documents:,} documents with {report.images:,} images in {report.files:,} files")
    if report.missing:
        say(f"{report.missing:,} selected documents are in none of the shards")
    fail_if(f"{name}: {error}" for name, error in report.failed.items())
