"""`mmcorpus soup`: one model of the mean of several."""

from typing import Annotated, cast, get_args

import typer

from mmcorpus.pipelines.commands.common import (
    DeviceOption,
    SettingsOption,
    UsageError,
    a_folder,
    console,
    read_config,
    say,
    table,
)


def soup(
    checkpoints: Annotated[
        list[str], typer.Argument(metavar="CKPT...", help="Checkpoints, or training folders (their latest).")
    ],
    out: Annotated[str, typer.Option("--out", help="Gets the soup, a checkpoint.", callback=a_folder)],
    method: Annotated[
        str, typer.Option("--method", help="average: all; maximum: the best; greedy: each that makes it no worse.")
    ] = "average",
    top: Annotated[int | None, typer.Option("--top", min=1, help="How many maximum takes; half by default.")] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Questions that judge the models, as evaluate takes them.")
    ] = None,
    selection: Annotated[
        str | None, typer.Option("--selection", metavar="FILE", help="Of shards, the samples to ask about.")
    ] = None,
    device: DeviceOption = None,
    settings: SettingsOption = None,
) -> None:
    """Average the weights of models that were tuned from the same one (POINTS' model soups). Resumable.

    `--set` takes the settings of `mmcorpus evaluate`; the first line of its results is the score.

    **Examples**

        mmcorpus soup training/base training/base+charts training/base+ocr --out training/soup

        mmcorpus soup training/base* --out training/soup --method greedy --data questions.jsonl --set limit=500
    """
    from mmcorpus.training.evaluation import Checkpoint, EvaluationConfig, evaluate
    from mmcorpus.training.soup import Method
    from mmcorpus.training.soup import soup as make

    if method not in get_args(Method):
        raise UsageError(f"--method is {method!r}; give average, maximum or greedy")
    if method != "average" and data is None:
        raise UsageError(f"--method {method} needs --data: the questions that judge the models")
    if method == "average" and (data or selection or settings):
        raise UsageError("average takes all and asks nothing; leave out --data, or say --method maximum or greedy")
    config = read_config(EvaluationConfig, settings)

    def score(checkpoint: str) -> float:
        report = evaluate(
            config, Checkpoint(checkpoint, device), data or "", f"{out.rstrip('/')}.trials/answers", selection=selection
        )
        return report.results[0].found.value

    report = make(
        checkpoints,
        out,
        method=cast(Method, method),
        top=top,
        score=score if data else None,
        scored_by=repr((data, selection, config)),
    )
    if report.scores:
        shown = table("Models", ["checkpoint", "score", "in the soup"], ["checkpoint"])
        for path, value in sorted(report.scores.items(), key=lambda item: -item[1]):
            shown.add_row(path, f"{value:.4f}", "yes" if path in report.members else "no")
        console().print(shown)
        say(f"The soup of {len(report.members)}: {report.score:.4f}")
    say(f"Checkpoint: {out}")
