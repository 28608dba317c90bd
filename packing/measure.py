"""Lengths as score tables: what each row of a shard takes in a sequence, measured once. Plans read numbers alone.

A table is of one tokenizer, chat template and image layout (and rendering, where rows have annotations); how long a
sequence is does not matter, so that plans of other lengths, limits, selections and mixtures read the same tables. It
lies where `curation/store/scores.py` puts a score, under a name of its own for each way of measuring. Tables are made
shard by shard by independent jobs, as packs are.

A row too long for a sequence is cut by its `runs`, the sample's outline: 0 is an image, n > 0 are n tokens that carry
loss, n < 0 are -n tokens that carry none. `[0, -1, 12, 1]` is a document of an image with its line break, a text of 12
tokens, and the end token.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmcorpus.curation.engine.progress import Progress
from mmcorpus.curation.store import scores, storage
from mmcorpus.curation.store.shards import Shard, list_shards, shard_at
from mmcorpus.packing.config import PlanConfig
from mmcorpus.packing.documents import NodeImage, TokenizedDocument
from mmcorpus.packing.draws import sample_words
from mmcorpus.packing.inputs import Kind, read_texts, rows_identity, stored_images, uid_bytes
from mmcorpus.packing.lengths import IMAGE_TOKEN, Each
from mmcorpus.packing.samples import (
    EncodedRow,
    Fitted,
    Rejection,
    asks_sizes,
    encode_rows,
    fit_encoded,
    renderings,
    template_hash,
)
from mmcorpus.packing.tokens import TokenizedSample, cached_tokenizer, load_tokenizer, tokenizer_fingerprint
from mmcorpus.packing.verdicts import FittedRows, SourceVerdicts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_VERSION: Final = "2"  # a table knows its shard's rows by their content
"""Raised whenever the same rows would measure otherwise, or a table is known otherwise."""
_MANY: Final = 1 << 20
"""More copies than anybody asks for: all renderings are measured."""
_LISTS: Final = ("runs", "positions_of", "crops_of", "branches")
SCHEMA: Final = pa.schema(
    [
        ("uid", pa.string()),
        *((name, pa.int32()) for name in ("rendering", "renderings", "tokens", "images", "positions", "crops")),
        *((name, pa.list_(pa.int32())) for name in _LISTS),
        ("reason", pa.string()),
    ]
)
"""Where a row cannot be packed there are `uid`, `rendering`, `renderings` and `reason` alone. `positions_of` and
`crops_of` each image where those differ; `branches` where each of several annotations begins."""


def origin(kind: Kind, tokenizer: "PreTrainedTokenizerFast", config: PlanConfig) -> scores.Origin:
    """What makes the tables of rows of a kind: equal fingerprints mean equal numbers for equal rows."""
    parameters = measuring(kind, config)
    if kind == "conversation":
        parameters["template"] = template_hash(tokenizer, config)
    model = tokenizer_fingerprint(tokenizer)
    told = json.dumps([_VERSION, model, parameters], sort_keys=True).encode()
    fingerprint = hashlib.blake2b(told, digest_size=8).hexdigest()
    name = f"lengths-{fingerprint[:8]}"
    return scores.Origin(scorer=name, version=_VERSION, model=model, parameters=parameters, fingerprint=fingerprint)


def measuring(kind: Kind, config: PlanConfig) -> dict[str, Any]:
    """Of a plan's settings those by which rows of a kind are measured, the tokenizer aside."""
    settings = config.settings()
    names = ["tokens_per_image", "layout"] if kind != "text" else []
    if kind == "conversation":
        names += ["chat_template", "render", "seed"]
    return {"kind": kind, **{name: settings[name] for name in names if name in settings}}


@dataclass(frozen=True, kw_only=True)
class LengthsJob:
    """One shard to measure; small and picklable."""

    name: str
    """The shard's."""
    shards: str
    """The folder of the shard."""
    kind: Kind
    tokenizer: str
    """A name or folder for `load_tokenizer`, on every machine."""
    config: PlanConfig
    out: str
    """The root of the source's tables."""
    origin: scores.Origin


def measure_lengths(
    shards: str,
    kind: Kind,
    *,
    tokenizer: str,
    config: PlanConfig,
    out: str,
    map_fn: Callable[[Callable[[Any], dict[str, Any]], Sequence[Any]], Iterable[dict[str, Any]]] = map,
) -> dict[str, int]:
    """Measure every row of the shards under `shards` into tables under `out`; tables that are there are kept.

    Returns the number of `shards`, of those `kept`, of `rows`, and of rows without a length (`unmeasured`). `map_fn`
    spreads jobs as that of `write_packs` does.
    """
    loaded = load_tokenizer(tokenizer)
    made_by = origin(kind, loaded, config)
    jobs = [
        LengthsJob(
            name=shard.name, shards=shards, kind=kind, tokenizer=tokenizer, config=config, out=out, origin=made_by
        )
        for shard in list_shards(shards)
    ]
    counts = {"shards": len(jobs), "kept": 0, "rows": 0, "unmeasured": 0}
    with Progress("measure", total=len(jobs), unit="shard") as progress:
        for record in map_fn(measure_shard, jobs):
            for name in ("kept", "rows", "unmeasured"):
                counts[name] += record[name]
            progress.advance(1, rows=record["rows"])
    return counts


