"""Descriptions of a run's files, and the whole story of one sample: text for a person, from the files alone."""

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from mmcorpus.curation.documents.views import count_codes
from mmcorpus.curation.engine.output import read_record
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.scores import read_origin, table_path
from mmcorpus.curation.store.shards import SUCCESS, Shard, list_shards, read_rows
from mmcorpus.pipelines.report.page_text import document_lines
from mmcorpus.pipelines.report.pages import read_page

Lines = Iterator[str]
_SHOWN_META: Final = (
    "url", "final_url", "caption", "original_caption", "parent", "conversations", "status", "error_message",
    "original_format", "original_mode", "original_width",
    "original_height", "width", "height", "original_bytes", "orientation", "frames",
    "has_alpha", "sha256", "document", "node", "tag", "alt", "image", "domain", "title", "date", "charset", "language",
    "opt_out", "file", "offset", "length",
)  # fmt: skip
_ORIGIN: Final = ("url", "file", "offset", "date", "title")


def describe(path: str) -> list[str]:
    """Describe a path: a run, site, shards, score table, selection, plan, ledger, packs, checkpoint or export.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: it is nothing that mmcorpus writes.
    """
    if not storage.exists(path):
        raise FileNotFoundError(f"there is nothing at {path}")
    if path.endswith((".tar", "_stats.json")):
        return list(_shard_file(path))
    if path.endswith(".parquet"):
        return list(_parquet(path))
    names = set(storage.list_names(path))
    for mark, reader in _FOLDERS.items():
        if mark in names:
            return list(reader(path))
    if list_shards(path):
        return list(_shards(path))
    if "checkpoints" in names:
        from mmcorpus.training.checkpoint import resolve_checkpoint

        return list(_checkpoint(resolve_checkpoint(path)))  # a training folder stands for its latest checkpoint
    raise ValueError(
        f"{path} is nothing that mmcorpus writes: give a run, shards, scores, a plan, packs, a checkpoint or an export"
    )


def _run(path: str) -> Lines:
    state = storage.read_json(storage.join(path, "run.json"))
    yield f"run {state['name']!r} of {len(state['stages'])} stages (mmcorpus status {path} shows each)"


def _site(path: str) -> Lines:
    from mmcorpus.curation.synthetic.miniweb.site import read_site

    site = read_site(path)
    yield f"site of {', '.join(site.hosts)}: " + ", ".join(
        f"{value:,} {name}" for name, value in site.counts.items() if "." not in name
    )


def _checkpoint(path: str) -> Lines:
    state = storage.read_json(storage.join(path, "state.json"))
    yield f"checkpoint {path}"
    for key in ("kind", "step", "totals", "model", "identity"):
        if key in state:
            yield f"  {key}: {json.dumps(state[key], ensure_ascii=False)}"


def _packs(path: str) -> Lines:
    from mmcorpus.packing.errors import PackError
    from mmcorpus.packing.packs import PackReader

    reader = PackReader(path)
    manifest, each = reader.manifest, reader.per_image
    counts = manifest["counts"]
    positions, capacity = counts["positions"], counts["sequences"] * manifest["context_length"]
    tokens = each if isinstance(each, int) else f"the layout {each.kind}'s"
    yield f"packs: {', '.join(f'{value:,} {name}' for name, value in counts.items())}"
    yield (
        f"  context {manifest['context_length']:,}, {tokens} tokens an image, "
        f"{positions / capacity if capacity else 0:.1%} full, {len(manifest['shards'])} shards"
    )
    yield f"  tokenizer {manifest['tokenizer']['name']}, {manifest['tokenizer']['vocabulary_size']:,} ids"
    for source, folder in manifest.get("references", {}).items():
        yield f"  images of {source} are referred to in {folder}, seen from here"
    try:
        reader.check_files()
    except PackError as error:
        yield f"  damaged: {error}"
        return
    if len(reader):
        first = reader[0]
        lengths = ", ".join(map(str, first.lengths[:12])) + (" …" if len(first.lengths) > 12 else "")
        yield f"  sequence {first.sequence}: {len(first.input_ids):,} tokens, samples of {lengths} positions"


def _shards(path: str) -> Lines:
    shards, codes = list_shards(path), count_codes(path)
    told = sorted(codes.items(), key=lambda item: (-item[1], item[0]))
    yield f"{len(shards):,} shards, {codes.total():,} rows: " + ", ".join(f"{count:,} {code}" for code, count in told)
    yield f"  columns: {', '.join(read_rows(shards[0]).column_names)}"


