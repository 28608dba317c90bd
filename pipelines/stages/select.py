"""Selection: score columns to uids and counts, by the recipe's `select:` section; and which stages it reads."""

import dataclasses

import pyarrow as pa
import pyarrow.compute as pc

from mmcorpus.curation.engine.made_from import digest, file_digest, plain, table_digest
from mmcorpus.curation.engine.stage import Result, Stage
from mmcorpus.curation.selection.config import SelectConfig
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import SUCCESS, list_shards, read_rows
from mmcorpus.pipelines.recipe.populations import Population, after_dfn, passes_of, scored
from mmcorpus.pipelines.recipe.schema import DFN, KEPT_ASIDE_BY
from mmcorpus.pipelines.recipe.trained import is_trained
from mmcorpus.pipelines.stages.context import HELDOUT, REQUIRED, RunContext, counts
from mmcorpus.pipelines.stages.dedup import maker


def select_stage(run: RunContext, population: Population) -> Stage | None:
    """The stage that decides on a population; None for nodes on which nothing is to be decided: all stay."""
    source = population.name
    if population.level in ("image", "paragraph") and source not in run.file.select:
        return None
    config = run.file.select.get(source, SelectConfig())
    if population.of:  # what the first selection keeps aside must not be learned from here
        first = run.file.select.get(population.of, SelectConfig())
        drawn = {key: getattr(first, key) for key in KEPT_ASIDE_BY}
        config = dataclasses.replace(config, **drawn)
    return selection_stage(run, population, config, source)


def selection_stage(
    run: RunContext, population: Population, config: SelectConfig, name: str, *, trust: bool = False
) -> Stage:
    """A stage that selects from a population's scores into the selection `name`; without scores, all its samples.

    With `trust` it is the selection that a data filtering network learns from, before there are scores of that, and no
    verdict on the samples.
    """
    source, judged, recipe = population.name, population.judged_as, run.recipe
    later = after_dfn(recipe) if trust else ()
    own_scorers = [own for own in recipe.scorers.values() if judged in recipe.on[own.name]]
    # Of those that train first none is waited for unless it is asked.
    judges = [own.name for own in sorted(own_scorers, key=lambda own: (is_trained(own), own.name))]
    judges += [own.name for own in passes_of(judged, recipe) if own.name not in later]
    judges += [DFN] if not trust and judged in scored(recipe) else []
    read = list(dict.fromkeys(column.partition(".")[0] for column in config.columns))
    read = read or judges[:1]  # of no scores the uids alone, which all tables have
    files = selection_files(name, config)

    def work() -> Result:
        from mmcorpus.curation.selection import select, select_table

        if not trust and not config.heldout_fraction:  # what another config held out would be packed all the same
            storage.remove(run.selection(source, HELDOUT))
        out = {part: run.at(path) for part, path in files.items()}
        places = {f"{part}_out": out.get(part) for part in (HELDOUT, REQUIRED, "explain")}
        places["ledger_root"] = None if trust else run.at("ledger", source)
        if judges:
            report = select(config, run.at("scores", judged), out["selection"], **places)
        else:
            rows = [read_rows(shard, ["uid", "status"]) for shard in list_shards(run.at("shards", population.shards))]
            table = pa.concat_tables(rows) if rows else pa.table({"uid": pa.array([], pa.string()), "status": []})
            there = table.filter(pc.equal(table["status"], SUCCESS)).select(["uid"])
            report = select_table(config, there, out["selection"], **places)
        shown = {
            **counts(report, "kept", "copies", "dropped"),
            "judged": report.samples,
            "held_out": report.heldout,
        }
        content = [table_digest(out[part]) for part in ("selection", HELDOUT, REQUIRED) if part in out]
        return Result(counts=shown, content=digest(content))

    return Stage(
        name=f"{source}/{'trust' if trust else 'select'}",
        config=_described(config),
        needs=(population.made_by, *(maker(table, judged, recipe) for table in read)),
        outputs=(*files.values(), *([] if trust else [f"ledger/{source}/select.parquet"])),
        run=work,
    )


def selection_files(name: str, config: SelectConfig) -> dict[str, str]:
    """What a selection writes: where in the run's folder."""
    parts = {HELDOUT: config.heldout_fraction, REQUIRED: config.required}
    return {
        "selection": f"selections/{name}.parquet",
        "explain": f"selections/{name}.explain.json",
        **{part: f"selections/{name}.{part}.parquet" for part, wanted in parts.items() if wanted},
    }


def _described(config: SelectConfig) -> dict[str, object]:
    """The config, with the contents of the other selections that it names."""
    from mmcorpus.curation.selection.expression import selections_of

    named = [path for clause in (*config.clauses, *config.upsample) for path in selections_of(clause)]
    paths = dict.fromkeys([*named, *config.intersect, *config.subtract, *config.union])
    return {**plain(config), "lists": {path: file_digest(path) for path in paths}}
