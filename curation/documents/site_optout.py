"""Sites' opt-outs: robots.txt and ai.txt applied to extracted documents and their images, once a crawl is read whole.

A site's file may stand anywhere in a crawl, often in an archive of its own, so that it is not there when a page is
extracted. `apply_site_optouts` reads the files afterwards and writes the opt-outs beside the documents;
`read_documents` lays them over their rows (`overlay`), so that every later stage sees one `opt_out`.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa

from mmcorpus.curation.crawl.optout.decide import OptOutConfig, decide_site
from mmcorpus.curation.crawl.optout.site_rules import SiteRules, host_of, read_site_files
from mmcorpus.curation.documents.shards import SITES
from mmcorpus.curation.engine.items import run_pending
from mmcorpus.curation.engine.made_from import MadeFrom, digest
from mmcorpus.curation.engine.output import Output, read_record
from mmcorpus.curation.html.nodes import ImageNode, from_json, to_json
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import SUCCESS, Shard, list_shards, read_rows

FOLDER: Final = "objections"
"""Below the documents; the name is that of the files on disk since the first version."""
COUNT: Final = "count.json"
"""Written last into it: documents that were not opted out before."""
SCHEMA: Final = pa.schema({"key": pa.string(), "node": pa.int32(), "opt_out": pa.string()})
"""`node` is the number of an image node, null for the document itself."""

OptOuts = Mapping[str, Mapping[int | None, str]]
"""By a document's key, the signal that opts it (None) or its nodes out."""


def apply_site_optouts(documents: str, config: OptOutConfig, *, workers: int | None = None) -> int:
    """Write the site opt-outs of all documents under `documents`; returns how many more ask not to be used.

    Does nothing where the crawl carried no site's file, and again only where the documents or the files have changed.

    Args:
        documents: `documents/<source>`; its `sites/*.parquet` hold the files.
        workers: None for as many as Ray has CPUs; 0 for this process, without Ray.

    Raises:
        RuntimeError: a shard could not be read.
    """
    folder = storage.join(documents, SITES)
    if not (config.robots_txt or config.ai_txt) or not storage.list_names(folder):
        storage.remove(storage.join(documents, FOLDER))
        return 0
    shards = list_shards(documents)
    output = Output(
        folder=storage.join(documents, FOLDER),
        holds="site opt-outs",
        made_from=MadeFrom(
            config={"agents": list(config.agents), "robots_txt": config.robots_txt, "ai_txt": config.ai_txt},
            inputs={
                "sites": digest([[file.host, file.kind, file.date, file.text] for file in read_site_files(folder)]),
                "documents": digest([[shard.name, storage.read_json(shard.stats)] for shard in shards]),
            },
        ),
        stale="replace",
        writes=(COUNT,),
        earlier=("made_by.json",),
    )
    count = storage.join(output.folder, COUNT)
    if not (output.claim() and storage.exists(count)):
        work = functools.partial(_apply, documents, config)
        ran = run_pending(lambda: work, shards, title="site opt-outs", workers=workers).or_raise()
        opted_out = sum(int(outcome.result["opted out"]) for outcome in ran.outcomes if outcome.result)
        storage.write_json(count, {"documents": opted_out})
    return int(storage.read_json(count)["documents"])


def _apply(documents: str, config: OptOutConfig, shard: Shard) -> dict[str, int]:
    """Write the site opt-outs of a shard's documents and of their images."""
    rows = read_rows(shard, ["key", "status", "url", "opt_out", "nodes"]).to_pylist()
    pages = [(row, list(_images(row["nodes"]))) for row in rows if row["status"] == SUCCESS]
    hosts = {host_of(url) for row, images in pages for url in (row["url"] or "", *(url for _, url in images))}
    files = (file for file in read_site_files(storage.join(documents, SITES)) if file.host in hosts)
    sites = SiteRules(files)
    found: list[dict[str, Any]] = []
    count = 0
    for row, images in pages:
        if (signal := decide_site(row["url"] or "", sites, config)) is not None:
            found.append({"key": row["key"], "node": None, "opt_out": signal})
            count += row["opt_out"] is None
        for number, url in images:
            if (signal := decide_site(url, sites, config)) is not None:
                found.append({"key": row["key"], "node": number, "opt_out": signal})
    path = storage.join(documents, FOLDER, f"{shard.name}.parquet")
    storage.write_table(path, pa.Table.from_pylist(found, schema=SCHEMA))
    return {"opted out": count}


def read_site_optouts(shard: Shard) -> OptOuts:
    """The site opt-outs of the documents of a shard; empty where the crawl carried no site's file."""
    path = storage.join(shard.root, FOLDER, f"{shard.name}.parquet")
    found: dict[str, dict[int | None, str]] = {}
    if storage.exists(path):
        for row in storage.read_table(path).to_pylist():
            found.setdefault(row["key"], {})[row["node"]] = row["opt_out"]
    return found


def digest_of_site_optouts(documents: str) -> str:
    """The digest of what the site opt-outs are made from; empty where the crawl carried no site's file."""
    folder = storage.join(documents, FOLDER)
    known = read_record(folder) if storage.exists(storage.join(folder, COUNT)) else None
    return known.fingerprint if known is not None else ""


def overlay(row: dict[str, Any], optouts: Mapping[int | None, str]) -> dict[str, Any]:
    """A document's row with its site opt-outs, where it had no signal before; columns that it lacks stay away."""
    changed = dict(row)
    if "opt_out" in row and row["opt_out"] is None:
        changed["opt_out"] = optouts.get(None)
    if row.get("nodes") and any(number is not None for number in optouts):
        nodes = from_json(row["nodes"])
        changed["nodes"] = to_json(
            replace(node, opt_out=optouts[number])
            if isinstance(node, ImageNode) and node.opt_out is None and number in optouts
            else node
            for number, node in enumerate(nodes)
        )
    return changed


def _images(nodes: str | None) -> Iterator[tuple[int, str]]:
    """Numbers and addresses of the image nodes; none where the nodes cannot be read, which later stages name."""
    try:
        parsed = from_json(nodes or "[]")
    except (ValueError, RecursionError):
        return
    yield from ((number, node.url) for number, node in enumerate(parsed) if isinstance(node, ImageNode))
