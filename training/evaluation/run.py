"""An evaluation from a file of questions to a table of results, its answers committed shard by shard.

OUT/00000.parquet, …   id, seed (of the demonstrations; -1: grey images), answer, reason (null: answered)
    results.json       written last: what `EvaluationReport` says
"""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from mmcorpus.curation.engine.items import run_pending
from mmcorpus.curation.engine.made_from import MadeFrom, digest, plain
from mmcorpus.curation.engine.output import Output
from mmcorpus.curation.store import storage
from mmcorpus.training.evaluation.answering import Checkpoint, Model, Unanswered, grey
from mmcorpus.training.evaluation.asking import ask, read
from mmcorpus.training.evaluation.config import OTHERS, EvaluationConfig
from mmcorpus.training.evaluation.judge import CaptionJudge, Statements
from mmcorpus.training.evaluation.question import Question
from mmcorpus.training.evaluation.readers import read_questions
from mmcorpus.training.evaluation.results import BLANK, EvaluationReport, summarise

RESULTS: Final = "results.json"
VERSION: Final = "1"
_SCHEMA: Final = pa.schema({"id": pa.string(), "seed": pa.int32(), "answer": pa.string(), "reason": pa.string()})
_SHARD: Final = re.compile(r"(\d{5,})\.parquet\Z")


def evaluate(
    config: EvaluationConfig,
    model: Model,
    data: str,
    out: str,
    *,
    selection: str | None = None,
    answers: str | None = None,
    logs: str | None = None,
) -> EvaluationReport:
    """Ask a model the questions of a file or folder and judge its answers, under `out`; goes on where it stopped.

    `selection`: of shards, the samples to ask about. `answers`: where a judge's answers are kept, `logs`: those of its
    servers; below `out` by default. Raises FileNotFoundError and ValueError for data that cannot be read or a layout
    that the model cannot have, `engine.output.MadeOtherwise` where `out` holds something else, Unavailable for a server
    that is of no use.
    """
    if config.layout is not None and not isinstance(model, Checkpoint):
        raise ValueError("layout is for checkpoints: a server lays images out by itself; leave it out")
    questions = read_questions(data, config, selection=selection)
    judge = config.judge
    if judge is None and any(question.metric == "cap_f1" for question in questions):
        raise ValueError("the metric cap_f1 asks a model about captions: give judge.model_name (docs/evaluation.md)")
    shown: list[Question] = []
    if config.shots and config.demonstrations == OTHERS:
        shown = questions
    elif config.shots:
        assert config.demonstrations is not None
        alone = dataclasses.replace(config, limit=None, metric=None, categories={}, only=None)
        shown = read_questions(config.demonstrations, alone)
    made_from = MadeFrom(
        config=plain(config, leave_out=config.unsaid),
        version=VERSION,
        inputs={
            "questions": digest([_told(question) for question in questions]),
            **({"demonstrations": digest([_told(question) for question in shown])} if shown else {}),
            "model": digest(model.identity()),
        },
    )
    output = Output(folder=out, holds="answers", made_from=made_from, writes=(RESULTS,), stale="replace")
    output.claim(committed=bool(_committed(out)))
    size = config.questions_per_shard
    shards = {f"{number:05d}": questions[start : start + size]
              for number, start in enumerate(range(0, len(questions), size))}  # fmt: skip
    if isinstance(model, Checkpoint) and set(shards) - _committed(out):
        model.load(config.layout)  # here, where what is wrong with it is said once, and not of each shard
    run_pending(
        lambda: functools.partial(_answer_shard, config, model, shards, shown, out), list(shards),
        committed=_committed(out), title="evaluate", workers=0, unit="question", size=lambda name: len(shards[name]),
    ).or_raise()  # fmt: skip
    said = pa.concat_tables([storage.read_table(storage.join(out, f"{name}.parquet")) for name in shards])
    judged: dict[tuple[str, str], Statements] = {}
    if judge is not None:
        kept, told = answers or storage.join(out, "judge"), logs or storage.join(out, "logs")
        judged = _judge(judge, config, questions, said, answers=kept, logs=told)
    report = summarise(model.name, config, questions, said, judged)
    storage.write_json(storage.join(out, RESULTS), report.as_dict())
    return report


def _judge(
    judge: CaptionJudge,
    config: EvaluationConfig,
    questions: Sequence[Question],
    said: pa.Table,
    *,
    answers: str,
    logs: str,
) -> dict[tuple[str, str], Statements]:
    """What a judge finds of captions, as `summarise` takes it; its server runs while it is asked."""
    from mmcorpus.curation.scoring.servers.run import served

    captions = {question.id: question.answers for question in questions if question.metric == "cap_f1"}
    rows = said.filter(said["answer"].is_valid()).select(["id", "answer"]).to_pylist()
    asked = list(dict.fromkeys((read(row["answer"], config), row["id"]) for row in rows if row["id"] in captions))
    if not asked:
        return {}
    with served([judge], logs=logs, answers=answers) as (connected,):
        assert isinstance(connected, CaptionJudge)
        found = connected.judged([caption for caption, _ in asked], [captions[name] for _, name in asked])
    return dict(zip(asked, found, strict=True))


def _committed(out: str) -> set[str]:
    return {found[1] for name in storage.list_names(out) if (found := _SHARD.match(name))}


def _told(question: Question) -> Any:
    """A question as what decides its answer: images in the row by their bytes, others by their place."""
    images = [image if isinstance(image, str) else digest(image.hex()) for image in question.images]
    told = {**dataclasses.asdict(question), "images": images}
    return {name: value for name, value in told.items() if value or name not in ("thoughts", "masks")}


def _answer_shard(
    config: EvaluationConfig,
    model: Model,
    shards: Mapping[str, Sequence[Question]],
    shown: Sequence[Question],
    out: str,
    name: str,
) -> dict[str, int]:
    """Ask the questions of a shard, at every seed and with grey images, and commit the answers."""
    questions, rows = shards[name], list[dict[str, Any]]()
    seeds: list[int | None] = [*config.demonstration_seeds] if config.shots else [None]
    blank = grey()
    for seed in [*seeds, *([BLANK] if config.blank else [])]:
        asked = [ask(question, config, shown, seeds[0] if seed == BLANK else seed) for question in questions]
        if seed == BLANK:
            asked = [dataclasses.replace(one, images=(blank,) * len(one.images)) for one in asked]
        answers = model.answer(asked, config.longest, config.batch_size)
        for question, answer in zip(questions, answers, strict=True):
            lost = answer.reason if isinstance(answer, Unanswered) else None
            rows.append({"id": question.id, "seed": 0 if seed is None else seed,
                         "answer": answer if lost is None else None, "reason": lost})  # fmt: skip
    storage.write_table(storage.join(out, f"{name}.parquet"), pa.Table.from_pylist(rows, schema=_SCHEMA))
    return {"unanswered": sum(row["answer"] is None for row in rows)}
