"""The command `mmcorpus`. Each command imports what it needs when it runs, so that `--help` is quick."""

import os
import sys
from collections.abc import Callable
from typing import Annotated, Final

import typer

from mmcorpus.pipelines.commands import (
    common,
    curate,
    dedup,
    dfn,
    documents,
    evaluate,
    export,
    learn,
    look,
    models,
    run,
    score,
    soup,
    trials,
)

COMMANDS: Final[tuple[Callable[..., None], ...]] = (
    *(run.run, run.validate),
    *(curate.web, curate.render, curate.download, curate.index),
    *(score.score, score.recaption, curate.select, curate.reshard),
    *(dedup.dedup, dedup.methods, documents.extract, documents.export_documents),
    *(score.evaluations, score.image_based, dfn.dfn),
    *(learn.plan, learn.pack, learn.train, learn.generate, evaluate.evaluate),
    *(soup.soup, trials.individual_select, models.export_model, models.import_model, models.chat),
    *(look.status, look.inspect, look.report, look.verify, look.profiles, look.scorers),
)
"""As the help lists them; each by its function's name."""

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


for command in COMMANDS:
    app.command(command.__name__.replace("_", "-"))(common.guarded(command))

exports = typer.Typer(
    name="export",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Write samples, documents or packs for other programs: one command per layout; its help says what is lost.",
)
for layout in export.KINDS:
    exports.command(layout.__name__)(common.guarded(layout))
app.add_typer(exports)


def main() -> None:
    """The entry point of the installed command."""
    sys.path.append(os.getcwd())  # scorers in a file beside the user; Ray gives it to its workers as well
    app()


if __name__ == "__main__":
    main()
