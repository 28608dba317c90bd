"""Turns a recipe into a run: builds its stages, runs what is not up to date, and sums up what came of it."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import yaml

from mmcorpus.curation.engine.budget import use_budget
from mmcorpus.curation.engine.committed import amend, mark_damaged
from mmcorpus.curation.engine.mend import mend, move_aside
from mmcorpus.curation.engine.stage import Decision, Stage, decide
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.lock import lock
from mmcorpus.curation.store.storage import Damaged
from mmcorpus.curation.store.written import noting
from mmcorpus.filters.secrets import masked, masked_messages, remember_config, remember_environment
from mmcorpus.pipelines.recipe.schema import Recipe
from mmcorpus.pipelines.recipe.yaml_source import read_stored
from mmcorpus.pipelines.run import runner
from mmcorpus.pipelines.run.fresh import Going, fresh_stages, remove, what_goes
from mmcorpus.pipelines.run.runner import Outcome, Say
from mmcorpus.pipelines.run.state import FILE, RunState
from mmcorpus.pipelines.run.summary import make_summary
from mmcorpus.pipelines.stages.order import build_stages

RECIPE_FILE: Final = "recipe.yaml"
SUMMARY_FILE: Final = "summary.json"
_PASSES: Final = 3
"""How often the stages are gone through: what one finds damaged, those that made it make again, and it goes on."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The result of `run_recipe`."""

    outcome: Outcome
    summary: dict[str, Any]
    """As in summary.json."""
    report: str | None = None
    """Where report.html is; None if the recipe or the run has none."""
    problems: tuple[str, ...] = field(default=())
    """Why the run counts as failed: failed shards and stages, samples unaccounted for. Empty when all is well."""


def plan_run(recipe: Recipe, out: str, *, until: str | None = None, retry_failed: bool = False) -> list[Decision]:
    """The decisions that `run_recipe` would take now, stage by stage."""
    stages = build_stages(recipe, out, retry_failed=retry_failed)
    chosen = runner.until(stages, until) if until else stages
    return runner.preview(chosen, _state(recipe, out))


def fresh_goes(recipe: Recipe, out: str, fresh: Sequence[str], *, until: str | None = None) -> list[Going]:
    """What `run_recipe` would remove for `fresh`. Raises `ValueError` where that names no stage that it would run."""
    stages = build_stages(recipe, out)
    return what_goes(fresh_stages(runner.until(stages, until) if until else stages, fresh), out)