def _shard_file(path: str) -> Lines:
    root, _, file = path.rpartition("/")
    name = file.removesuffix(".tar").removesuffix("_stats.json")
    if storage.exists(storage.join(root, f"{name}.index.parquet")):
        yield from _packs(root)
        return
    shard = next((shard for shard in list_shards(root or ".") if shard.name == name), None)
    if shard is None:
        raise ValueError(f"{path} belongs to no finished shard ({name}_stats.json is missing)")
    rows = read_rows(shard)
    images = pc.sum(pc.equal(rows["status"], SUCCESS)).as_py() or 0
    yield f"shard {name}: {rows.num_rows:,} rows, {images:,} images"
    for row in rows.slice(0, 3).to_pylist():
        yield f"  {row['uid']}  {row['status']}  {row.get('url')}  {row.get('caption')!r}"


def _parquet(path: str) -> Lines:
    schema = storage.read_schema(path)
    names, table = set(schema.names), storage.read_table(path)
    origin = read_origin(schema)
    if "scorer" in origin:
        yield f"scores of {origin['scorer']} (version {origin['version']}, fingerprint {origin['fingerprint']})"
        if origin.get("model"):
            yield f"  model {origin['model']}"
        yield f"  parameters {json.dumps(origin['parameters'], ensure_ascii=False)}"
        yield from _columns(table)
    elif {"sequence", "position", "length"} <= names:
        sequences = pc.count_distinct(table["sequence"]).as_py()
        positions = pc.sum(table["length"]).as_py() or 0
        yield f"plan: {table.num_rows:,} samples in {sequences:,} sequences, {positions:,} positions"
    elif {"uid", "stage", "verdict", "rule"} <= names:
        yield f"ledger: {table.num_rows:,} rows"
        for entry in table.group_by(["stage", "verdict", "rule"]).aggregate([([], "count_all")]).to_pylist():
            by = f" by {entry['rule']}" if entry["rule"] else ""
            yield f"  {entry['stage']}: {entry['count_all']:,} {entry['verdict']}{by}"
    elif {"uid", "count"} == names:
        yield f"selection: {table.num_rows:,} samples, {pc.sum(table['count']).as_py() or 0:,} with their counts"
    else:
        yield f"parquet of {table.num_rows:,} rows"
        yield from _columns(table)


def _columns(table: pa.Table) -> Lines:
    yield f"  {table.num_rows:,} rows"
    for name in table.column_names:
        column, kind = table[name], table.schema.field(name).type
        text = f"  {name} ({kind}): {column.null_count:,} null"
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            limits = pc.min_max(column).as_py()
            mean = pc.mean(column).as_py()
            text += f", {limits['min']} to {limits['max']}" + (f", mean {mean:.4g}" if mean is not None else "")
        elif pa.types.is_boolean(kind):
            text += f", {pc.sum(column).as_py() or 0:,} true"
        else:
            text += f", {pc.count_distinct(column).as_py():,} different"
        yield text


def _exported(path: str) -> Lines:
    """A model for transformers and vLLM, as `mmcorpus export model` and the recipe's `export` write it."""
    place = storage.join(path, "config.json")
    config = storage.read_json(place)
    with storage.reading(place, "config of a model"):
        if not isinstance(config, dict):
            raise ValueError(f"it holds {type(config).__name__}, not an object")
        named, kind = config.get("architectures") or ["?"], config.get("model_type")
        parts = {part: config.get(f"{part}_config") or {} for part in ("text", "vision")}
        told = {part: one.get("model_type") for part, one in parts.items() if one}
    names = storage.list_names(path)
    weights = [name for name in names if name.endswith(".safetensors")]
    fs, inner = storage.filesystem(path)
    size = sum(fs.size(storage.join(inner, name)) for name in weights)
    yield f"exported model {path}: {', '.join(map(str, named))} ({kind}), for transformers and vLLM"
    for part, one in told.items():
        yield f"  {part}: {one}"
    yield f"  weights: {size / 1e6:,.1f} MB in {len(weights)} files, {config.get('dtype') or config.get('torch_dtype')}"
    template = "chat_template.jinja" in names
    yield f"  chat template: {'yes' if template else 'none'}; other files: " + ", ".join(
        name for name in names if name not in weights
    )


def _samples_exported(path: str) -> Lines:
    """Samples for other programs, as `mmcorpus export` writes them."""
    record = read_record(path)
    done = [name for name in storage.list_names(storage.join(path, "done")) if name.endswith(".json")]
    yield f"exported samples {path}: {len(done):,} shards are written"
    if record is not None:
        yield f"  made with {json.dumps(record.config, ensure_ascii=False)}"


_FOLDERS: Final[dict[str, Callable[[str], Lines]]] = {
    "run.json": _run,
    "site.json": _site,
    "state.json": _checkpoint,
    "manifest.json": _packs,
    "config.json": _exported,
    "done": _samples_exported,
}
"""By the file that marks a folder."""


