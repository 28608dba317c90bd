"""`mmcorpus extract`: pages to documents, the stage on its own."""

from typing import Annotated, Literal

import typer

from mmcorpus.pipelines.commands.common import FAILED, Cluster, CpusOption, a_folder, guarded, read_config, say


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command()(extract)


@guarded
def extract(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT…", help="Files, folders, globs, URLs, or lists of paths; local or remote."),
    ],
    out: Annotated[str, typer.Option("--out", help="Makes documents/ and ledger/ in this folder.", callback=a_folder)],
    kind: Annotated[
        Literal["document", "text"], typer.Option("--kind", help="`text` leaves the images out.")
    ] = "document",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the stage's config, as in a recipe."),
    ] = None,
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
    with Cluster(num_cpus) as cluster:
        cluster.start()
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
    if report.failed_files:
        for name, error in report.failed_files.items():
            say(f"failed: {name}: {error}")
        say("The same command tries them again.")
        raise typer.Exit(FAILED)
