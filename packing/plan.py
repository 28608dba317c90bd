"""The plan: which samples share which sequence, made from lengths alone, before any image is read.

Consecutive input shards form windows, each with its share of every source, and sequences are packed within a window, so
that writing a pack touches few input shards at a time. A plan's parquet has one row group a window.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmcorpus.curation.engine.progress import Progress
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import list_shards
from mmcorpus.packing.annotations import CAPTIONS, Annotations
from mmcorpus.packing.bounds import Bound, Mixing, beside_bound, lower_bound
from mmcorpus.packing.columns import MOST_TOLD, tighter
from mmcorpus.packing.config import PlanConfig
from mmcorpus.packing.exact import kinds_of
from mmcorpus.packing.inputs import Kind
from mmcorpus.packing.mixture import Amount, factors, over_cap
from mmcorpus.packing.samples import template_hash
from mmcorpus.packing.tokens import load_tokenizer, special_ids, tokenizer_fingerprint
from mmcorpus.packing.verdicts import SourceVerdicts
from mmcorpus.packing.window import plan_schema
from mmcorpus.packing.window_jobs import ShardShare, WindowJob, Windows, measure_window, plan_window, windows_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

METADATA_KEY: Final = b"mmcorpus"
SPREAD: Final = 1 << 19
"""Selected samples: fewer are planned sooner here than workers have imported what planning needs."""
InOrder = Callable[[Callable[[Any], dict[str, Any]], Iterable[Any]], Iterable[dict[str, Any]]]
"""Applies a function to jobs, here or on other machines; results in the jobs' order."""
_log = logging.getLogger(__name__)
_TOTALS: Final = (
    *("sequences", "samples", "images", "tokens", "positions"),
    *("truncated", "split", "annotated", "captions_left_out"),
)


@dataclass(frozen=True, kw_only=True)
class PlanSource:
    """One source of a plan."""

    shards: str
    """The folder of its shards."""
    selection: pa.Table | str
    """The selection, `uid` and `count`, or its path in any form that `select` writes (.parquet, .npy, .txt)."""
    kind: Kind
    annotations: pa.Table | str | None = None
    """Pairs with several captions, or the parquet's path: `uid` and `captions` (list<string>), as a pass of
    deduplication writes them. What it names has those captions in place of its own, each an annotation of the image."""

    lengths: str | None = None
    """Where `measure_lengths` put its tables; without them its texts are read and measured now."""

    def __post_init__(self) -> None:
        if self.annotations is not None and self.kind != "pair":
            raise ValueError(f"annotations are captions of images, and this source is of kind {self.kind!r}")
        if self.annotations is not None and self.lengths is not None:
            raise ValueError("annotations are measured as they are planned: give a source lengths or annotations")


@dataclass(frozen=True, kw_only=True)
class PlanReport:
    """The counts of a plan."""

    sequences: int
    samples: int
    """Copies counted."""
    images: int
    tokens: int
    """Input ids, images counted once."""
    positions: int
    """Expanded."""
    truncated: int
    """Samples, copies not counted, that lost their end."""
    split: int
    """Samples, copies not counted, that became several."""
    annotated: int
    """Samples, copies not counted, with several captions."""
    captions_left_out: int
    """Of captions of such samples, copies not counted, those that do not fit into a sequence."""
    lower_bound: int
    """No plan of these samples has fewer sequences: the largest bound over all limits (`bounds.py`), or, where the plan
    misses that, the one of a linear program over all limits together (`columns.py`)."""
    bound: str
    """Which limit that is: `positions`, `images` or `crops`, with ` (L2)` or ` (DFF)` where it is more than their sum
    asks for; one beside another, as `images beside positions`; or all of them, with ` (LP)`."""
    of_bound: float
    """lower_bound / sequences: 1 is as full as any plan can be."""
    mixing: float
    """The share of the lengths' variance that lies within sequences, 0 to 1: 0 where each holds equal lengths alone."""
    fill: float
    """positions / (sequences × context_length)."""
    packing_factor: float
    """Samples a sequence."""
    padding: int
    """Positions that no sample takes."""
    verdicts: dict[str, dict[str, int]]
    """Per source, uids `kept` and dropped by rule; their sum is the selection's size."""
    shares: dict[str, float]
    """Per source, its share of the positions."""
    seen: dict[str, float]
    """Per source, how often each of its samples that fit is used, on average, those left out for the mix counted."""
    most_seen: dict[str, int]
    """Per source, the most times that one of them is."""


