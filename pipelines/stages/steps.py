"""The calls that do a stage's work, each returning the counts and contents that the run's record keeps."""

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from mmcorpus.curation.engine.made_from import digest, file_digest
from mmcorpus.curation.engine.stage import Result
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import SUCCESS, list_shards, read_rows

if TYPE_CHECKING:
    from mmcorpus.curation.download.config import DownloadConfig
    from mmcorpus.curation.selection.config import SelectConfig
    from mmcorpus.curation.synthetic.miniweb.config import MiniWebConfig
    from mmcorpus.filters.scorer import Scorer
    from mmcorpus.packing.plan import PlanConfig
    from mmcorpus.training.config import ModelConfig, StageConfig

FEW_JOBS: Final = 2
"""So many pack shards are written sooner here than workers have imported what writing needs."""
HASHED_WHOLE: Final = 2**30
"""Local lists up to this size are known by their bytes, larger and remote ones by size and date."""


def generate_web(config: "MiniWebConfig", out: str) -> Result:
    """Make the site; it sees itself whether the one that is there is the one asked for."""
    from mmcorpus.curation.synthetic.miniweb import generate_site
    from mmcorpus.curation.synthetic.miniweb.generate import site_fingerprint

    counts = generate_site(config, out)
    shown = ("pairs", "instructions", "spoiled", "files", "bytes")
    return Result(counts={name: counts[name] for name in shown if name in counts}, content=site_fingerprint(config))


def site_identity(folder: str) -> str:
    """The fingerprint of the site in a folder."""
    from mmcorpus.curation.synthetic.miniweb.site import read_site

    return read_site(folder).fingerprint


def list_identity(urls: str) -> dict[str, Any]:
    """What tells a changed URL list from an unchanged one: of each file its path and its bytes' hash."""
    from mmcorpus.curation.download.formats import find_lists

    found: dict[str, Any] = {}
    for path in find_lists(urls):
        fs, inner = storage.filesystem(path)
        info = fs.info(inner)
        if storage.is_local(path) and info["size"] <= HASHED_WHOLE:
            found[path] = file_digest(path)
        else:
            marks = ("size", "mtime", "ETag", "LastModified", "last_modified", "etag")
            found[path] = {mark: str(info[mark]) for mark in marks if info.get(mark) is not None}
    return found


def download(
    config: "DownloadConfig",
    urls: str,
    *,
    shards: str,
    lists: str,
    ledger_root: str,
    sites: Sequence[str],
    retry_failed: bool = False,
    made_with: str = "",
) -> Result:
    """Download a source, from the sites on loopback if the recipe has any; `made_with` hashes the list and settings."""
    from mmcorpus.curation.download import download as run

    with _serving(sites) as connect_to:
        if connect_to:
            config = dataclasses.replace(config, connect_to={**connect_to, **config.connect_to})
        report = run(config, urls, shards, lists, ledger_root, retry_failed=retry_failed)
    counts = {
        "listed": report.listed,
        "downloaded": report.successes,
        "failed": sum(report.codes.values()),
        "dropped_from_list": sum(report.list_drops.values()),
        "bytes": report.bytes,
        "shards": report.shards,
        "images_per_second": round(report.images_per_second, 2),
    }
    failures = [f"shard {failure.shard}: {failure.error}" for failure in report.failed_shards]
    content = _shards_content(shards, failures)
    return Result(counts=counts, failures=failures, content=content, parts={"made_with": made_with})


@contextlib.contextmanager
def _serving(sites: Sequence[str]) -> Iterator[dict[str, str]]:
    connect_to: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for site in sites:
            from mmcorpus.curation.synthetic.miniweb import serve_site

            connect_to |= stack.enter_context(serve_site(site)).connect_to
        yield connect_to


def _shards_content(shards: str, failures: Sequence[str]) -> str:
    """A digest of what the shards hold: equal if the same samples with the same bytes are there."""
    state = hashlib.blake2b(digest_size=16)
    hashes = ("sha256", "sha512", "md5", "width", "height", "conversations")
    for shard in list_shards(shards):
        rows = read_rows(shard)
        wanted = [name for name in ("uid", "status", *hashes) if name in rows.column_names]
        state.update(shard.name.encode())
        for row in rows.select(wanted).to_pylist():
            if row["status"] == SUCCESS:
                state.update(repr([row[name] for name in wanted]).encode("utf-8", "surrogatepass"))
    state.update(repr(list(failures)).encode())
    return state.hexdigest()