def story(run: str, uid: str) -> list[str]:
    """All that a run knows of one sample: where it is from, its scores and what made them, each verdict, its packs.

    `uid` may be the beginning of one (6 characters or more).

    Raises:
        FileNotFoundError: there is no run at `run`.
        ValueError: no sample, or more than one, has this uid.
    """
    if not storage.exists(storage.join(run, "run.json")):
        raise FileNotFoundError(f"{run} is not a run (no run.json)")
    if len(uid) < 6 or any(character not in "0123456789abcdef" for character in uid):
        raise ValueError(f"{uid!r} is not a uid: give its 32 hex digits, or at least the first 6")
    found = {source: _ledger_rows(run, source, uid) for source in storage.list_names(storage.join(run, "ledger"))}
    uids = sorted({row["uid"] for rows in found.values() for row in rows})
    if len(uids) != 1:
        what = f"{len(uids)} samples begin so: {', '.join(uids[:5])}" if uids else f"no sample of {run} has it"
        raise ValueError(f"uid {uid}: {what}")
    lines = [f"sample {uids[0]}"]
    for source, rows in found.items():
        if rows:
            lines += [f"source {source}", *_of_source(run, source, uids[0], rows)]
    return [*lines, *_of_plans(run, uids[0])]


def _ledger_rows(run: str, source: str, uid: str) -> list[dict[str, Any]]:
    stages = ledger.read_stages(storage.join(run, "ledger", source))
    return [row for table in stages.values() for row in table.filter(pc.starts_with(table["uid"], uid)).to_pylist()]


def _of_source(run: str, source: str, uid: str, rows: list[dict[str, Any]]) -> Lines:
    placed, extracted = storage.join(run, "shards", source), storage.join(run, "documents", source)
    shard, found = _row(placed, uid)
    if shard is None:  # a document that an earlier stage dropped is not among the placed ones
        shard, found = _row(extracted, uid)
    if shard is not None:
        yield f"  in shard {shard.parquet if shard.level else shard.images}, key {found['key']}"
        yield from (f"    {name}: {found[name]}" for name in _SHOWN_META if found.get(name) is not None)
        if found.get("document"):
            yield from _of_document(run, source.partition(".")[0], found["document"])
        yield from _scores(storage.join(run, "scores", source), shard.name, uid)
    for row in rows:
        place = f" (row {row['row']:,} of the list)" if row["row"] is not None else ""
        why = f" by {row['rule']}" if row["rule"] else ""
        value = f": {row['value']}" if row["value"] else ""
        yield f"  {row['stage']}: {row['verdict']}{why}{value}{place}"
    if shard is not None and shard.root == placed and not shard.level and "nodes" in found:
        yield from document_lines(read_page(run, source, shard, uid))
    for kind in ("", ".heldout"):
        path = storage.join(run, "selections", f"{source}{kind}.parquet")
        if storage.exists(path):
            table = storage.read_table(path)
            for entry in table.filter(pc.equal(table["uid"], uid)).to_pylist():
                yield f"  in {path}, count {entry['count']}"


def _row(root: str, uid: str) -> tuple[Shard | None, dict[str, Any]]:
    """The shard that has a sample, and its row; only the shard's uids are read of the others."""
    for shard in list_shards(root):
        if pc.any(pc.equal(read_rows(shard, ["uid"])["uid"], uid)).as_py():
            rows = read_rows(shard)
            return shard, rows.filter(pc.equal(rows["uid"], uid)).to_pylist()[0]
    return None, {}


def _of_document(run: str, source: str, uid: str) -> Lines:
    """The origin of the document that a node stands in."""
    _, found = _row(storage.join(run, "documents", source), uid)
    told = ", ".join(f"{name} {found[name]}" for name in _ORIGIN if found.get(name) is not None)
    yield f"  in document {uid}: {told}"


def _scores(root: str, shard: str, uid: str) -> Lines:
    for scorer in storage.list_names(root):
        path = table_path(root, scorer, shard)
        if not storage.exists(path):
            continue
        table = storage.read_table(path)
        origin = read_origin(table.schema)
        made = " ".join(filter(None, [f"version {origin.get('version')}", str(origin.get("model") or "")]))
        yield f"  scores of {scorer} ({made.strip()}; {json.dumps(origin.get('parameters', {}), ensure_ascii=False)})"
        for row in table.filter(pc.equal(table["uid"], uid)).to_pylist():
            yield "    " + ", ".join(
                f"{name} {value}" for name, value in row.items() if name != "uid" and value is not None
            )


def _of_plans(run: str, uid: str) -> Lines:
    root = storage.join(run, "plans")
    for name in storage.list_names(root):
        if not name.endswith(".parquet"):
            continue
        fs, inner = storage.filesystem(storage.join(root, name))
        plan = ds.dataset(inner, filesystem=fs, format=ds.ParquetFileFormat(page_checksum_verification=True))
        for row in plan.to_table(filter=ds.field("uid") == uid).to_pylist():
            pack = name.removesuffix(".parquet")
            part = f"part {row['part']}, " if row.get("part") else ""
            yield (
                f"pack {pack}: sequence {row['sequence']}, place {row['position']}, copy {row['copy']}, {part}"
                f"{row['tokens']} tokens, {row['length']} positions"
            )
