"""The plan: which samples share which sequence, made from lengths alone, before any image is read.

Consecutive input shards form windows, each with its share of every source, and sequences are packed within a window, so
that writing a pack touches few input shards at a time. A plan's parquet has one row group a window.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmcorpus.curation.engine.progress import Progress
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import Shard, list_shards
from mmcorpus.packing.annotations import CAPTIONS, Annotations, with_captions
from mmcorpus.packing.bounds import Bound, Mixing, lower_bound
from mmcorpus.packing.columns import MOST_TOLD, tighter
from mmcorpus.packing.config import PlanConfig
from mmcorpus.packing.exact import kinds_of
from mmcorpus.packing.inputs import Kind, read_texts, stored_images, uid_bytes
from mmcorpus.packing.measure import fit_measured, origin
from mmcorpus.packing.mixture import Amount, factors, over_cap
from mmcorpus.packing.samples import asks_sizes, fit_copies, template_hash
from mmcorpus.packing.tokens import load_tokenizer, special_ids, tokenizer_fingerprint
from mmcorpus.packing.verdicts import FittedRows, SourceVerdicts
from mmcorpus.packing.window import pack_window, plan_schema

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

METADATA_KEY: Final = b"mmcorpus"
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
    asks for; or all of them, with ` (LP)`."""
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
    config: PlanConfig, *, tokenizer: str, sources: Mapping[str, PlanSource], out: str, ledger_root: str | None = None
) -> PlanReport:
    """Plan the sequences of `sources` (by name) and write the plan's parquet to `out`.

    Sources that have tables of lengths are planned from those, others from their texts, to the same bytes.
    `tokenizer` is a name or folder for `load_tokenizer`. With `ledger_root`, each source's stage `pack` is written to
    `<ledger_root>/<source>/pack.parquet`. Equal inputs give equal bytes. Raises ValueError if nothing can be packed.
    """
    loaded = load_tokenizer(tokenizer)
    if config.mixed and set(config.mixed) != set(sources):
        key = "mix" if config.mix else "mix_groups"
        raise ValueError(f"pack.{key} names {', '.join(config.mixed)}; it must name the sources: {', '.join(sources)}")
    verdicts = {name: SourceVerdicts(source.selection, name) for name, source in sorted(sources.items())}
    shards = {name: list_shards(sources[name].shards) for name in verdicts}
    for name, listed in shards.items():
        if not listed:
            raise ValueError(f"source {name!r} has no finished shards under {sources[name].shards}; download it first")
    captions = {
        name: Annotations(source.annotations, verdicts[name], name)
        for name, source in sources.items()
        if source.annotations is not None
    }
    factor = dict.fromkeys(verdicts, config.epochs if config.epochs != 1 else None)
    if config.mixed:
        factor |= _mix(config, loaded, sources, shards, captions)
    if any(own is not None for own in factor.values()):
        verdicts = {
            name: SourceVerdicts(sources[name].selection, name, factor=factor[name], salt=str(config.seed))
            for name in verdicts
        }
    schema = plan_schema(config).with_metadata({METADATA_KEY: _metadata(config, loaded, sources)})
    schema = schema.append(CAPTIONS) if captions else schema
    totals, packed = Counter[str](), _Packed(config)
    progress = Progress("plan", total=sum(map(len, shards.values())), unit="shard")
    with storage.atomic_write(out) as file, pq.ParquetWriter(file, schema, **storage.TABLE) as writer, progress:
        for window in _windows(shards, config.window_shards, spread=bool(config.mixed)):
            rows = []
            for name, shard, share in window:
                before, state, own = Counter(verdicts[name].counts()), verdicts[name], captions.get(name)
                for fitted in _fit_shard(config, loaded, sources[name], shard, state, own, share):
                    rows.append((name, sources[name].kind, shard.name, fitted))
                progress.advance(share[0] + 1 == share[1], **(Counter(state.counts()) - before))
            table = pack_window(config, rows, totals["sequences"])
            if captions:
                table = with_captions(table, ((source, fitted) for source, *_, fitted in rows))
            if table.num_rows:
                writer.write_table(table, row_group_size=table.num_rows)
                packed.add(table)
                totals["sequences"] = int(table["sequence"][-1].as_py()) + 1
                totals["samples"] += table.num_rows
                for total, column in (("images", "images"), ("tokens", "tokens"), ("positions", "length")):
                    totals[total] += int(table[column].to_numpy().sum(dtype=np.int64))
        if not totals["sequences"]:
            found = "; ".join(f"{name}: {state.counts() or 'an empty selection'}" for name, state in verdicts.items())
            raise ValueError(f"nothing can be packed ({found}); loosen the selection or raise pack.context_length")
    if ledger_root is not None:
        for name, state in verdicts.items():
            ledger.write_stage(storage.join(ledger_root, name), "pack", state.ledger())
    return _report(config, totals, packed, verdicts)


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
        return tighter(lower_bound(self.histograms), sequences, self.limits, sizes, counts)


