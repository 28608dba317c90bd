"""Selection: score columns to uids and counts, by the recipe's `select:` section; and which stages it reads."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from mmcorpus.curation.engine.made_from import digest, file_digest, plain
from mmcorpus.curation.engine.stage import Result, Stage
from mmcorpus.curation.selection.config import SelectConfig
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import SUCCESS, list_shards, read_rows
from mmcorpus.pipelines.recipe.populations import Population, after_dfn, passes_of, scored
from mmcorpus.pipelines.recipe.schema import DFN
from mmcorpus.pipelines.stages.context import HELDOUT, REQUIRED, RunContext, counts
from mmcorpus.pipelines.stages.dedup import maker


def select_stage(run: RunContext, population: Population) -> Stage | None:
    """The stage that decides on a population; None for nodes on which nothing is to be decided: all stay."""
    source = population.name
    if population.level in ("image", "paragraph") and source not in run.file.select:
        return None
    config, judges = run.file.select.get(source, SelectConfig()), judges_of(run, source, trained=True)
    names = selection_files(source, config)
    unwanted = () if config.heldout_fraction else (run.selection(source, HELDOUT),)
    return Stage(
        name=f"{source}/select",
        config=described(config),
        needs=needs_of(run, source, config, judges),
        outputs=(*names.values(), f"ledger/{source}/select.parquet"),
        run=lambda: select(
            config,
            shards=run.at("shards", population.shards),
            scores=run.at("scores", source) if judges else None,
            out={name: run.at(path) for name, path in names.items()},
            ledger_root=run.at("ledger", source),
            unwanted=unwanted,
        ),
    )


def selection_files(name: str, config: SelectConfig) -> dict[str, str]:
    """What a selection writes: where in the run's folder."""
    parts = {HELDOUT: config.heldout_fraction, REQUIRED: config.required}
    return {
        "selection": f"selections/{name}.parquet",
        "explain": f"selections/{name}.explain.json",
        **{part: f"selections/{name}.{part}.parquet" for part, wanted in parts.items() if wanted},
    }


def described(config: SelectConfig) -> dict[str, object]:
    """The config, with the contents of the other selections that it names."""
    from mmcorpus.curation.selection.expression import selections_of

    named = [path for clause in (*config.clauses, *config.upsample) for path in selections_of(clause)]
    paths = dict.fromkeys([*named, *config.intersect, *config.subtract, *config.union])
    return {**plain(config), "lists": {path: file_digest(path) for path in paths}}


def needs_of(run: RunContext, source: str, config: SelectConfig, judges: Sequence[str]) -> tuple[str, ...]:
    """The stages whose outputs a selection over a source's scores reads; `judges` have given it tables by then."""
    used = dict.fromkeys(column.partition(".")[0] for column in config.columns)
    names = list(used) or judges[:1]  # of none the uids alone, which all tables have
    return (run.populations[source].made_by, *(maker(name, source, run.recipe) for name in names))


def judges_of(run: RunContext, source: str, *, trained: bool) -> list[str]:
    """The tables that a source has: of scorers, of passes and, once it is `trained`, of the data filtering network."""
    recipe = run.recipe
    later = set() if trained else after_dfn(recipe)
    found = sorted(own.name for own in recipe.scorers.values() if source in recipe.on[own.name])
    found += [own.name for own in passes_of(source, recipe) if own.name not in later]
    return [*found, *([DFN] if trained and source in scored(recipe) else [])]


def select(
    config: SelectConfig,
    *,
    shards: str,
    scores: str | None,
    out: Mapping[str, str],
    ledger_root: str | None,
    unwanted: Sequence[str] = (),
) -> Result:
    """Select from a source's scores; without scores, everything that was downloaded.

    `unwanted` files, which another config left and this one does not make, would be packed all the same.
    """
    from mmcorpus.curation.selection import select as select_scores
    from mmcorpus.curation.selection import select_table

    for path in unwanted:
        storage.remove(path)
    outputs = {f"{name}_out": out.get(name) for name in ("heldout", "required", "explain")}
    outputs["ledger_root"] = ledger_root
    if scores is None:
        rows = [read_rows(shard, ["uid", "status"]) for shard in list_shards(shards)]
        table = pa.concat_tables(rows) if rows else pa.table({"uid": pa.array([], pa.string()), "status": []})
        there = table.filter(pc.equal(table["status"], SUCCESS)).select(["uid"])
        report = select_table(config, there, out["selection"], **outputs)
    else:
        report = select_scores(config, scores, out["selection"], **outputs)
    shown = {
        **counts(report, "kept", "copies", "dropped"),
        "judged": report.samples,
        "held_out": report.heldout,
    }
    content = [file_digest(out[name]) for name in ("selection", "heldout", "required") if name in out]
    return Result(counts=shown, content=digest(content))
