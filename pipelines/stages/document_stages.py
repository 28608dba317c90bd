"""The stages that make a source's documents: from pages to what the decisions on their nodes have left."""

from collections.abc import Callable
from typing import Any, Final

from mmcorpus.curation.documents.config import VOLATILE
from mmcorpus.curation.download.config import VOLATILE as DOWNLOAD_VOLATILE
from mmcorpus.curation.engine.made_from import digest, plain
from mmcorpus.curation.engine.stage import Stage
from mmcorpus.pipelines.recipe.populations import IMAGES, PARAGRAPHS, TRIMMED, URLS
from mmcorpus.pipelines.recipe.schema import WEB, Recipe
from mmcorpus.pipelines.stages import document_steps, steps

REQUIRED: Final = "required"
"""`selections/<view>.required.parquet`: the nodes that drop their documents."""


class DocumentStages:
    """The stages of one source of pages; `at` gives places in the run's folder, `site` is what `${web}` stands for."""

    def __init__(
        self,
        recipe: Recipe,
        source: str,
        at: Callable[..., str],
        *,
        site: str | None,
        sites: tuple[str, ...],
        retry_failed: bool,
    ) -> None:
        self.recipe, self.source, self.at, self.retry_failed = recipe, source, at, retry_failed
        self.site, self.sites = site, sites
        self.entry, self.config = recipe.file.sources[source], recipe.downloads[source]
        self.has_images = self.entry.kind == "document"
        self.urls, self.images, self.paragraphs, self.trimmed = (
            f"{source}.{part}" for part in (URLS, IMAGES, PARAGRAPHS, TRIMMED)
        )

    def placed(self) -> list[Stage]:
        """Up to the placed documents and the views of their nodes."""
        middle = [self._list(), self._download()] if self.has_images else []
        return [self._extract(), self._capture(), *middle, self._place()]

    def _extract(self) -> Stage:
        entry, source = self.entry, self.source
        kind = document_steps.kind_of(entry)
        inputs = tuple(path.replace(WEB, self.site) if self.site else path for path in entry.inputs)
        web = self.recipe.file.web
        needs = ("web/generate",) if web is not None and web.generate is not None and inputs != entry.inputs else ()
        identity: Any = list(entry.inputs) if needs else document_steps.pages_identity(entry.extract, inputs)
        return Stage(
            name=f"{source}/extract",
            config={"pages": identity, "kind": kind, **plain(entry.extract, VOLATILE)},
            version=document_steps.extract_version(),
            needs=needs,
            outputs=(f"documents/{source}", f"ledger/{source}/extract.parquet"),
            ray="yes",
            run=lambda: document_steps.extract(
                entry.extract,
                inputs,
                out=self.at("documents", source),
                ledger_root=self.at("ledger", source),
                kind=kind,
            ),
        )

    def _capture(self) -> Stage:
        source, captures = self.source, self.entry.extract.captures
        return Stage(
            name=f"{source}/capture",
            config={"captures": captures},
            needs=(f"{source}/extract",),
            outputs=(f"documents/{source}.captures", f"dedup/{source}.capture", f"ledger/{source}/capture.parquet"),
            ray="yes",
            run=lambda: document_steps.capture(
                captures,
                documents=self.at("documents", source),
                scores=self.at("documents", f"{source}.captures"),
                ledger_root=self.at("ledger", source),
                work=self.at("dedup", f"{source}.capture"),
            ),
        )

    def _list(self) -> Stage:
        config, source, urls = self.entry.images, self.source, self.urls
        return Stage(
            name=f"{source}/list",
            config=plain(config),
            needs=(f"{source}/extract", f"{source}/capture"),
            outputs=(f"documents/{urls}", f"ledger/{urls}/extract.parquet"),
            ray="yes",
            run=lambda: document_steps.list_addresses(
                config,
                documents=self.at("documents", source),
                captures=self.at("documents", f"{source}.captures"),
                out=self.at("documents", urls),
                ledger_root=self.at("ledger", urls),
            ),
        )

    def _download(self) -> Stage:
        urls, listed = self.urls, f"{self.source}/list"
        config = document_steps.list_config(self.config)
        web = self.recipe.file.web
        made = (web.folder, *web.also) if web is not None else ()
        described = {
            **plain(config, DOWNLOAD_VOLATILE),
            **({"sites": [steps.site_identity(folder) for folder in made if folder]} if any(made) else {}),
        }
        return Stage(
            name=f"{urls}/download",
            config=described,
            needs=(listed,),
            outputs=(
                f"lists/{urls}",
                f"shards/{urls}",
                f"ledger/{urls}/list.parquet",
                f"ledger/{urls}/download.parquet",
            ),
            ray="yes",
            again=self.retry_failed,
            run=lambda: document_steps.download(
                config,
                self.at("documents", urls),
                shards=self.at("shards", urls),
                lists=self.at("lists", urls),
                ledger_root=self.at("ledger", urls),
                sites=self.sites,
                retry_failed=self.retry_failed,
                made_with=digest(described),
            ),
        )

    def _place(self) -> Stage:
        source, config = self.source, self.entry.place
        fetched = (f"{source}/list", f"{self.urls}/download") if self.has_images else ()
        outputs = [f"shards/{source}", f"shards/{self.paragraphs}", f"shards/{self.images}"]
        outputs.append(f"ledger/{self.images}/download.parquet")
        return Stage(
            name=f"{source}/place",
            config={**plain(config), "download": plain(self.config, DOWNLOAD_VOLATILE)},
            needs=(f"{source}/extract", f"{source}/capture", *fetched),
            outputs=tuple(outputs),
            ray="yes",
            run=lambda: document_steps.place(
                config,
                documents=self.at("documents", source),
                captures=self.at("documents", f"{source}.captures"),
                listed=self.at("documents", self.urls) if self.has_images else None,
                fetched=self.at("shards", self.urls) if self.has_images else None,
                out=self.at("shards", source),
                ledger_root=self.at("ledger", self.images),
                download=document_steps.list_config(self.config),
            ),
        )

    def trim(self) -> Stage:
        """From the decisions on the nodes to the documents that are left."""
        source, select = self.source, self.recipe.file.select
        views = {name: name in select for name in ((self.images,) if self.has_images else ()) + (self.paragraphs,)}
        chosen = {name: self.at("selections", f"{name}.parquet") for name, decided in views.items() if decided}
        required = [self.at("selections", f"{name}.{REQUIRED}.parquet") for name in chosen if select[name].required]
        return Stage(
            name=f"{source}/trim",
            config={"opt_out": self.entry.opt_out, "decided": sorted(chosen)},
            needs=(f"{source}/extract", f"{source}/capture", f"{source}/place", *(f"{name}/select" for name in chosen)),
            outputs=(f"shards/{self.trimmed}", f"ledger/{source}/trim.parquet"),
            invalidated_by=(),  # the view knows the decisions that it was made by
            ray="yes",
            run=lambda: document_steps.trim(
                self.at("shards", source),
                self.at("shards", self.trimmed),
                self.at("ledger", source),
                images=chosen.get(self.images),
                paragraphs=chosen.get(self.paragraphs),
                required=required,
                documents=self.at("documents", source),
                captures=self.at("documents", f"{source}.captures"),
                opt_out=self.entry.opt_out,
            ),
        )
