"""The stages that make a source's documents: from pages to what the decisions on their nodes have left."""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from mmcorpus.curation.crawl.config import VOLATILE, PagesConfig
from mmcorpus.curation.documents.image_list import DECIDED_FOLDER
from mmcorpus.curation.documents.site_optout import COUNT
from mmcorpus.curation.download.lists import MANIFEST as LIST
from mmcorpus.curation.engine.made_from import digest, plain, table_digest
from mmcorpus.curation.engine.stage import Result, Stage
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import list_shards, read_rows
from mmcorpus.curation.synthetic.miniweb import read_site
from mmcorpus.pipelines.recipe.populations import IMAGES, MADE_WITH, PARAGRAPHS, TRIMMED, URLS
from mmcorpus.pipelines.recipe.schema import WEB
from mmcorpus.pipelines.stages.collect import download_stage, file_identity
from mmcorpus.pipelines.stages.context import REQUIRED, RunContext, counts, failures

if TYPE_CHECKING:
    from mmcorpus.curation.crawl.inputs import InputFile

NOTHING: Final = "nothing.json"
"""In the folders of a download that had nothing to fetch."""
PAGES_HASHED_WHOLE: Final = 2**26
"""Local inputs up to this size in bytes are known by their hash, larger and remote ones by size and marks."""
_MARKS: Final = ("size", "mtime", "ETag", "etag", "md5Hash", "LastModified", "last_modified")


def document_stages(run: RunContext, source: str) -> Iterator[Stage]:
    """The stages of one source of pages, in order; the decisions on its nodes stand between `place` and `trim`."""
    made = _Documents(run, source)
    yield made.extract()
    yield made.capture()
    if made.has_images:
        yield made.list_images()
        yield made.download()
    yield made.place()
    yield made.trim()


