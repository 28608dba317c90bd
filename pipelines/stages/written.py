"""The stage that makes a source of what a served model wrote about another one's samples."""

from mmcorpus.curation.engine.made_from import plain
from mmcorpus.curation.engine.stage import Result, Stage
from mmcorpus.curation.sources.written import VERSION, write_source
from mmcorpus.pipelines.stages.collect import shards_content
from mmcorpus.pipelines.stages.context import RunContext, counts
from mmcorpus.pipelines.stages.dedup import maker


def write_texts(run: RunContext, source: str) -> Stage:
    """Write a source's shards: of those samples of the other source that its selection keeps."""
    entry = run.file.sources[source]
    config, kind = entry.written, entry.kind
    assert config is not None
    assert kind in ("pair", "conversation"), "SourceConfig refuses others"
    about = run.populations[config.source]

    def work() -> Result:
        report = write_source(
            config, kind, run.at("shards", about.shards), run.at("scores", about.judged_as), run.at("shards", source),
            run.at("ledger", source), selection=run.selection(about.name), start=run.start_ray,
        )  # fmt: skip
        shown = {**counts(report, "samples", "shards"), "dropped": sum(report.dropped.values())}
        if config.fallback == "original":
            shown["original"] = report.original
        return Result(counts=shown, content=shards_content(run.at("shards", source)))

    return Stage(
        name=f"{source}/write",
        config={**plain(config), "kind": kind},
        version=VERSION,
        needs=(*about.needs, f"{about.name}/select", maker(config.scorer, about.judged_as, run.recipe)),
        outputs=(f"shards/{source}", f"ledger/{source}/write.parquet"),
        ray="maybe",
        run=work,
    )