def measure_shard(job: LengthsJob) -> dict[str, Any]:
    """Do one job, unless it was done before; returns its `name`, `rows`, `unmeasured`, and `kept`: whether it was."""
    shard = shard_at(job.shards, job.name)
    own = table_origin(job.origin, shard)
    kept = scores.is_made_by(own, job.out, job.name)
    if not kept:
        tokenizer = cached_tokenizer(job.tokenizer, job.origin.model)
        scores.write_scores(job.out, job.name, _measured(shard, job.kind, tokenizer, job.config), own)
    reasons = scores.read_scores(job.out, own.scorer, job.name, ["reason"])["reason"]
    return {"name": job.name, "rows": len(reasons), "unmeasured": len(reasons) - reasons.null_count, "kept": kept}


def table_origin(made_by: scores.Origin, shard: Shard) -> scores.Origin:
    """The origin of one shard's table, which is stale once the shard has other rows."""
    rows = rows_identity(shard)
    return scores.Origin(
        scorer=made_by.scorer,
        version=made_by.version,
        model=made_by.model,
        parameters={**made_by.parameters, "rows": rows},
        fingerprint=hashlib.blake2b(f"{made_by.fingerprint}:{rows}".encode(), digest_size=8).hexdigest(),
    )


def _measured(shard: Shard, kind: Kind, tokenizer: "PreTrainedTokenizerFast", config: PlanConfig) -> pa.Table:
    rows = read_texts(shard, kind, sizes=asks_sizes(kind, config) and kind != "document")
    texts, images = rows["text"].to_pylist(), stored_images(rows)
    counts = [renderings(kind, text, _MANY, config) for text in texts]
    row = np.repeat(np.arange(len(counts)), counts)
    copy = np.arange(len(row)) - np.repeat(np.cumsum(counts, dtype=np.int64) - counts, counts)
    words = sample_words(uid_bytes(rows["uid"])[row], copy, config.seed).tolist() if kind == "conversation" else ()
    at = row.tolist()
    encoded = encode_rows(tokenizer, kind, [texts[n] for n in at], config, [images[n] for n in at], words)
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names[3:]}
    for own in encoded:
        for name, value in _numbers(own).items():
            columns[name].append(value)
    columns["uid"] = rows["uid"].take(row).to_pylist()
    columns["rendering"], columns["renderings"] = copy.tolist(), [counts[n] for n in at]
    return pa.table(columns, schema=SCHEMA)


def _numbers(row: EncodedRow | Rejection) -> dict[str, Any]:
    if isinstance(row, Rejection):
        return {**dict.fromkeys(SCHEMA.names[3:]), "reason": row.value}
    sample = row.tokens
    images = len(sample.images) if isinstance(sample, TokenizedDocument) else sample.image_count
    positions, crops = (
        each * images if isinstance(each, int) else int(each.sum()) for each in (row.positions, row.crops)
    )
    listed = {"positions_of": row.positions, "crops_of": row.crops}
    branches = () if isinstance(sample, TokenizedDocument) else sample.branches
    return {
        "tokens": len(sample.input_ids),
        "images": images,
        "positions": len(sample.input_ids) - images + positions,
        "crops": crops,
        "runs": _outline(sample),
        **{name: None if isinstance(each, int) else each.tolist() for name, each in listed.items()},
        "branches": branches or None,
        "reason": None,
    }


def _outline(sample: TokenizedSample | TokenizedDocument) -> list[int]:
    """The sample's `runs`."""
    places = np.flatnonzero(sample.input_ids == IMAGE_TOKEN).tolist()
    told = [(place, place + 1, 0) for place in places]
    if isinstance(sample, TokenizedDocument):
        starts = sample.nodes.tolist()
        ends = [*starts[1:], len(sample.input_ids) - 1]
        texts = ((start, end) for start, end in zip(starts, ends, strict=True) if end > start and sample.targets[start])
        told += [(start, end, end - start) for start, end in (*texts, (ends[-1], ends[-1] + 1))]
    else:
        told += [(start, end, end - start) for start, end in sample.loss_spans]
    runs, before = [], 0
    for start, end, run in sorted(told):
        runs += [before - start, run] if start > before else [run]
        before = end
    return runs if before == len(sample.input_ids) else [*runs, before - len(sample.input_ids)]


