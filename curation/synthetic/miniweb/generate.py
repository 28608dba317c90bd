"""Draws, corrupts and writes a site, on all cores, resumable: its bytes depend on the configuration alone."""

import dataclasses
import hashlib
import json
import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, Final

import pyarrow as pa

from mmcorpus.curation.engine.progress import Progress
from mmcorpus.curation.store import storage
from mmcorpus.curation.synthetic.common import stream
from mmcorpus.curation.synthetic.miniweb.config import MiniWebConfig
from mmcorpus.curation.synthetic.miniweb.corruptions import CORRUPTIONS
from mmcorpus.curation.synthetic.miniweb.page import Page, clean_page
from mmcorpus.curation.synthetic.miniweb.pages.write import write_pages
from mmcorpus.curation.synthetic.miniweb.plan import Slot, plan_site
from mmcorpus.curation.synthetic.miniweb.site import (
    PAGES_TRUTH,
    PARTS,
    SITE,
    Route,
    clear_site,
    commit_site,
    finished_counts,
    list_tables,
    write_file,
)
from mmcorpus.curation.synthetic.miniweb.truth import CLEAN, SCHEMA, truth_row
from mmcorpus.curation.synthetic.render import annotations, conversations, render

VERSION: Final = "6"
"""Raised whenever the same configuration would give other bytes."""
_CHUNK: Final = 64
_SHORT: Final = 4
"""Questions about a picture where they are short."""
_WORTH_A_POOL: Final = 400
"""Rows below which starting processes costs more than it saves."""


def generate_site(config: MiniWebConfig, out: str, *, workers: int | None = None) -> dict[str, int]:
    """Generate the site of a configuration into a folder; returns its counts.

    out: a local folder; a complete site with the same configuration is left as it is, an incomplete one is finished,
    another one replaced. workers: processes, all CPUs if None; they change the time, not the bytes. A script that
    generates hundreds of rows calls this under `if __name__ == "__main__":`, as processes that are spawned need it.
    The counts: `pairs`, `instructions`, `spoiled`, `routes`, `files`, `bytes`, and `spoil.<name>` rows of each
    corruption; with pages also `pages`, `pages.spoiled` and `page_spoil.<name>`.
    Raises `ValueError` for a folder that is not local.
    """
    fingerprint = site_fingerprint(config)
    finished = finished_counts(out, fingerprint)
    if finished is not None:
        return finished
    parts = storage.join(out, PARTS)
    if storage.exists(storage.join(out, SITE)) or set(storage.list_names(parts)) - {fingerprint}:
        clear_site(out)
    slots = plan_site(config)
    chunks = [slots[start : start + _CHUNK] for start in range(0, len(slots), _CHUNK)]
    paths = [storage.join(parts, fingerprint, f"{number:06d}.json") for number in range(len(chunks))]
    missing = [number for number, path in enumerate(paths) if not os.path.exists(path)]
    with Progress("mini-web", total=len(slots), unit="row") as progress:
        progress.advance(len(slots) - sum(len(chunks[number]) for number in missing))
        _run(out, [(chunks[number], paths[number]) for number in missing], workers, progress)
    counts = _commit(config, out, fingerprint, paths)
    storage.remove(parts)
    return counts


def site_fingerprint(config: MiniWebConfig) -> str:
    """16 hex digits of the configuration and the generator's version."""
    identity = json.dumps({"version": VERSION, **dataclasses.asdict(config)}, sort_keys=True)
    return hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()


def _run(out: str, work: Sequence[tuple[list[Slot], str]], workers: int | None, progress: Progress) -> None:
    workers = min(workers or _cpus(), len(work))
    if workers <= 1 or sum(len(slots) for slots, _ in work) < _WORTH_A_POOL:
        for slots, path in work:
            progress.advance(_write_part(out, slots, path))
        return
    # Spawned, not forked: the caller may have threads (Ray, a server), and a fork would inherit their locks.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_exit_with_parent) as pool:
        futures = [pool.submit(_write_part, out, slots, path) for slots, path in work]
        try:
            for future in as_completed(futures):
                progress.advance(future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _exit_with_parent() -> None:
    """End this worker when the process that started it is gone: a pool's workers outlive a killed parent otherwise."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _write_part(out: str, slots: list[Slot], path: str) -> int:
    """Write the bodies of some rows, then the part that says so; returns the number of rows."""
    rows, routes = [], {}
    for slot in slots:
        page, row = make_row(slot)
        rows.append(row)
        for address, (route, body) in page.routes().items():
            if route.file is not None:
                write_file(out, route.file, body)
            routes[address] = dataclasses.asdict(route)
    storage.write_json(path, {"rows": rows, "routes": routes})
    return len(slots)


def make_row(slot: Slot) -> tuple[Page, dict[str, Any]]:
    """A slot's page, and its row: the truth's columns, and `conversations` for instructions."""
    page = _clean(slot)
    page.partner = None if slot.partner is None else _clean(slot.partner)
    if slot.spoil != CLEAN:
        CORRUPTIONS[slot.spoil].apply(page)
    row = truth_row(slot.row, slot.list, slot.spoil, page)
    if slot.on_pages:
        row["shown"] = {name: getattr(page.rendered, name) for name in ("facts", "captions", "qa")}
    if slot.list == "instructions":
        rendered = render(slot.kind, slot.seed, size=slot.size)
        said: Any = annotations(rendered)
        if slot.questions != "annotations":
            short = None if slot.questions == "all" else _SHORT
            said = conversations(rendered, short, seen=slot.questions == "seen")
        row["conversations"] = json.dumps(said, ensure_ascii=False)
    return page, row


def _clean(slot: Slot) -> Page:
    rendered = render(slot.kind, slot.seed, size=slot.size)
    if slot.captions == "short":
        rendered = dataclasses.replace(rendered, caption=rendered.captions[0])
    return clean_page(rendered, slot.number, stream(slot.list, slot.row, slot.seed))


def _commit(config: MiniWebConfig, out: str, fingerprint: str, paths: Sequence[str]) -> dict[str, int]:
    rows: list[dict[str, Any]] = []
    routes: dict[str, Route] = {}
    for path in paths:
        part = storage.read_json(path)
        rows += part["rows"]
        routes.update({address: Route(**route) for address, route in part["routes"].items()})
    pairs = [row for row in rows if row["list"] == "pairs"]
    instructions = [row for row in rows if row["list"] == "instructions"]
    corrupted = Counter(row["spoil"] for row in rows if row["spoil"] != CLEAN)
    pages: dict[str, pa.Table] = {}
    page_counts: dict[str, int] = {}
    if config.pages:
        more, pages[PAGES_TRUTH], page_counts = write_pages(config, out, pairs, routes)
        routes.update(more)
    return commit_site(
        out,
        fingerprint=fingerprint,
        routes=routes,
        tables={
            **list_tables(pairs, instructions, config.listed_kinds),
            "truth": pa.Table.from_pylist(rows, schema=SCHEMA),
            **pages,
        },
        counts={
            "pairs": len(pairs),
            "instructions": len(instructions),
            "spoiled": corrupted.total(),
            **{f"spoil.{name}": corrupted[name] for name in CORRUPTIONS},
            **page_counts,
        },
    )
