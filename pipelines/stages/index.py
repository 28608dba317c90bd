"""The stage that makes shards of samples which are here already: references to them, where they lie."""

from mmcorpus.curation.engine.made_from import digest, plain
from mmcorpus.curation.engine.stage import Result, Stage
from mmcorpus.curation.sources.downloaded import identity_of
from mmcorpus.curation.sources.first_bytes import FORMATS
from mmcorpus.curation.sources.inputs import find_inputs
from mmcorpus.curation.sources.run import VERSION, absolute
from mmcorpus.pipelines.recipe.populations import MADE_WITH
from mmcorpus.pipelines.stages.collect import shards_content
from mmcorpus.pipelines.stages.context import RunContext, counts


def index_source(run: RunContext, source: str) -> Stage:
    """Index a source's files; one that has changed since (by size or time) is a reason to do it again."""
    entry = run.file.sources[source]
    config, formats = entry.index_config(), FORMATS[str(entry.indexed_as)]
    files = [[one.path, one.format, digest(one.identity)] for one in find_inputs(entry.inputs, formats)]
    got = {} if config.downloaded is None else {"images": identity_of(absolute(config.downloaded))}
    described = {"files": files, **plain(config, config.unsaid), **got}
    # As records before version 2 have it, so that scores of the same files outlive indexing them again.
    made_with = digest({"files": {path: told for path, *told in files}, **plain(config, config.unsaid), **got})

    def work() -> Result:
        from mmcorpus.curation.sources import index

        report = index(
            config, entry.inputs, run.at("shards", source), run.at("ledger", source), formats=formats,
            start=run.start_ray,
        )  # fmt: skip
        shown = counts(report, "rows", "samples", "images", "copied", "to_download", "shards")
        failed = [f"{name}: {error}" for name, error in report.failed.items()]
        content = shards_content(run.at("shards", source), failed)
        return Result(
            counts=shown | {"dropped": report.rows - report.samples}, failures=failed, content=content,
            parts={MADE_WITH: made_with},
        )  # fmt: skip

    return Stage(
        name=f"{source}/index",
        config=described,
        version=VERSION,
        outputs=(f"shards/{source}", f"ledger/{source}/index.parquet"),
        run=work,
    )
