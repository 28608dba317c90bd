"""Windows as jobs: the plan of any number of workers, in whatever order they end, is that of none."""

import dataclasses
import pickle
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mmcorpus.curation.engine.in_order import in_order
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import Sample, list_shards
from mmcorpus.packing import PlanConfig, PlanReport, PlanSource, make_plan, measure_lengths, plan

CONFIG = PlanConfig(context_length=128, tokens_per_image=16, window_shards=2, too_long="truncate")
MIXED = {"mix": {"web": 2.0, "talk": 1.0}, "mix_by": "samples", "epochs": 2.0}
InOrder = Callable[[Any, Iterable[Any]], Iterable[dict[str, Any]]]


def elsewhere(work: Any, jobs: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Jobs as other processes see them, the last first."""
    sent = [pickle.dumps(job) for job in jobs]
    done = [pickle.dumps(work(pickle.loads(job))) for job in reversed(sent)]
    return (pickle.loads(result) for result in reversed(done))


@pytest.fixture(scope="module")
def sources(
    tmp_path_factory: pytest.TempPathFactory,
    make_shards: Callable[..., list[Sample]],
    select: Callable[..., pa.Table],
    tokenizer_folder: str,
) -> dict[str, PlanSource]:
    """Pairs some of which several shards have, some have several captions, some are too long; and conversations."""
    root = tmp_path_factory.mktemp("windows")
    web, talk = make_shards(root / "web", 5, 12), make_shards(root / "talk", 3, 9, conversations=True, seed=1)
    uids = [sample.uid for sample in web]
    for shard in list_shards(str(root / "web")):
        rows = storage.read_table(shard.parquet).to_pylist()
        for row in rows:
            if row["uid"] in uids[:30:3]:
                row["caption"] = "red " * (200 if row["uid"] == uids[0] else 20)
            if row["uid"] in uids[40:50]:  # another sample of the first shards once more: the first counts
                row["uid"] = uids[uids.index(row["uid"]) - 35]
        storage.write_table(shard.parquet, pa.Table.from_pylist(rows))
    named = pa.table(
        {"uid": uids[20:24], "captions": [["a red clock", f"one of {n}", "blue " * 400] for n in range(4)]}
    )
    lengths = str(root / "lengths")
    measure_lengths(str(root / "talk"), "conversation", tokenizer=tokenizer_folder, config=CONFIG, out=lengths)
    pairs = select(web, {uids[1]: 3})
    return {
        "web": PlanSource(shards=str(root / "web"), selection=pairs, kind="pair", annotations=named),
        "talk": PlanSource(shards=str(root / "talk"), selection=select(talk), kind="conversation", lengths=lengths),
    }


@pytest.fixture
def planned(
    tmp_path: Path, tokenizer_folder: str, sources: dict[str, PlanSource], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[PlanReport, dict[str, bytes]]]:
    monkeypatch.setattr(plan, "SPREAD", 1)

    def run(map_fn: InOrder | None, **settings: Any) -> tuple[PlanReport, dict[str, bytes]]:
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        report = make_plan(
            dataclasses.replace(CONFIG, **settings),
            tokenizer=tokenizer_folder,
            sources=sources,
            out=f"{out}/plan.parquet",
            ledger_root=f"{out}/ledger",
            map_fn=map_fn,
        )
        return report, {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}

    return run


@pytest.mark.parametrize("settings", [{}, MIXED], ids=["as selected", "mixed"])
def test_plan_and_ledger_are_the_same_bytes(planned: Any, settings: dict[str, Any]) -> None:
    report, files = planned(None, **settings)
    assert report.annotated == report.captions_left_out == 4
    assert report.truncated == 1
    assert report.verdicts["web"] == {"kept": 50, "missing_sample": 10}
    assert sorted(files) == ["ledger/talk/pack.parquet", "ledger/web/pack.parquet", "plan.parquet"]
    assert planned(map, **settings) == (report, files)
    assert planned(elsewhere, **settings) == (report, files)


def test_few_samples_are_planned_here(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SPREAD", 1000)
    assert planned(lambda *_: pytest.fail("spread")) == planned(None)


def test_jobs_are_made_as_there_is_room_for_them(planned: Any) -> None:
    made: list[int] = []

    def one_ahead(work: Any, jobs: Iterable[Any]) -> Iterator[dict[str, Any]]:
        for number, job in enumerate(jobs):
            made.append(len(job.verdicts["web"].copies))
            yield {**work(job), "job": number}

    report, _ = planned(one_ahead)
    assert len(made) == 4
    assert sum(made) == report.verdicts["web"]["kept"], "each uid goes out with one window"


def test_on_ray(planned: Any, ray_local: None) -> None:
    assert planned(in_order, **MIXED) == planned(None, **MIXED)


def test_what_work_on_ray_refuses_reads_as_here(ray_local: None) -> None:
    def refuse(job: str) -> dict[str, Any]:
        if job == "second":
            raise ValueError("measure the lengths again")
        return {"name": job}

    results = in_order(refuse, ["first", "second", "third"])
    assert next(results) == {"name": "first"}
    with pytest.raises(ValueError, match=r"^measure the lengths again$"):
        next(results)