def make_plan(
    config: PlanConfig,
    *,
    tokenizer: str,
    sources: Mapping[str, PlanSource],
    out: str,
    ledger_root: str | None = None,
    map_fn: InOrder | None = None,
) -> PlanReport:
    """Plan the sequences of `sources` (by name) and write the plan's parquet to `out`.

    Sources that have tables of lengths are planned from those, others from their texts, to the same bytes.
    `tokenizer` is a name or folder for `load_tokenizer`. With `ledger_root`, each source's stage `pack` is written to
    `<ledger_root>/<source>/pack.parquet`. From `SPREAD` samples on windows are worked on by `map_fn`, which gives
    results in the jobs' order, a few jobs at a time (`engine.in_order`). Equal inputs give equal bytes, whoever works.
    Raises ValueError if nothing can be packed.
    """
    loaded = load_tokenizer(tokenizer)
    if not sources:
        raise ValueError("there are no sources to plan; name one at least")
    if config.mixed and set(config.mixed) != set(sources):
        key = "mix" if config.mix else "mix_groups"
        raise ValueError(f"pack.{key} names {', '.join(config.mixed)}; it must name the sources: {', '.join(sources)}")
    verdicts = {name: SourceVerdicts(source.selection, name) for name, source in sorted(sources.items())}
    shards = {
        name: [
            ShardShare(source=name, kind=sources[name].kind, lengths=sources[name].lengths, shard=shard)
            for shard in list_shards(sources[name].shards)
        ]
        for name in verdicts
    }
    for name, listed in shards.items():
        if not listed:
            raise ValueError(f"source {name!r} has no finished shards under {sources[name].shards}; download it first")
    captions = {
        name: Annotations(source.annotations, verdicts[name], name)
        for name, source in sources.items()
        if source.annotations is not None
    }
    apart = map_fn is not None and sum(len(own.copies) for own in verdicts.values()) >= SPREAD

    def worked(work: Callable[[WindowJob], dict[str, Any]], title: str, *, spread: bool) -> Iterator[dict[str, Any]]:
        windows = Windows(config, (tokenizer, tokenizer_fingerprint(loaded)), verdicts, captions, apart=apart)
        jobs = windows.jobs(windows_of(shards, config.window_shards, spread=spread))
        with Progress(title, total=sum(map(len, shards.values())), unit="shard") as progress:
            before = _counted(verdicts)
            for result in (map_fn if apart and map_fn is not None else map)(work, jobs):
                windows.take_in(result)
                after = _counted(verdicts)
                progress.advance(result["shards"], **(after - before))
                before = after
                yield result

    factor = dict.fromkeys(verdicts, config.epochs if config.epochs != 1 else None)
    if config.mixed:
        factor |= _mix(config, verdicts, worked(measure_window, "measure", spread=False))
    if any(own is not None for own in factor.values()):
        verdicts = {
            name: SourceVerdicts(sources[name].selection, name, factor=factor[name], salt=str(config.seed))
            for name in verdicts
        }
    schema = plan_schema(config).with_metadata({METADATA_KEY: _metadata(config, loaded, sources)})
    schema = schema.append(CAPTIONS) if captions else schema
    totals, packed = Counter[str](), _Packed(config)
    with storage.atomic_write(out) as file, pq.ParquetWriter(file, schema, **storage.TABLE) as writer:
        for result in worked(plan_window, "plan", spread=bool(config.mixed)):
            if result["table"].num_rows:
                table = _numbered_from(totals["sequences"], result["table"])
                writer.write_table(table, row_group_size=table.num_rows)
                packed.add(table)
                totals["sequences"] = int(table["sequence"][-1].as_py()) + 1
                totals["samples"] += table.num_rows
                for total, column in (("images", "images"), ("tokens", "tokens"), ("positions", "length")):
                    totals[total] += int(table[column].to_numpy().sum(dtype=np.int64))
        if not totals["sequences"]:
            found = "; ".join(f"{name}: {state.counts() or 'an empty selection'}" for name, state in verdicts.items())
            raise ValueError(
                f"nothing can be packed ({found}); loosen the selection, or raise pack.context_length or pack.epochs"
            )
    for name, state in verdicts.items():
        if not state.counts().get(ledger.KEPT):
            _log.warning("nothing of source %r can be packed (%s)", name, state.counts() or "an empty selection")
    if ledger_root is not None:
        for name, state in verdicts.items():
            ledger.write_stage(storage.join(ledger_root, name), "pack", state.ledger())
    return _report(config, totals, packed, verdicts)


def _counted(verdicts: Mapping[str, SourceVerdicts]) -> Counter[str]:
    return sum((Counter(state.counts()) for state in verdicts.values()), Counter[str]())


def _numbered_from(first: int, window: pa.Table) -> pa.Table:
    return window.set_column(0, window.schema.field(0), pc.add(window["sequence"], first))


