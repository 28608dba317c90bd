"""The command `mmcorpus`. Each command imports what it needs when it runs, so that `--help` is quick."""

import os
import sys
from typing import Annotated

import typer

from mmcorpus.pipelines.commands import common
from mmcorpus.pipelines.commands.curate import register as add_curation
from mmcorpus.pipelines.commands.dedup import register as add_deduplication
from mmcorpus.pipelines.commands.dfn import register as add_network
from mmcorpus.pipelines.commands.documents import register as add_documents
from mmcorpus.pipelines.commands.evaluations import register as add_evaluations
from mmcorpus.pipelines.commands.extract import register as add_extraction
from mmcorpus.pipelines.commands.image_based import register as add_image_based
from mmcorpus.pipelines.commands.learn import register as add_learning
from mmcorpus.pipelines.commands.look import register as add_looking
from mmcorpus.pipelines.commands.run import register as add_running

app = typer.Typer(
    name="mmcorpus",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"mmcorpus {version('mmcorpus')}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    """From image URLs to packed, trainable corpora, and a vision-language model trained on them.

    Start with `mmcorpus run demo --out runs/demo`. A run can be stopped at any moment and resumed by
    the same command. Exit codes: 0 done, 1 some work failed, 2 the command or recipe is wrong, 130 stopped by Ctrl-C.
    """
    common.debug = debug


for add in (
    add_running,
    add_curation,
    add_deduplication,
    add_extraction,
    add_documents,
    add_evaluations,
    add_image_based,
    add_network,
    add_learning,
    add_looking,
):
    add(app)


def main() -> None:
    """The entry point of the installed command."""
    sys.path.append(os.getcwd())  # scorers in a file beside the user; Ray gives it to its workers as well
    app()


if __name__ == "__main__":
    main()
