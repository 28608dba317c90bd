"""Stages that collect: the generated site, and the download of a URL list through img2dataset on Ray."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from mmcorpus.curation.download.config import DownloadConfig
from mmcorpus.curation.download.formats import find_lists
from mmcorpus.curation.download.lists import MANIFEST, has_grown
from mmcorpus.curation.engine.made_from import digest, file_digest, plain
from mmcorpus.curation.engine.stage import Result, Stage
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.places import places_digest
from mmcorpus.curation.store.shards import SUCCESS, list_shards, read_rows
from mmcorpus.curation.synthetic.miniweb import generate_site, read_site, serve_site
from mmcorpus.curation.synthetic.miniweb.generate import VERSION, site_fingerprint
from mmcorpus.filters.web import reading
from mmcorpus.pipelines.recipe.populations import MADE_WITH
from mmcorpus.pipelines.recipe.schema import WEB
from mmcorpus.pipelines.stages.context import RunContext, counts, failures

LIST_HASHED_WHOLE: Final = 2**30
"""Local lists up to this size in bytes are known by their hash, larger and remote ones by size and date."""
_MARKS: Final = ("size", "mtime", "ETag", "etag", "LastModified", "last_modified")


def web(run: RunContext) -> Stage:
    """Generate the site that stands in for the web; it sees itself whether the one that is there is that asked for."""
    assert run.file.web is not None
    config = run.file.web.generate
    assert config is not None

    def work() -> Result:
        made = generate_site(config, run.at("web"))
        shown = ("pairs", "instructions", "spoiled", "files", "bytes")
        return Result(counts={name: made[name] for name in shown if name in made}, content=site_fingerprint(config))

    return Stage(
        name="web/generate", config=plain(config), version=VERSION, outputs=("web",), invalidated_by=(), run=work,
        seals=("site.json",),
    )  # fmt: skip


def download_pairs(run: RunContext, source: str) -> Stage:
    """Download a source's URL list."""
    config, urls = run.recipe.downloads[source], run.file.sources[source].urls
    assert urls is not None
    place = urls.replace(WEB, run.site) if run.site is not None else urls
    identity: Any = urls
    if place == urls:  # a changed list is told from an unchanged one
        with reading(urls, allow_private=config.allow_private):
            identity = {path: file_identity(path, LIST_HASHED_WHOLE) for path in find_lists(urls)}
    elif not run.generates_web:
        identity = {"list": urls, "site": read_site(run.site or "").fingerprint}
    described = {"urls": identity, **plain(config, config.unsaid)}
    needs = ("web/generate",) if run.generates_web else ()

    def goes_on(before: Mapping[str, Any]) -> bool:
        same = {**before, "urls": ""} == {**plain(described), "urls": ""}
        return same and has_grown(config, place, run.at("lists", source))

    return dataclasses.replace(download_stage(run, source, config, place, described, needs), goes_on=goes_on)


def download_stage(
    run: RunContext, name: str, config: DownloadConfig, urls: str, described: Mapping[str, Any], needs: tuple[str, ...]
) -> Stage:
    """Download the list at `urls` into the folders called `name`; `described` tells the list and the settings."""
    return Stage(
        name=f"{name}/download",
        config=described,
        needs=needs,
        outputs=(f"lists/{name}", f"shards/{name}", f"ledger/{name}/list.parquet", f"ledger/{name}/download.parquet"),
        ray="yes",
        again=run.retry_failed,
        seals=(MANIFEST,),
        run=lambda: download(
            config,
            urls,
            shards=run.at("shards", name),
            lists=run.at("lists", name),
            ledger_root=run.at("ledger", name),
            sites=run.sites,
            retry_failed=run.retry_failed,
            made_with=digest(described),
        ),
    )


def download(
    config: DownloadConfig,
    urls: str,
    *,
    shards: str,
    lists: str,
    ledger_root: str,
    sites: Sequence[str],
    retry_failed: bool = False,
    made_with: str = "",
) -> Result:
    """Download a list, from the sites on loopback if there are any; `made_with` hashes the list and the settings."""
    from mmcorpus.curation.download import download as download_list

    connect_to: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for site in sites:
            connect_to |= stack.enter_context(serve_site(site)).connect_to
        # Which URLs of a host are given up depends on the order of answers; a site's run is the same each time.
        patience = 0 if sites else config.max_host_failures
        config = dataclasses.replace(config, connect_to=connect_to | config.connect_to, max_host_failures=patience)
        served = set(connect_to.values())
        report = download_list(config, urls, shards, lists, ledger_root, retry_failed=retry_failed, served=served)
    shown = {
        **counts(report, "listed", "bytes", "shards"),
        "downloaded": report.successes,
        "failed": sum(report.codes.values()),
        "dropped_from_list": sum(report.list_drops.values()),
        "images_per_second": round(report.images_per_second, 2),
    }
    failed = failures({failure.shard: failure.error for failure in report.failed_shards})
    failed += [f"{path}: not one of its rows can be read (bad_row): is it a list?" for path in report.unreadable_lists]
    content = shards_content(shards, failed)
    return Result(counts=shown, failures=failed, content=content, parts={MADE_WITH: made_with})


def file_identity(path: str, hashed_whole: int, marks: Sequence[str] = _MARKS) -> Any:
    """The hash of a local file of up to `hashed_whole` bytes; of others their size, date and the store's marks.

    Other marks would be another identity, and what was made from the file would be made again.
    """
    fs, inner = storage.filesystem(path)
    info = fs.info(inner)
    if storage.is_local(path) and info.get("size") is not None and info["size"] <= hashed_whole:
        return file_digest(path)
    return {mark: str(info[mark]) for mark in marks if info.get(mark) is not None}


def shards_content(shards: str, failed: Collection[str] = ()) -> str:
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
        if shard.references:
            state.update(places_digest(shard.root, shard.name).encode())
    state.update(repr(list(failed)).encode())
    return state.hexdigest()
