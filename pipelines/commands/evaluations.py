"""`mmcorpus evaluations`: evaluation sets into the index that the scorer `contamination` compares with."""

from typing import Annotated

import typer

from mmcorpus.pipelines.commands.common import UsageError, guarded, read_config, say


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(evaluations)


@guarded
def evaluations(
    sets: Annotated[list[str], typer.Argument(metavar="NAME=PATH…", help="Evaluation sets, each by a name.")],
    out: Annotated[str, typer.Option("--out", help="Folder of the index; local or any fsspec URL.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="n, min_words, max_items; sets.NAME.texts, .images, .id."),
    ] = None,
) -> None:
    """Read evaluation sets into an index, so that scoring can say which samples they have too.

    A set is a .jsonl, .parquet or .arrow file, or a folder: of such files, of a dataset saved by Hugging Face
    `datasets`, of WebDataset shards, or of pictures with texts beside them. Every text and picture in a row is
    compared, unless settings name columns. A recipe names the index: `contamination: {index: eval/index}`.

    **Examples**

        mmcorpus evaluations coco=eval/coco.jsonl vqa=eval/vqa/ --out eval/index

        mmcorpus evaluations mmmu=eval/mmmu --out eval/index --set n=8 --set 'sets.mmmu.texts=[question]'
    """
    from mmcorpus.curation.evaluations import EvaluationsConfig, build_index

    entries: dict[str, dict[str, str]] = {}
    for each in sets:
        name, equals, path = each.partition("=")
        if not equals or not name or not path:
            raise UsageError(f"{each!r} is no NAME=PATH; give each evaluation set a name: coco={each}")
        if name in entries:
            raise UsageError(f"two evaluation sets are called {name!r}; give each a name of its own")
        entries[name] = {"path": path}
    report = build_index(read_config(EvaluationsConfig, settings, {"sets": entries}), out)
    for name, found in report.sets.items():
        say(f"{name}: {found.items:,} items, {found.texts:,} texts, {found.pictures:,} pictures")
        if found.unreadable:
            say(f"  {found.unreadable:,} pictures could not be read, such as {found.example}")
    common = f" ({report.common:,} common ones left out)" if report.common else ""
    say(f"{out}: {report.grams:,} n-grams{common}, contents {report.content}")