def run_recipe(
    recipe: Recipe,
    out: str,
    *,
    until: str | None = None,
    retry_failed: bool = False,
    fresh: Sequence[str] = (),
    say: Say = lambda kind, stage, text: None,
    start_ray: Callable[[], None] = lambda: None,
    stop_ray: Callable[[], None] = lambda: None,
    debug: bool = False,
) -> RunResult:
    """Run a recipe into the folder `out`, keeping every stage that is up to date.

    Args:
        until: stop after this stage (`pairs/select`, or `select` for every source's).
        retry_failed: fetch again the URLs that failed for reasons that can pass.
        fresh: stages that are made anew, by the words of `until`: what they made before is removed first.
        say: told of each event.
        start_ray, stop_ray: called before the first stage that needs Ray, and once no later one does.

    Raises:
        ValueError: `until` or `fresh` names no stage, or `out` holds another recipe's run, or what is not a run.
        RunLocked: another process runs in `out`, or has taken it over.
        OSError: the disk is full.
    """
    remember_environment()
    remember_config(recipe.data)
    stages = build_stages(recipe, out, retry_failed=retry_failed, start_ray=start_ray)
    chosen = runner.until(stages, until) if until else stages
    anew = fresh_stages(chosen, fresh)  # what is removed is made again by this very run
    with lock(out) as confirm, use_budget(recipe.file.sample_budget), noting() as notes:
        storage.sweep(out)
        state = _state(recipe, out, say)
        state.confirm, state.manifest = confirm, ""
        state.take_order([stage.name for stage in stages])
        state.write()
        remove(anew, state)
        text = yaml.safe_dump(masked_messages(masked(recipe.data)), sort_keys=False, allow_unicode=True, width=120)
        storage.write_bytes(storage.join(out, RECIPE_FILE), text.encode())
        ran: list[str] = []
        for left in reversed(range(_PASSES)):
            mend(chosen, state, say=say)
            outcome = runner.execute(chosen, state, say=say, start_ray=start_ray, stop_ray=stop_ray, debug=debug)
            ran += outcome.ran
            _drop_stale_ledgers(stages, state)
            try:
                summary = make_summary(recipe, out, state)
                storage.write_json(storage.join(out, SUMMARY_FILE), summary)
                report = _report(recipe, out, say) if until is None else None
            except Damaged as error:
                if not left or not mark_damaged(
                    state, [os.path.relpath(storage.whole(error.path), storage.whole(out))]
                ):
                    raise
                say("damaged", "summary and report", f"{error.path} cannot be read; its stage is run again")
                continue
            if not {name for name, record in state.stages.items() if record.damaged} - {*outcome.blocked}:
                break
        outcome = replace(outcome, ran=tuple(dict.fromkeys(ran)))
        state.settle(notes, since=0.0)
    problems = [f"{stage}: {failure}" for stage, failures in outcome.failures.items() for failure in failures]
    problems += [f"{stage} was not run: a stage that it needs failed" for stage in outcome.blocked]
    problems += [f"unaccounted for: {text}" for text in summary["balance"]]
    return RunResult(outcome=outcome, summary=summary, report=report, problems=tuple(problems))


def _state(recipe: Recipe, out: str, say: Say | None = None) -> RunState:
    """The run's record. Refuses a run of another name, whose downloads would be cleared as stale.

    A damaged record is set aside where `say` is told, and taken for none: stages go on from what their folders hold.
    """
    own = recipe.file.name
    try:
        there = RunState.load(out).name
    except Damaged as error:
        there = _stored_name(out)
        if not there:
            raise ValueError(
                f"{error.path} is damaged ({error.why}), and {RECIPE_FILE} beside it, which would say whose run it is, "
                f"is damaged or gone too. If it is this recipe's, move {FILE} away and give the same command again: "
                "stages then go on from what their folders hold, or refuse it, and remove nothing"
            ) from None
        if there == own and say is None:
            return RunState(out, name=own)
        if there == own and say is not None:
            say("damaged", FILE, f"{error.why}; set aside: the stages go on from what their folders hold")
            move_aside(out, FILE)
    if there and there != own:
        raise ValueError(
            f"{out} holds the run {there!r}, and this recipe is called {own!r}: give another --out, "
            f"or call the recipe {there!r} to go on with that run"
        )
    return RunState.load(out, name=own)


def _stored_name(out: str) -> str:
    """What the recipe in a run's folder calls the run; empty if it cannot be read."""
    try:
        return str(read_stored(storage.join(out, RECIPE_FILE)).get("name") or "")
    except Damaged:
        return ""


def _drop_stale_ledgers(stages: Sequence[Stage], state: RunState) -> None:
    """Remove the ledgers of stages that this run did not bring up to date (`until`, or a failure before them): they
    would speak of samples that no longer come that way."""
    stale: set[str] = set()
    for stage in stages:
        behind = any(need.partition("#")[0] in stale for need in stage.needs)
        if behind or decide(stage, state).stale:
            stale.add(stage.name)
            gone = [output for output in stage.outputs if output.startswith("ledger/")]
            for output in gone:
                storage.remove(storage.join(state.root, output))
            amend(state, dict.fromkeys(gone))


def _report(recipe: Recipe, out: str, say: Say) -> str | None:
    if not recipe.file.report.enabled:
        return None
    from mmcorpus.pipelines.report import write_report

    path: str = write_report(out)
    say("done", "report", path)
    return path
