"""Documents as a reader would see them: what was dropped stands greyed in its place, with the rule that dropped it."""

import tarfile
from collections.abc import Iterable
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from mmcorpus.curation.documents.inspect import JudgedDocument, JudgedNode, read_document
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import SUCCESS, Shard, list_shards, read_rows
from mmcorpus.pipelines.recipe.populations import IMAGES, PARAGRAPHS, TRIMMED
from mmcorpus.pipelines.report.gallery import thumbnail
from mmcorpus.pipelines.report.samples import short

EXTRACT: Final = "extract"
"""The stage that makes documents of pages; what it drops has nothing to show."""
KEPT_PAGES: Final = 3
TRIMMED_PAGES: Final = 3
"""Kept ones that lost the most nodes."""
DROPPED_PAGES: Final = 5
"""One a rule, the rules that drop most first."""
MAX_NODES: Final = 120
"""Of a page; the rest is counted."""
MAX_CHARACTERS: Final = 2_500
"""Of a node."""
MAX_CELLS: Final = 30
"""Of a row of a table."""


def choose(run: str, source: str, stages: dict[str, pa.Table], max_shards: int) -> list[dict[str, Any]]:
    """Pages of the first shards for the template: some kept ones, those that lost most, one of each rule that drops.

    Which they are depends on uids and verdicts alone.
    """
    at_hand = _at_hand(run, source, max_shards)
    dropped = {row["uid"]: row for row in _dropped(stages) if row["uid"] in at_hand}
    left = {uid: row for uid, (_, _, row) in sorted(at_hand.items()) if uid not in dropped and row is not None}
    if not left and not dropped:
        return []
    pictured = sorted(left, key=lambda uid: (not left[uid]["images"], uid))
    lost = {uid: _nodes(at_hand[uid][1]) - _nodes(left[uid]) for uid in left}
    most = sorted((uid for uid in left if lost[uid] > 0), key=lambda uid: (-lost[uid], uid))[:TRIMMED_PAGES]
    plain = [uid for uid in pictured if uid not in most][:KEPT_PAGES]
    groups: list[tuple[str, str, dict[str, Any]]] = [("kept", uid, {}) for uid in plain]
    groups += [("kept, most nodes dropped", uid, {}) for uid in most]
    groups += [(f"dropped, {row['stage']}", row["uid"], row) for row in _one_a_rule(dropped)]
    views: list[dict[str, Any]] = []
    for group, uid, row in groups:
        shard = at_hand[uid][0]
        try:
            document = read_page(run, source, shard, uid)
        except (LookupError, OSError, tarfile.TarError):  # a damaged shard is named elsewhere; the report goes on
            continue
        view = page_view(document, group, row.get("rule"), row.get("value"))
        view["open"] = all(view["kept"] != earlier["kept"] for earlier in views)  # the first of each kind
        views.append(view)
    return views


def _at_hand(run: str, source: str, max_shards: int) -> dict[str, tuple[Shard, dict[str, int], dict[str, int] | None]]:
    """By uid, the placed documents of the first shards: their shard, and their nodes as placed and as trimmed."""
    root, trimmed = (storage.join(run, "shards", name) for name in (source, f"{source}.{TRIMMED}"))
    columns = ["uid", "status", "texts", "images"]
    left_in = {shard.name: shard for shard in list_shards(trimmed)}
    found: dict[str, tuple[Shard, dict[str, int], dict[str, int] | None]] = {}
    for shard in list_shards(root)[:max_shards]:
        left = {}
        if shard.name in left_in:
            left = {row["uid"]: row for row in read_rows(left_in[shard.name], columns).to_pylist()}
        for row in read_rows(shard, columns).to_pylist():
            if row["status"] == SUCCESS:
                found.setdefault(row["uid"], (shard, row, left.get(row["uid"])))
    return found


def _nodes(row: dict[str, int]) -> int:
    return row["texts"] + row["images"]


def _dropped(stages: dict[str, pa.Table]) -> Iterable[dict[str, Any]]:
    for stage, table in stages.items():
        if stage not in (EXTRACT, "capture"):  # those were not placed
            yield from table.filter(pc.equal(table["verdict"], ledger.DROPPED)).to_pylist()


def _one_a_rule(dropped: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each rule the row of the document with the lowest uid."""
    by_rule: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for _, row in sorted(dropped.items()):
        by_rule.setdefault((row["stage"], row["rule"]), []).append(row)
    ordered = sorted(by_rule.items(), key=lambda item: (-len(item[1]), item[0]))
    return [rows[0] for _, rows in ordered[:DROPPED_PAGES]]


def read_page(run: str, source: str, shard: Shard, uid: str) -> JudgedDocument:
    """A placed document of a run with the fate of its nodes; raises as `read_document` does."""
    ledgers = {f"{name}_ledger": storage.join(run, "ledger", f"{source}.{name}") for name in (IMAGES, PARAGRAPHS)}
    return read_document(shard, uid, **ledgers)


def page_view(
    document: JudgedDocument, group: str, rule: str | None = None, value: str | None = None
) -> dict[str, Any]:
    """A page for the template; `group` tells the reader why it was chosen."""
    row, nodes = document.row, document.nodes
    kept = sum(node.kept for node in nodes)
    where = [row.get("file"), *(f"{name} {row[name]:,}" for name in ("offset", "length") if row.get(name) is not None)]
    facts = {
        "uid": row["uid"],
        "record": ", ".join(filter(None, where)),
        "captured": row.get("date"),
        "language": row.get("language"),
        "encoding": row.get("charset"),
        "opt-out": row.get("opt_out"),
    }
    return {
        "kept": group.partition(",")[0],
        "group": group,
        "rule": rule,
        "value": short(value or ""),
        "title": row.get("title") or "(no title)",
        "url": row.get("url") or "(no address)",
        "facts": [(name, value) for name, value in facts.items() if value],
        "counts": f"{kept:,} of {len(nodes):,} nodes kept",
        "nodes": [_node(node) for node in nodes[:MAX_NODES]],
        "more": max(len(nodes) - MAX_NODES, 0),
    }


def _node(judged: JudgedNode) -> dict[str, Any]:
    """A node for the template: its `form` says how it is laid out."""
    node = judged.node
    why = "" if judged.kept else " · ".join(filter(None, (judged.rule, short(_detail(judged)))))
    shown: dict[str, Any] = {"gone": not judged.kept, "why": why, "uid": judged.uid}
    if "text" not in node:
        picture = thumbnail(judged.image.data) if judged.image is not None else ""
        return {**shown, "form": "image", "picture": picture, "alt": node.get("alt"), "url": node["url"]}
    tag, text = node.get("tag", "p"), _cut(node["text"])
    if tag == "table" and "\n" in text:
        return {**shown, "form": "table", "rows": [line.split(" | ")[:MAX_CELLS] for line in text.split("\n")]}
    if tag in ("ul", "ol", "dl"):
        lines = [((len(line) - len(line.lstrip(" "))) // 2, line.lstrip(" ")) for line in text.split("\n")]
        return {**shown, "form": "list", "tag": tag, "lines": [(min(depth, 6), line) for depth, line in lines]}
    forms = {"pre": "code", "blockquote": "quote", "figcaption": "caption"}
    form = "heading" if len(tag) == 2 and tag[0] == "h" and tag[1] in "123456" else forms.get(tag, "text")
    return {**shown, "form": form, "level": tag[1:] if form == "heading" else "", "text": text}


def _detail(judged: JudgedNode) -> str:
    return (judged.value or "").removeprefix(judged.rule or "").removeprefix(":").strip()


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"