def score(
    scorers: "Sequence[Scorer]",
    *,
    shards: str,
    out: str,
    embeddings: str,
    workers: int | None,
    logs: str,
    answers: str,
    model_workers: int | None = None,
) -> Result:
    """Score a source; tables made with the same scorers are kept. Each scorer's tables are a part of their own.

    Model servers that scorers ask are started for it: `logs` is the folder of their logs, `answers` of what they say.
    """
    from mmcorpus.curation.scoring.servers.score import score as run

    report = run(
        shards,
        out,
        scorers,
        embeddings=embeddings,
        workers=workers,
        model_workers=model_workers,
        logs=logs,
        answers=answers,
    )
    counts = {
        "samples": report.samples,
        "shards": report.shards,
        "shards_kept": report.skipped,
        "unscored": {name: sum(reasons.values()) for name, reasons in report.unscored.items() if reasons},
    }
    failures = [f"shard {shard}: {error}" for shard, error in report.failed.items()]
    content = _shards_content(shards, ())
    parts = {scorer.name: digest([report.fingerprints[scorer.name], content, *failures]) for scorer in scorers}
    return Result(counts=counts, failures=failures, parts=parts)


def selection_identities(config: "SelectConfig") -> dict[str, str]:
    """The contents of the other selections that a config names."""
    from mmcorpus.curation.selection.expression import selections_of

    named = [path for clause in (*config.clauses, *config.upsample) for path in selections_of(clause)]
    paths = dict.fromkeys([*named, *config.intersect, *config.subtract, *config.union])
    return {path: file_digest(path) for path in paths}


def select(
    config: "SelectConfig",
    *,
    shards: str,
    scores: str | None,
    out: Mapping[str, str],
    ledger_root: str | None,
    unwanted: Sequence[str] = (),
) -> Result:
    """Select from a source's scores; without scores, everything that was downloaded.

    `unwanted` files, which another config left and this one does not make, would be packed all the same.
    """
    from mmcorpus.curation.selection import select as run
    from mmcorpus.curation.selection import select_table

    for path in unwanted:
        storage.remove(path)
    outputs = {"heldout_out": out.get("heldout"), "ledger_root": ledger_root, "explain_out": out["explain"]}
    outputs["required_out"] = out.get("required")
    if scores is None:
        uids = [read_rows(shard, ["uid", "status"]) for shard in list_shards(shards)]
        table = pa.concat_tables(uids) if uids else pa.table({"uid": pa.array([], pa.string()), "status": []})
        kept = table.filter(pa.compute.equal(table["status"], SUCCESS)).select(["uid"])
        report = select_table(config, kept, out["selection"], **outputs)
    else:
        report = run(config, scores, out["selection"], **outputs)
    counts = {
        "judged": report.samples,
        "kept": report.kept,
        "copies": report.copies,
        "held_out": report.heldout,
        "dropped": report.dropped,
    }
    content = [file_digest(out[name]) for name in ("selection", "heldout", "required") if name in out]
    return Result(counts=counts, content=digest(content))


def train_tokenizer(sources: Mapping[str, tuple[str, str, str]], *, vocab_size: int, out: str) -> Result:
    """Train a tokenizer on the selected texts; sources give (shards, selection, kind)."""
    from mmcorpus.packing.vocabulary import train_tokenizer as run

    texts: list[str] = []
    for shards, selection, kind in sources.values():
        chosen = set(storage.read_table(selection, columns=["uid"])["uid"].to_pylist())
        texts.extend(_texts(shards, kind, chosen))
    run(texts, vocab_size, out)
    return Result(counts={"texts": len(texts)}, content=file_digest(storage.join(out, "tokenizer.json")))


def _texts(shards: str, kind: Any, chosen: set[str]) -> Iterator[str]:
    from mmcorpus.packing.conversations import parse_conversation
    from mmcorpus.packing.documents import parse_nodes
    from mmcorpus.packing.inputs import read_texts

    for shard in list_shards(shards):
        for text in read_texts(shard, kind, chosen)["text"].to_pylist():
            if text is None:
                continue
            if kind == "pair":
                yield text
                continue
            with contextlib.suppress(ValueError):  # the planner drops it, with the reason
                if kind != "conversation":
                    yield from (node for node in parse_nodes(text) if isinstance(node, str))
                    continue
                yield from (content for _, content in parse_conversation(text))