def _mix(
    config: PlanConfig,
    tokenizer: "PreTrainedTokenizerFast",
    sources: Mapping[str, PlanSource],
    shards: Mapping[str, Sequence[Shard]],
    captions: Mapping[str, Annotations],
) -> dict[str, float]:
    """By how much each source's samples are to be multiplied for the mixture, from what they take."""
    amounts: dict[str, Amount] = {}
    with Progress("measure", total=sum(map(len, shards.values())), unit="shard") as progress:
        for name, listed in shards.items():
            verdicts, amounts[name] = SourceVerdicts(sources[name].selection, name), Amount()
            for shard in listed:
                for fitted in _fit_shard(config, tokenizer, sources[name], shard, verdicts, captions.get(name)):
                    sizes = {"positions": fitted.lengths, "images": fitted.images, "crops": fitted.crops}
                    amounts[name].add(fitted.counts, **sizes)
                progress.advance(1)
            if not amounts[name].positions:
                found = verdicts.counts() or "an empty selection"
                raise ValueError(
                    f"pack.mix: nothing of source {name!r} can be packed ({found}); take it out of the mix"
                )
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


def _fit_shard(
    config: PlanConfig,
    tokenizer: "PreTrainedTokenizerFast",
    source: PlanSource,
    shard: Shard,
    verdicts: SourceVerdicts,
    captions: Annotations | None,
    share: tuple[int, int] = (0, 1),
) -> list[FittedRows]:
    kind = source.kind
    if source.lengths is not None:
        return fit_measured(source.lengths, shard, origin(kind, tokenizer, config), kind, config, verdicts, share)
    rows = read_texts(shard, kind, sizes=asks_sizes(kind, config) and kind != "document")
    uids = uid_bytes(rows["uid"])
    wanted = verdicts.wanted(uids, share)
    rows = rows.take(wanted)
    texts = rows["text"].to_pylist()
    if captions is not None:
        texts = [several or text for several, text in zip(captions.of(uids[wanted]), texts, strict=True)]
    own = uids[wanted]
    copies = verdicts.copies_of(own)
    return [verdicts.decide(own, fit_copies(tokenizer, kind, texts, config, stored_images(rows), own, copies))]


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


def _windows(
    shards: Mapping[str, list[Shard]], window_shards: int, *, spread: bool
) -> Iterator[list[tuple[str, Shard, tuple[int, int]]]]:
    """Consecutive shards in windows, each source spread evenly over all of them: whole shards, or, of a source with
    fewer shards than there are windows, with `spread` a share (i, n) of one's samples, so that the mixture holds in
    each window."""
    count = max(1, -(-sum(map(len, shards.values())) // window_shards))
    for window in range(count):
        listed_here: list[tuple[str, Shard, tuple[int, int]]] = []
        for name, listed in shards.items():
            if spread and len(listed) < count:
                number = window * len(listed) // count
                first, end = -(-number * count // len(listed)), -(-(number + 1) * count // len(listed))
                listed_here.append((name, listed[number], (window - first, end - first)))
            else:
                own = listed[window * len(listed) // count : (window + 1) * len(listed) // count]
                listed_here += [(name, shard, (0, 1)) for shard in own]
        yield listed_here
