"""The stages after selection: the tokenizer, and for each pack its plan and its shards."""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from mmcorpus.curation.engine.made_from import digest, file_digest, plain, table_digest
from mmcorpus.curation.engine.stage import Result, Stage
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import list_shards
from mmcorpus.packing.config import PlanConfig
from mmcorpus.packing.documents import parse_nodes
from mmcorpus.packing.inputs import read_texts
from mmcorpus.packing.materialise import PackConfig, files_below, write_packs
from mmcorpus.packing.measure import measure_lengths, measuring
from mmcorpus.packing.plan import PlanReport, PlanSource, make_plan
from mmcorpus.packing.render import RenderConfig, parse_annotations, render
from mmcorpus.packing.turns import parse_conversation
from mmcorpus.packing.vocabulary import train_tokenizer
from mmcorpus.pipelines.recipe.schema import DEDUP, PackEntry, TrainTokenizerConfig
from mmcorpus.pipelines.stages.context import HELDOUT, RunContext, counts

FEW_JOBS: Final = 2
"""So many pack shards are written sooner here than workers have imported what writing needs."""
TOKENIZER: Final = "tokenizer/train"
_TOKENIZER_FILES: Final = (".json", ".jinja", ".txt", ".model", ".tiktoken")
"""What tokenizers are read from; a model's weights may lie in the same folder."""


def packing_stages(run: RunContext) -> Iterator[Stage]:
    """The tokenizer, and of each pack its sources' lengths, the plan and the shards, then those of what is held out."""
    config = run.file.tokenizer
    if config is not None and config.train is not None and run.file.pack:
        yield _tokenizer(run, config.train)
    ledgered: set[str] = set()
    measured: set[str] = set()
    for name, pack in run.file.pack.items():
        for source in pack.sources:
            if source not in pack.annotations:
                stage = _lengths(run, source, pack)
                if stage.name not in measured:
                    measured.add(stage.name)
                    yield stage
        # The run's ledger follows each sample into the first pack that takes it; what another pack of the same source
        # makes of it stays beside that pack's plan.
        own = [source for source in pack.sources if source not in ledgered]
        ledgered.update(own)
        yield from _pack(run, name, pack, ledgered=own)
        if has_heldout(run, name):
            yield from _pack(run, name, pack, heldout=True)


def has_heldout(run: RunContext, pack: str) -> bool:
    """Whether any source of a pack keeps samples aside."""
    return any(run.keeps_aside(source) for source in run.file.pack[pack].sources)


def _keeping_aside(run: RunContext, pack: PackEntry) -> list[str]:
    """Those of a pack's sources that keep samples aside; of several that select from one, and so keep the same aside,
    the first."""
    first = {run.populations[source].judged_as: source for source in reversed(pack.sources) if run.keeps_aside(source)}
    return [source for source in pack.sources if source in first.values()]


def _rows(run: RunContext, sources: Sequence[str]) -> list[str]:
    """The stages that make the sources' rows."""
    return [run.populations[source].made_by for source in sources]


def _selected(run: RunContext, sources: Sequence[str], *, heldout: bool = False) -> list[str]:
    """The stages that make and select the sources' rows, or what they keep aside."""
    by = {source: run.populations[source].judged_as if heldout else source for source in sources}
    return [stage for source in sources for stage in (*_rows(run, [source]), f"{by[source]}/select")]


def _shards(run: RunContext, source: str) -> str:
    return run.at("shards", run.populations[source].shards)


def _tokenizer(run: RunContext, config: TrainTokenizerConfig) -> Stage:
    packed = dict.fromkeys(source for pack in run.file.pack.values() for source in pack.sources)
    vocab_size, sources = config.vocab_size, list(config.sources or packed)

    def work() -> Result:
        texts: list[str] = []
        for source in sources:
            chosen = set(storage.read_table(run.selection(source), columns=["uid"])["uid"].to_pylist())
            texts.extend(tokenizer_texts(_shards(run, source), run.file.sources[source].kind, chosen))
        out = run.at("tokenizer")
        train_tokenizer(texts, vocab_size, out)
        return Result(counts={"texts": len(texts)}, content=file_digest(storage.join(out, "tokenizer.json")))

    return Stage(
        name=TOKENIZER,
        version="2",  # 1 read nothing of annotations
        config={"vocab_size": vocab_size, "sources": sources},
        needs=tuple(_selected(run, sources)),
        outputs=("tokenizer",),
        run=work,
    )


def tokenizer_texts(shards: str, kind: Any, chosen: set[str]) -> Iterator[str]:
    """What a tokenizer learns from: the captions, texts of conversations or documents of the chosen samples."""
    for shard in list_shards(shards):
        for text in read_texts(shard, kind, chosen)["text"].to_pylist():
            if text is None:
                continue
            if kind == "pair":
                yield text
                continue
            with contextlib.suppress(ValueError):  # the planner drops it, with the reason
                if kind == "conversation" and (annotations := parse_annotations(text)) is not None:
                    branches = render(annotations, RenderConfig(), 0)
                    yield from (content for branch in branches for _, content in branch.turns)
                elif kind == "conversation":
                    yield from (content for _, content in parse_conversation(text))
                else:
                    yield from (node for node in parse_nodes(text) if isinstance(node, str))