class _Documents:
    def __init__(self, run: RunContext, source: str) -> None:
        self.run, self.source = run, source
        self.entry, self.config = run.file.sources[source], run.recipe.downloads[source]
        self.has_images = self.entry.kind == "document"
        self.kind: Literal["document", "text"] = "text" if self.entry.kind == "text" else "document"
        self.urls, self.images, self.paragraphs, self.trimmed = (
            f"{source}.{part}" for part in (URLS, IMAGES, PARAGRAPHS, TRIMMED)
        )
        self.folder, self.captures = run.at("documents", source), run.at("documents", f"{source}.captures")

    def extract(self) -> Stage:
        """Read the pages as documents."""
        run, entry, source = self.run, self.entry, self.source
        inputs = tuple(path.replace(WEB, run.site) if run.site else path for path in entry.inputs)
        needs = ("web/generate",) if run.generates_web and inputs != entry.inputs else ()
        identity: Any = list(entry.inputs) if needs else pages_identity(entry.extract, inputs)

        def work() -> Result:
            from mmcorpus.curation.documents.extract import extract_documents

            report = extract_documents(
                entry.extract, list(inputs), self.folder, run.at("ledger", source), kind=self.kind
            )
            shown = counts(report, "pages", "documents", "images", "texts", "opted_out", "files", "shards")
            shown |= {"dropped": report.failed, "pages_per_second": round(report.pages_per_second, 2)}
            return Result(counts=shown, failures=[f"{name}: {error}" for name, error in report.failed_files.items()])

        return Stage(
            name=f"{source}/extract",
            config={"pages": identity, "kind": self.kind, **plain(entry.extract, VOLATILE)},
            needs=needs,
            outputs=(f"documents/{source}", f"ledger/{source}/extract.parquet"),
            ray="yes",
            seals=(COUNT,),
            run=work,
        )

    def capture(self) -> Stage:
        """Choose the capture of each address that stays."""
        run, source, captures = self.run, self.source, self.entry.extract.captures

        def work() -> Result:
            from mmcorpus.curation.documents.capture import choose_captures

            ledger_root, folder = run.at("ledger", source), run.at("dedup", f"{source}.capture")
            report = choose_captures(self.folder, self.captures, ledger_root, folder, captures=captures)
            return Result(counts=counts(report, "documents", "kept", "dropped"))

        return Stage(
            name=f"{source}/capture",
            config={"captures": captures},
            needs=(f"{source}/extract",),
            outputs=(f"documents/{source}.captures", f"dedup/{source}.capture", f"ledger/{source}/capture.parquet"),
            scratch=(f"dedup/{source}.capture/*/*",),
            ray="yes",
            run=work,
        )

    def list_images(self) -> Stage:
        """List the addresses of the documents' images. Its content is the list's: an equal one is not fetched again."""
        run, source, urls, config = self.run, self.source, self.urls, self.entry.images

        def work() -> Result:
            from mmcorpus.curation.documents.image_list import list_images

            out = run.at("documents", urls)
            report = list_images(config, self.folder, out, run.at("ledger", urls), captures=self.captures)
            lists = [name for name in storage.list_names(out) if name.endswith(".parquet")]
            return Result(
                counts=counts(report, "documents", "places", "addresses", "listed", "dropped"),
                failures=failures(report.failed),
                content=digest([[name, table_digest(storage.join(out, name))] for name in lists]),
            )

        return Stage(
            name=f"{source}/list",
            config=plain(config),
            needs=(f"{source}/extract", f"{source}/capture"),
            outputs=(f"documents/{urls}", f"ledger/{urls}/extract.parquet"),
            ray="yes",
            seals=(LIST, f"{DECIDED_FOLDER}-*/*"),
            run=work,
        )

    def download(self) -> Stage:
        """Download the images that were listed; where there are none, there is nothing to do."""
        from mmcorpus.curation.documents.image_list import MANIFEST, url_list_config

        run, urls = self.run, self.urls
        config = url_list_config(self.config)
        web = run.file.web
        made = [folder for folder in (web.folder, *web.also) if folder] if web is not None else []
        described = {
            **plain(config, config.unsaid),
            **({"sites": [read_site(folder).fingerprint for folder in made]} if made else {}),
        }
        listed = run.at("documents", urls)
        stage = download_stage(run, urls, config, listed, described, needs=(f"{self.source}/list",))

        def work() -> Result:
            if storage.read_json(storage.join(listed, MANIFEST))["report"]["listed"]:
                return stage.run()
            for name in ("list", "download"):
                ledger.write_stage(run.at("ledger", urls), name, [])
            for kind in ("shards", "lists"):
                storage.write_json(run.at(kind, urls, NOTHING), {"listed": 0})
            return Result(counts={"listed": 0, "downloaded": 0}, parts={MADE_WITH: digest(described)})

        return dataclasses.replace(stage, run=work)

    def place(self) -> Stage:
        """Put the downloaded images back into their documents."""
        run, source, config = self.run, self.source, self.entry.place
        needs = (f"{source}/list", f"{self.urls}/download") if self.has_images else ()

        def work() -> Result:
            from mmcorpus.curation.documents.image_list import url_list_config
            from mmcorpus.curation.documents.place import place_images

            fetched = run.at("shards", self.urls) if self.has_images else None
            report = place_images(
                config,
                documents=self.folder,
                listed=run.at("documents", self.urls) if self.has_images else None,
                fetched=fetched if fetched and list_shards(fetched) else None,
                out=run.at("shards", source),
                ledger_root=run.at("ledger", self.images),
                download=url_list_config(self.config),
                captures=self.captures,
            )
            shown = counts(report, "documents", "images", "paragraphs", "shards")
            shown["dropped"] = {**report.dropped, **report.bad_documents}
            return Result(counts=shown, failures=failures(report.failed))

        shards = [f"shards/{name}" for name in (source, self.paragraphs, self.images)]
        return Stage(
            name=f"{source}/place",
            config={**plain(config), "download": plain(self.config, self.config.unsaid)},
            version="2",  # nodes say the sizes of the images that are there
            needs=(f"{source}/extract", f"{source}/capture", *needs),
            outputs=(*shards, f"ledger/{self.images}/download.parquet"),
            ray="yes",
            run=work,
        )

    def trim(self) -> Stage:
        """Leave of each document what the decisions on its nodes say. Its content is that of what is left."""
        run, source, select = self.run, self.source, self.run.file.select
        views = [*([self.images] if self.has_images else []), self.paragraphs]
        chosen = {name: run.selection(name) for name in views if name in select}

        def work() -> Result:
            from mmcorpus.curation.documents.trim import trim_documents

            out = run.at("shards", self.trimmed)
            report = trim_documents(
                run.at("shards", source),
                out,
                run.at("ledger", source),
                images=chosen.get(self.images),
                paragraphs=chosen.get(self.paragraphs),
                required=[run.selection(name, REQUIRED) for name in chosen if select[name].required],
                documents=self.folder,
                captures=self.captures,
                opt_out=self.entry.opt_out,
            )
            shown = counts(report, "documents", "kept", "images", "paragraphs", "dropped")
            failed = failures(report.failed)
            return Result(counts=shown, failures=failed, content=_trimmed_content(out, failed))

        return Stage(
            name=f"{source}/trim",
            config={"opt_out": self.entry.opt_out, "decided": sorted(chosen)},
            version="2",
            needs=(f"{source}/extract", f"{source}/capture", f"{source}/place", *(f"{name}/select" for name in chosen)),
            outputs=(f"shards/{self.trimmed}", f"ledger/{source}/trim.parquet"),
            invalidated_by=(),  # the view knows the decisions that it was made by
            ray="yes",
            run=work,
        )


def pages_identity(config: PagesConfig, inputs: Sequence[str]) -> list[Any]:
    """Changed inputs from unchanged ones: of each file its path, and its bytes' hash or its size."""
    from mmcorpus.curation.crawl.inputs import find_inputs
    from mmcorpus.filters.web import reading

    with reading(", ".join(inputs), allow_private=config.allow_private):
        return _identities(find_inputs(config, inputs))


def _identities(files: "Sequence[InputFile]") -> list[Any]:
    def mark(path: str) -> Any:
        return file_identity(path, PAGES_HASHED_WHOLE, _MARKS)

    found: list[Any] = []
    for file in files:
        paths = [storage.join(file.path, name) for name in file.names] or [file.path]
        if len(paths) > 1:  # a folder of pages: too many to be listed in a run's record one by one
            found.append([file.path, len(paths), digest([mark(path) for path in paths])])
        else:
            found.append([paths[0], mark(paths[0])])
    return found


def _trimmed_content(out: str, failed: Sequence[str]) -> str:
    state = hashlib.blake2b(repr(list(failed)).encode(), digest_size=16)
    for shard in list_shards(out):
        state.update(shard.name.encode())
        for column in read_rows(shard, ["uid", "status", "nodes"]).columns:
            for value in column.to_pylist():
                state.update(repr(value).encode("utf-8", "surrogatepass"))
    return state.hexdigest()