class _Packed:
    """What the windows hold, added up for the bound on all of them and for how well they mix."""

    def __init__(self, config: PlanConfig) -> None:
        self.by_source = Counter[str]()
        """Positions."""
        self.limits = {name: most for name, most in config.limits.items() if most}
        self.histograms = {name: np.zeros(most + 1, dtype=np.int64) for name, most in self.limits.items()}
        self.kinds = Counter[tuple[int, ...]]()
        """How many samples there are of each kind, by what they take of the limits; told of up to `MOST_TOLD`."""
        self.counts_crops = config.counts_crops
        self.mixing = Mixing()

    def add(self, window: pa.Table) -> None:
        named = {"positions": "length", "images": "images", "crops": "crops" if self.counts_crops else "images"}
        columns = {name: window[column].to_numpy() for name, column in named.items()}
        for own in pc.unique(window["source"]).to_pylist():
            self.by_source[own] += int(pc.sum(window.filter(pc.field("source") == own)["length"]).as_py())
        for name, histogram in self.histograms.items():
            histogram += np.bincount(columns[name], minlength=len(histogram))
        if len(self.kinds) <= MOST_TOLD:
            sizes, _, counts = kinds_of(
                [columns[name].astype(np.int64) for name in self.limits], [*self.limits.values()]
            )
            self.kinds.update(
                dict(zip(zip(*(own.tolist() for own in sizes), strict=True), counts.tolist(), strict=True))
            )
        sequences = window["sequence"].to_numpy()
        self.mixing.add(columns["positions"], sequences - sequences[0])

    def bound(self, sequences: int) -> Bound:
        """The fewest sequences that any plan has of what so many hold."""
        kinds = sorted(self.kinds)
        sizes = np.array(kinds, dtype=np.int64).T
        counts = np.array([self.kinds[kind] for kind in kinds], dtype=np.int64)
        together = beside_bound(self.limits, list(sizes), counts)
        alone = lower_bound(self.histograms)
        return tighter(max(alone, together, key=lambda bound: bound.bins), sequences, self.limits, sizes, counts)


def _mix(
    config: PlanConfig, verdicts: Mapping[str, SourceVerdicts], measured: Iterable[Mapping[str, Any]]
) -> dict[str, float]:
    """By how much each source's samples are to be multiplied for the mixture, from what they take in each window."""
    amounts = {name: Amount() for name in verdicts}
    for window in measured:
        for name, own in window["amounts"].items():
            amounts[name] += own
    for name, amount in amounts.items():
        if not amount.positions:
            found = verdicts[name].counts() or "an empty selection"
            raise ValueError(f"pack.mix: nothing of source {name!r} can be packed ({found}); take it out of the mix")
    shares = dict(config.mix)
    for group in config.mix_groups.values():
        shares |= group.shares({name: amount.samples for name, amount in amounts.items()})
    asked = factors(shares, amounts, unit=config.mix_by, limits=config.limits, epochs=config.epochs)
    if config.mix_most_seen is not None:
        over = over_cap(asked, config.mix_most_seen)
        if over and config.mix_over == "refuse":
            raise ValueError(over)
        if over and config.mix_over == "warn":
            _log.warning(over)
        if config.mix_over == "cap":
            asked = {name: min(own, config.mix_most_seen) for name, own in asked.items()}
    return asked


def _report(
    config: PlanConfig, totals: Counter[str], packed: _Packed, verdicts: Mapping[str, SourceVerdicts]
) -> PlanReport:
    for state in verdicts.values():
        totals.update(state.totals)
    positions, sequences = totals["positions"], totals["sequences"]
    bound = packed.bound(sequences)
    return PlanReport(
        **{name: totals[name] for name in _TOTALS},
        lower_bound=bound.bins,
        bound=bound.name,
        of_bound=bound.bins / sequences,
        mixing=packed.mixing.share,
        fill=positions / (sequences * config.context_length),
        packing_factor=totals["samples"] / sequences,
        padding=sequences * config.context_length - positions,
        verdicts={name: state.counts() for name, state in verdicts.items()},
        shares={name: packed.by_source[name] / positions for name in verdicts},
        seen={name: state.seen()[0] for name, state in verdicts.items()},
        most_seen={name: state.seen()[1] for name, state in verdicts.items()},
    )


def _metadata(config: PlanConfig, tokenizer: "PreTrainedTokenizerFast", sources: Mapping[str, PlanSource]) -> bytes:
    annotated = sorted(name for name, source in sources.items() if source.annotations is not None)
    kinds = {name: source.kind for name, source in sources.items()}
    template = template_hash(tokenizer, config) if "conversation" in kinds.values() else ""
    return json.dumps(
        {
            "config": config.settings(),
            "tokenizer": {
                "fingerprint": tokenizer_fingerprint(tokenizer),
                "special_ids_hash": special_ids(tokenizer).hash,
                **({"chat_template": template} if template else {}),
            },
            "sources": kinds,
            **({"annotated": annotated} if annotated else {}),
        },
        sort_keys=True,
    ).encode()


def read_plan_metadata(path: str) -> dict[str, Any]:
    """A plan's `config`, `tokenizer` (fingerprint, special_ids_hash), `sources` (kinds by name) and, if there are any,
    `annotated`: those with annotations."""
    try:
        metadata: dict[str, Any] = json.loads((storage.read_schema(path).metadata or {})[METADATA_KEY])
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; make the plan first") from None
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} is not a plan; make it with packing.make_plan") from error
    return metadata