def _tokenizer_of(run: RunContext) -> tuple[str, dict[str, str], tuple[str, ...]]:
    """Where the tokenizer is, what of it decides the plan, and the stage that makes it."""
    config = run.file.tokenizer
    assert config is not None, "recipes with packs and no tokenizer are refused"
    if config.train is not None:
        return run.at("tokenizer"), {}, (TOKENIZER,)
    assert config.name is not None
    return config.name, {"tokenizer": config.name, **tokenizer_files(config.name)}, ()


def tokenizer_files(name: str) -> dict[str, str]:
    """The digest of a tokenizer's folder, so that an edited template or vocabulary is noticed; none of a hub name."""
    if "://" not in name and not os.path.isdir(name):
        return {}
    hashes = {
        file: storage.sha256(storage.join(name, file)) for file in files_below(name) if file.endswith(_TOKENIZER_FILES)
    }
    return {"tokenizer_files": hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:32]}


def _measured(run: RunContext, source: str, pack: PackEntry) -> tuple[str, str, dict[str, Any]]:
    """The stage that measures a pack's source, its folder, and the settings that it measures by, which packs share."""
    _, named, _ = _tokenizer_of(run)
    settings = {**measuring(run.file.sources[source].kind, pack), **named}
    name = f"{run.populations[source].judged_as}/lengths-{digest(settings)[:8]}"
    return name, f"lengths/{name.replace('/lengths', '')}", settings


def _lengths(run: RunContext, source: str, pack: PackEntry) -> Stage:
    """How long a source's samples are: those of all its shards, whatever is selected."""
    name, folder, settings = _measured(run, source, pack)
    tokenizer, _, made_by = _tokenizer_of(run)
    kind = run.file.sources[source].kind

    def work() -> Result:
        found = measure_lengths(
            _shards(run, source), kind, tokenizer=tokenizer, config=_config(pack), out=run.at(folder),
            map_fn=over_ray(run.start_ray, run.at(folder)),
        )  # fmt: skip
        return Result(counts=found)

    return Stage(
        name=name,
        config=plain(settings),
        needs=(*_rows(run, [source]), *made_by),
        outputs=(folder,),
        invalidated_by=(),  # each table knows what it was made from
        ray="maybe",
        run=work,
    )


def _config(pack: PackEntry) -> PlanConfig:
    return PlanConfig(**{field.name: getattr(pack, field.name) for field in dataclasses.fields(PlanConfig)})


