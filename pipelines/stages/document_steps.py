"""The calls that do the work of the documents' stages, each returning what the run's record keeps."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from mmcorpus.curation.engine.made_from import digest, file_digest
from mmcorpus.curation.engine.stage import Result
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import list_shards, read_rows
from mmcorpus.pipelines.stages import steps

if TYPE_CHECKING:
    from mmcorpus.curation.documents.config import ImageListConfig, PagesConfig, PlaceConfig
    from mmcorpus.curation.download.config import DownloadConfig
    from mmcorpus.pipelines.recipe.schema import SourceConfig

NOTHING: Final = "nothing.json"
"""In the folders of a download that had nothing to fetch."""
HASHED_WHOLE: Final = 2**26
"""Local inputs up to this size are known by their bytes, larger and remote ones by size and marks."""


def kind_of(entry: "SourceConfig") -> Literal["document", "text"]:
    """What a source of pages becomes."""
    return "text" if entry.kind == "text" else "document"


def extract_version() -> str:
    """The version of what reads pages: raised whenever the same page would give other nodes."""
    return "1"


def pages_identity(config: "PagesConfig", inputs: Sequence[str]) -> list[Any]:
    """What tells changed inputs from unchanged ones: of each file its path, and its bytes' hash or its size."""
    from mmcorpus.curation.crawl.inputs import find_inputs

    found: list[Any] = []
    for file in find_inputs(config, inputs):
        paths = [storage.join(file.path, name) for name in file.names] or [file.path]
        if len(paths) > 1:  # a folder of pages: too many to be listed in a run's record one by one
            found.append([file.path, len(paths), digest([_mark(path) for path in paths])])
        else:
            found.append([paths[0], _mark(paths[0])])
    return found


def _mark(path: str) -> Any:
    fs, inner = storage.filesystem(path)
    info = fs.info(inner)
    size = info.get("size")
    if storage.is_local(path) and size is not None and size <= HASHED_WHOLE:
        return file_digest(path)
    marks = ("size", "mtime", "ETag", "etag", "md5Hash", "LastModified", "last_modified")
    return {mark: str(info[mark]) for mark in marks if info.get(mark) is not None}


def extract(
    config: "PagesConfig", inputs: Sequence[str], *, out: str, ledger_root: str, kind: Literal["document", "text"]
) -> Result:
    """Read the pages of a source as documents."""
    from mmcorpus.curation.documents.extract import extract_documents

    report = extract_documents(config, list(inputs), out, ledger_root, kind=kind)
    counts = {
        "pages": report.pages,
        "documents": report.documents,
        "images": report.images,
        "texts": report.texts,
        "opted_out": report.opted_out,
        "dropped": report.failed,
        "files": report.files,
        "shards": report.shards,
        "pages_per_second": round(report.pages_per_second, 2),
    }
    return Result(counts=counts, failures=[f"{name}: {error}" for name, error in report.failed_files.items()])


def capture(captures: Literal["latest", "all"], *, documents: str, scores: str, ledger_root: str, work: str) -> Result:
    """Choose the capture of each address that stays."""
    from mmcorpus.curation.documents.capture import choose_captures

    report = choose_captures(documents, scores, ledger_root, work, captures=captures)
    return Result(counts={"documents": report.documents, "kept": report.kept, "dropped": report.dropped})


def list_addresses(config: "ImageListConfig", *, documents: str, captures: str, out: str, ledger_root: str) -> Result:
    """List the addresses of the documents' images. Its content is the list's: an equal one is not downloaded again."""
    from mmcorpus.curation.documents.image_list import list_images

    report = list_images(config, documents, out, ledger_root, captures=captures)
    counts = {
        "documents": report.documents,
        "places": report.places,
        "addresses": report.addresses,
        "listed": report.listed,
        "dropped": report.dropped,
    }
    lists = [name for name in storage.list_names(out) if name.endswith(".parquet")]
    content = digest([[name, file_digest(storage.join(out, name))] for name in lists])
    return Result(
        counts=counts, failures=[f"shard {name}: {error}" for name, error in report.failed.items()], content=content
    )


def list_config(config: "DownloadConfig") -> "DownloadConfig":
    """A source's download settings as the list of its documents' images needs them."""
    from mmcorpus.curation.documents.image_list import url_list_config

    return url_list_config(config)


def download(config: "DownloadConfig", urls: str, *, shards: str, **rest: Any) -> Result:
    """Download the images that `list_addresses` listed; where there are none, there is nothing to do."""
    from mmcorpus.curation.documents.image_list import MANIFEST

    if not storage.read_json(storage.join(urls, MANIFEST))["report"]["listed"]:
        for stage in ("list", "download"):
            ledger.write_stage(rest["ledger_root"], stage, [])
        for folder in (shards, rest["lists"]):
            storage.write_json(storage.join(folder, NOTHING), {"listed": 0})
        return Result(counts={"listed": 0, "downloaded": 0}, parts={"made_with": rest["made_with"]})
    return steps.download(config, urls, shards=shards, **rest)


def place(config: "PlaceConfig", *, fetched: str | None, **rest: Any) -> Result:
    """Put the downloaded images back into their documents."""
    from mmcorpus.curation.documents.place import place_images

    report = place_images(config, fetched=fetched if fetched and list_shards(fetched) else None, **rest)
    counts = {
        "documents": report.documents,
        "images": report.images,
        "paragraphs": report.paragraphs,
        "dropped": {**report.dropped, **report.bad_documents},
        "shards": report.shards,
    }
    return Result(counts=counts, failures=[f"shard {name}: {error}" for name, error in report.failed.items()])


def trim(placed: str, out: str, ledger_root: str, **decisions: Any) -> Result:
    """Leave of each document what the decisions on its nodes say. Its content is that of what is left."""
    from mmcorpus.curation.documents.trim import trim_documents

    report = trim_documents(placed, out, ledger_root, **decisions)
    counts = {
        "documents": report.documents,
        "kept": report.kept,
        "images": report.images,
        "paragraphs": report.paragraphs,
        "dropped": report.dropped,
    }
    failures = [f"shard {name}: {error}" for name, error in report.failed.items()]
    return Result(counts=counts, failures=failures, content=_trimmed_content(out, failures))


def _trimmed_content(out: str, failures: Sequence[str]) -> str:
    state = hashlib.blake2b(repr(list(failures)).encode(), digest_size=16)
    for shard in list_shards(out):
        state.update(shard.name.encode())
        for column in read_rows(shard, ["uid", "status", "nodes"]).columns:
            for value in column.to_pylist():
                state.update(repr(value).encode("utf-8", "surrogatepass"))
    return state.hexdigest()