def plan(
    config: "PlanConfig",
    *,
    tokenizer: str,
    sources: Mapping[str, Mapping[str, Any]],
    out: str,
    own_ledger: str,
) -> Result:
    """Plan a pack; its verdicts go to `own_ledger`."""
    from mmcorpus.packing.plan import PlanSource, make_plan

    given = {name: PlanSource(**source) for name, source in sources.items()}
    report = make_plan(config, tokenizer=tokenizer, sources=given, out=out, ledger_root=own_ledger)
    dropped = {
        rule: sum(verdicts.get(rule, 0) for verdicts in report.verdicts.values())
        for rule in sorted({rule for verdicts in report.verdicts.values() for rule in verdicts} - {ledger.KEPT})
    }
    counts = {
        "sequences": report.sequences,
        "samples": report.samples,
        "images": report.images,
        "tokens": report.tokens,
        "positions": report.positions,
        "lower_bound": report.lower_bound,
        "fill": round(report.fill, 6),
        "packing_factor": round(report.packing_factor, 4),
        **({"truncated": report.truncated} if report.truncated else {}),
        **({"split": report.split} if report.split else {}),
        **({"annotated": report.annotated} if report.annotated else {}),
        **({"captions_left_out": report.captions_left_out} if report.captions_left_out else {}),
        "dropped": dropped,
    }
    return Result(counts=counts, content=file_digest(out))


def write_packs(
    *,
    plan: str,
    tokenizer: str,
    tokenizer_name: str | None,
    sources: Mapping[str, Mapping[str, Any]],
    out: str,
    form: str,
    sequences_per_shard: int,
    own_ledger: str,
    ledgers: Mapping[str, str],
    start_ray: Callable[[], None],
) -> Result:
    """Write a plan's packs, spread over Ray where there are enough of them.

    The plan's verdicts, amended for images that are missing, go to the ledger folders of the sources in `ledgers`.
    """
    from mmcorpus.packing.materialise import PackConfig
    from mmcorpus.packing.materialise import write_packs as run

    spread = over_ray(start_ray)
    report = run(
        PackConfig(sequences_per_shard=sequences_per_shard),
        plan=plan,
        tokenizer=tokenizer,
        tokenizer_name=tokenizer_name,
        shards={name: source["shards"] for name, source in sources.items()},
        out=out,
        ledger_root=own_ledger,
        map_fn=spread,
    )
    _publish(own_ledger, ledgers)
    if form != "webdataset":
        from mmcorpus.packing.pickles import write_pickles

        write_pickles(out, f"{out}.pickles", map_fn=spread)
    dropped = sum(count for rules in report.dropped.values() for count in rules.values())
    counts = {**report.counts, "bytes": report.bytes, "shards": report.written + report.resumed, "dropped": dropped}
    return Result(counts=counts, content=file_digest(storage.join(out, "manifest.json")))


def over_ray(start_ray: Callable[[], None]) -> Callable[[Any, Sequence[Any]], list[dict[str, Any]]]:
    """A map over jobs that spreads them over Ray, which it starts only if there are more than a few."""

    def spread(work: Any, jobs: Sequence[Any]) -> list[dict[str, Any]]:
        if len(jobs) <= FEW_JOBS:
            return [work(job) for job in jobs]
        from mmcorpus.curation.engine.tasks import run_shards

        start_ray()
        outcomes = run_shards(lambda: work, jobs, name=lambda job: str(getattr(job, "name", job)), title="packs")
        failed = [outcome for outcome in outcomes if outcome.error]
        if failed:
            more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
            raise RuntimeError(f"{len(failed)} of {len(outcomes)} pack shards failed: {failed[0].error}{more}")
        return [outcome.result for outcome in outcomes if outcome.result is not None]

    return spread


def _publish(own_ledger: str, ledgers: Mapping[str, str]) -> None:
    for source, folder in ledgers.items():
        data = storage.read_bytes(storage.join(own_ledger, source, "pack.parquet"))
        storage.write_bytes(storage.join(folder, "pack.parquet"), data)


def train(
    config: "StageConfig",
    *,
    packs: str,
    heldout: str | None,
    out: str,
    model: "ModelConfig | None",
    init: str | None,
    device: str | None,
) -> Result:
    """Train one stage."""
    from mmcorpus.training import train as run

    report = run(config, packs, out, model=model, init=init, heldout_packs=heldout, device=device)
    totals = dataclasses.asdict(report.totals)
    shown = (
        "step",
        "loss",
        "heldout_loss",
        "heldout_loss_blank",
        "target_tokens",
        "positions",
        "images",
        "broken_images",
    )
    counts = {name: totals[name] for name in shown if totals.get(name) is not None}
    return Result(counts={**counts, "checkpoint": os.path.basename(report.checkpoint)})