def _from_outline(kind: Kind, row: Mapping[str, Any], config: PlanConfig) -> EncodedRow:
    """A row whose tokens are unknown, to be fitted by its numbers."""
    runs = np.array(row["runs"], dtype=np.int64)
    sizes = np.maximum(np.abs(runs), 1)
    starts = np.cumsum(sizes) - sizes
    ids = np.repeat(np.where(runs == 0, IMAGE_TOKEN, 0), sizes).astype(np.int32)
    spans = tuple((int(start), int(start + run)) for start, run in zip(starts, runs, strict=True) if run > 0)
    count = int((runs == 0).sum())
    tokens: TokenizedSample | TokenizedDocument
    if kind in ("document", "text"):
        is_node = (runs >= 0) & (np.arange(len(runs)) < len(runs) - 1)
        nodes, node_runs = starts[is_node], runs[is_node]
        tokens = TokenizedDocument(
            input_ids=ids,
            targets=np.repeat(runs > 0, sizes),
            images=tuple(map(NodeImage, range(count))),
            nodes=nodes,
            groups=nodes[np.concatenate([[True], node_runs[:-1] != 0])[: len(nodes)]],
        )
    else:
        branches = tuple(row["branches"] or ())
        tokens = TokenizedSample(input_ids=ids, loss_spans=spans, image_count=count, branches=branches)
    positions, crops = (None if row[name] is None else np.array(row[name]) for name in ("positions_of", "crops_of"))
    constant = config.per_image if isinstance(config.per_image, int) else 0
    one_of: Each = row["crops"] // count if count else 0
    return EncodedRow(
        tokens=tokens, positions=constant if positions is None else positions, crops=one_of if crops is None else crops
    )


def measured_uids(root: str, shard: Shard, made_by: scores.Origin) -> npt.NDArray[np.bytes_]:
    """The uids of a shard's table, one for each rendering; shape (rows,). Raises ValueError if there is no table."""
    if not storage.exists(scores.table_path(root, made_by.scorer, shard.name)):
        raise _no_table(root, made_by, shard)
    return uid_bytes(scores.read_scores(root, made_by.scorer, shard.name, ["uid"])["uid"])


def _no_table(root: str, made_by: scores.Origin, shard: Shard) -> ValueError:
    return ValueError(
        f"{scores.table_path(root, made_by.scorer, shard.name)} is missing, or of another tokenizer, layout or shard; "
        "measure the lengths again"
    )


def fit_measured(
    root: str,
    shard: Shard,
    made_by: scores.Origin,
    kind: Kind,
    config: PlanConfig,
    verdicts: SourceVerdicts,
    share: tuple[int, int] = (0, 1),
) -> list[FittedRows]:
    """A shard's selected rows that go into sequences, or a `share` of them (`SourceVerdicts.wanted`), by its table.

    Raises ValueError if there is no table of this origin.
    """
    own = table_origin(made_by, shard)
    if not scores.is_made_by(own, root, shard.name):
        raise _no_table(root, made_by, shard)
    table = scores.read_scores(root, own.scorer, shard.name)
    uids = uid_bytes(table["uid"])
    wanted = verdicts.wanted(uids, share)
    copies = np.array(verdicts.copies_of(uids[wanted]), dtype=np.int64)
    wanted = wanted[table["rendering"].to_numpy()[wanted] < np.maximum(copies, 1)]
    table, uids = table.take(wanted), uids[wanted]
    numbers = {
        name: table[name].fill_null(0).to_numpy().astype(np.int64)
        for name in ("rendering", "renderings", "tokens", "images", "crops", "positions")
    }
    simple = table["reason"].is_null().to_numpy()
    for name, most in config.limits.items():
        if most is not None:
            simple = simple & (numbers[name] <= most)
    # Of a uid one of whose renderings needs a look all are looked at: what does not fit is rendered as the first.
    _, number = np.unique(uids, return_inverse=True)
    simple = np.bincount(number, weights=~simple)[number] == 0 if len(uids) else simple
    branches = table["branches"].combine_chunks()
    numbers["annotations"] = branches.value_lengths().fill_null(1).to_numpy(zero_copy_only=False)
    whole = verdicts.keep(uids[simple], {name: own[simple] for name, own in numbers.items()})
    looked = np.flatnonzero(~simple)
    answers: dict[int, list[Fitted]] = {}
    firsts: dict[int, int] = {}
    for place, row in zip(looked.tolist(), table.take(looked).to_pylist(), strict=True):
        fitted: Fitted
        if row["reason"] is not None:
            fitted = Rejection(rule=row["reason"].partition(":")[0], value=row["reason"])
        else:
            fitted = fit_encoded(_from_outline(kind, row, config), config)
        known = answers.setdefault(int(number[place]), [])
        firsts.setdefault(int(number[place]), place)
        known.append(known[0] if known and isinstance(fitted, Rejection) else fitted)
    return [whole, verdicts.decide(uids[list(firsts.values())], list(answers.values()))]