def _pack(
    run: RunContext, name: str, pack: PackEntry, *, ledgered: Sequence[str] = (), heldout: bool = False
) -> tuple[Stage, Stage]:
    """The plan and the shards of a pack, or of what is held out from it."""
    from mmcorpus.curation.dedup.annotations import FILE

    config = _config(pack)
    if heldout:  # held-out samples are all packed, as they are: a mixture is for learning
        config = dataclasses.replace(config, mix={}, mix_groups={}, epochs=1.0)
    tokenizer, named, made_by = _tokenizer_of(run)
    title = f"{name}.{HELDOUT}" if heldout else name
    sources = _keeping_aside(run, pack) if heldout else pack.sources
    kinds = {source: run.file.sources[source].kind for source in sources}
    annotated = {source: own for source, own in pack.annotations.items() if source in sources}
    lengths = {source: _measured(run, source, pack) for source in sources if source not in annotated}
    plan, packs, own_ledger = f"plans/{title}.parquet", f"packs/{title}", f"plans/{title}.ledger"

    stored = PackConfig(**{field.name: getattr(pack, field.name) for field in dataclasses.fields(PackConfig)})
    how = {name: value for name, value in dataclasses.asdict(stored).items() if value != getattr(PackConfig(), name)}

    def make() -> Result:
        given = {
            source: PlanSource(
                shards=_shards(run, source),
                selection=run.heldout(source) if heldout else run.selection(source),
                kind=kind,
                annotations=run.at(DEDUP, annotated[source], FILE) if source in annotated else None,
                lengths=run.at(lengths[source][1]) if source in lengths else None,
            )
            for source, kind in kinds.items()
        }
        report = make_plan(
            config, tokenizer=tokenizer, sources=given, out=run.at(plan), ledger_root=run.at(own_ledger),
            map_fn=in_order_over_ray(run.start_ray),
        )  # fmt: skip
        verdicts = sum(map(Counter, report.verdicts.values()), Counter[str]())
        rare = counts(report, "truncated", "split", "annotated", "captions_left_out")
        shown = {
            **counts(report, "sequences", "samples", "images", "tokens", "positions", "lower_bound", "bound"),
            "fill": round(report.fill, 6),
            "of_bound": round(report.of_bound, 6),
            "mixing": round(report.mixing, 4),
            "packing_factor": round(report.packing_factor, 4),
            **{name: count for name, count in rare.items() if count},
            **_shown_mixture(report),
            "dropped": {rule: count for rule, count in verdicts.items() if rule != ledger.KEPT},
        }
        return Result(counts=shown, content=table_digest(run.at(plan)))

    def write() -> Result:
        out = run.at(packs)
        report = write_packs(
            stored,
            plan=run.at(plan),
            tokenizer=tokenizer,
            tokenizer_name=named.get("tokenizer"),
            shards={source: _shards(run, source) for source in sources},
            out=out,
            ledger_root=run.at(own_ledger),
            # Decoders may take their process down.
            map_fn=over_ray(run.start_ray, out, few=0 if stored.images == "resized" else FEW_JOBS),
        )
        for source in ledgered:  # the plan's verdicts, amended for images that are missing
            verdicts = storage.read_bytes(run.at(own_ledger, source, "pack.parquet"))
            storage.write_bytes(run.at("ledger", source, "pack.parquet"), verdicts)
        if pack.format != "webdataset":
            from mmcorpus.packing.pickles import write_pickles

            write_pickles(out, f"{out}.pickles", map_fn=over_ray(run.start_ray, f"{out}.pickles", few=0))
        dropped = sum(count for rules in report.dropped.values() for count in rules.values())
        written = {"bytes": report.bytes, "shards": report.written + report.resumed, "dropped": dropped}
        saved = {f"images_{name}": count for name, count in report.stored.items()}
        return Result(
            counts={**report.counts, **written, **saved},
            failures=[f"{place}: {why}" for place, why in report.damaged.items()],
            content=file_digest(storage.join(out, "manifest.json")),
        )

    planning = Stage(
        name=f"{title}/plan",
        config={
            **plain(config.settings()),
            **named,
            "sources": kinds,
            **({"annotations": annotated} if annotated else {}),
        },
        # 3: sequences are filled exactly. 4: conversations have their rows' images, tiled images a column of crops, and
        # a mixture holds in each window. 5: samples of few kinds are packed by column generation. 6: of three
        # limits all are aimed at, and many windows share the work of column generation.
        version="6",
        needs=(
            *_selected(run, sources, heldout=heldout),
            *(f"{DEDUP}/{own}#{FILE}" for own in dict.fromkeys(annotated.values())),
            *made_by,
            *(stage for stage, *_ in lengths.values()),
        ),
        outputs=(plan, own_ledger),
        ray="maybe",
        run=make,
    )
    writing = Stage(
        name=f"{title}/packs",
        config={"format": pack.format, "sequences_per_shard": pack.sequences_per_shard, **how, **named},
        needs=(planning.name, *_rows(run, sources), *made_by),
        outputs=(
            packs,
            *([] if pack.format == "webdataset" else [f"{packs}.pickles"]),
            *(f"ledger/{source}/pack.parquet" for source in ledgered),
        ),
        invalidated_by=(),  # pack shards carry the fingerprint of what they were made from
        ray="maybe",
        run=write,
    )
    return planning, writing


def _shown_mixture(report: PlanReport) -> dict[str, Any]:
    """Of several sources, or of copies, the shares of positions and how often samples are used."""
    if len(report.seen) == 1 and report.most_seen[next(iter(report.seen))] <= 1:
        return {}
    rounded = {
        name: {source: round(own, 4) for source, own in getattr(report, name).items()} for name in ("shares", "seen")
    }
    return {**rounded, "most_seen": report.most_seen}


def over_ray(
    start_ray: Callable[[], None], out: str, *, few: int = FEW_JOBS
) -> Callable[[Any, Sequence[Any]], list[dict[str, Any]]]:
    """A map over jobs whose output is `out` that spreads them over Ray, which it starts only if they are more than
    `few`: 0 for work on images, whose decoders may take their process down."""

    def spread(work: Any, jobs: Sequence[Any]) -> list[dict[str, Any]]:
        if len(jobs) <= few:
            return [work(job) for job in jobs]
        from mmcorpus.curation.engine.items import run_pending

        start_ray()
        ran = run_pending(lambda: work, jobs, title="packs", aside=out).or_raise()
        return [outcome.result for outcome in ran.outcomes if outcome.result is not None]

    return spread


def in_order_over_ray(start_ray: Callable[[], None]) -> Callable[[Any, Iterable[Any]], Iterator[dict[str, Any]]]:
    """A map over jobs that spreads them over Ray, which it starts, and gives their results in the jobs' order."""

    def spread(work: Any, jobs: Iterable[Any]) -> Iterator[dict[str, Any]]:
        from mmcorpus.curation.engine.in_order import in_order

        start_ray()
        yield from in_order(work, jobs)

    return spread
