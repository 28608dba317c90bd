"""`mmcorpus evaluate`: questions put to a checkpoint or a server, and what its answers come to."""

from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from mmcorpus.training.evaluation import EvaluationReport
    from mmcorpus.training.evaluation.intervals import Estimate
    from mmcorpus.training.evaluation.results import Result


def evaluate(
    data: Annotated[str, typer.Option("--data", help="A file of questions, or a folder of shards or parquet files.")],
    out: Annotated[str, typer.Option("--out", help="Gets the answers and results.json.", callback=a_folder)],
    checkpoint: Annotated[
        str | None, typer.Argument(metavar="[CKPT]", help="A checkpoint, or a training folder (its latest).")
    ] = None,
    server: Annotated[
        str | None, typer.Option("--server", metavar="URL", help="Ask an OpenAI-compatible server instead: …/v1.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="The server's model, if it serves several.")
    ] = None,
    key_variable: Annotated[
        str | None, typer.Option("--key-variable", metavar="NAME", help="The environment variable with its API key.")
    ] = None,
    selection: Annotated[
        str | None, typer.Option("--selection", metavar="FILE", help="With shards: the samples to ask about.")
    ] = None,
    device: DeviceOption = None,
    settings: SettingsOption = None,
) -> None:
    """Ask a model the questions of a benchmark's file and judge its answers, with 95 % intervals. Resumable.

    **Examples**

        mmcorpus evaluate runs/demo/training/sft --data questions.jsonl --out evaluation/

        mmcorpus evaluate runs/demo/training/sft --data chartqa/test_human.json --out evaluation/
        --set images=chartqa/png --set blank=true

        mmcorpus evaluate --server http://127.0.0.1:8000/v1 --data mmbench_dev.tsv --out evaluation/
    """
    from mmcorpus.filters.serving.config import ClientConfig
    from mmcorpus.training.evaluation import Checkpoint, EvaluationConfig, Server
    from mmcorpus.training.evaluation import evaluate as run
    from mmcorpus.training.evaluation.answering import Model

    if (checkpoint is None) == (server is None):
        raise UsageError("name a checkpoint, or a server by --server URL: one of them answers")
    config = read_config(EvaluationConfig, settings)
    asked: Model
    if checkpoint is not None:
        asked = Checkpoint(checkpoint, device)
    else:
        assert server is not None
        asked = Server(server, model, ClientConfig(key_variable=key_variable))
    report = run(config, asked, data, out, selection=selection)
    _show(report)
    say(f"Answers and results: {out}")


def _show(report: "EvaluationReport") -> None:
    blank = any(result.blank is not None for result in report.results)
    shown = table(
        f"{report.questions:,} questions to {report.model}",
        [
            "metric",
            "category",
            "questions",
            "value",
            "95 %",
            "same answer always",
            *(["grey images", "95 %"] if blank else []),
        ],
        ["metric", "category"],
    )
    for result in report.results:
        cells = [
            result.title,
            result.category or "all",
            f"{result.found.questions:,}",
            *_estimate(result, result.found),
        ]
        cells += [result.shown(result.constant), *(_estimate(result, result.blank) if blank else [])]
        shown.add_row(*cells)
    console().print(shown)
    for reason, count in report.unanswered.items():
        say(f"{count:,} unanswered: {reason}")


def _estimate(result: "Result", found: "Estimate | None") -> list[str]:
    """Value and interval."""
    if found is None:
        return ["–", "–"]
    return [result.shown(found.value), f"{result.shown(found.low)} to {result.shown(found.high)}"]
