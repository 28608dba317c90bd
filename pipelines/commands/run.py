"""`mmcorpus run` and `mmcorpus validate`."""

import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmcorpus.pipelines.commands import common
from mmcorpus.pipelines.commands.common import (
    FAILED,
    USAGE,
    Cluster,
    CpusOption,
    RetryOption,
    a_folder,
    complain,
    console,
    say,
    table,
    told,
)

if TYPE_CHECKING:
    from mmcorpus.curation.engine.stage import Decision
    from mmcorpus.pipelines.run.fresh import Going
    from mmcorpus.pipelines.run.run_recipe import RunResult

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe, e.g. `select.pairs.profile=null`."),
]
RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A recipe's YAML file, or the name of one that ships, e.g. `demo`.")
]


def run(
    recipe: RecipeArgument,
    out: Annotated[str, typer.Option("--out", help="The run's folder; local or any fsspec URL.", callback=a_folder)],
    settings: SetOption = None,
    until: Annotated[
        str | None, typer.Option(metavar="STAGE", help="Stop after this stage: `select`, or `pairs/select`.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and why; do nothing.")] = False,
    retry_failed: RetryOption = False,
    fresh: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STAGE",
            help="Make a stage anew (`pairs/score`, `score`, `pairs`): what it made is listed, asked about and removed "
            "first. May be given again.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove what `--fresh` lists without asking.")] = False,
    num_cpus: CpusOption = None,
) -> None:
    """Run a recipe: download, score, select, pack, train, report – whatever of it the recipe asks for.

    The recipe is checked whole first. Stages that are up to date are kept; a changed parameter redoes what depends on
    it and nothing else. A run that was stopped, in whatever way, goes on when the same command is given again.
    Ray runs on this machine, or on the cluster that RAY_ADDRESS names.

    **Examples**

        mmcorpus run demo --out runs/demo

        mmcorpus run demo --out runs/demo --set select.pairs.heldout_fraction=0.1 --dry-run

        mmcorpus run my.yaml --out s3://bucket/run --until select
    """
    from mmcorpus.pipelines.recipe.load import load_recipe
    from mmcorpus.pipelines.run.run_recipe import fresh_goes, plan_run, run_recipe

    loaded = load_recipe(recipe, settings or [])
    decisions = plan_run(loaded, out, until=until, retry_failed=retry_failed)
    going = fresh_goes(loaded, out, fresh, until=until) if fresh else []
    _show_plan(decisions, always=dry_run, anew={one.stage for one in going})
    if not _may_go(going, ask=not (yes or dry_run)):
        say("Nothing was removed, and nothing was run.")
        raise typer.Exit(USAGE)
    if dry_run:
        return
    with Cluster(num_cpus, lazy=True) as cluster:
        result = run_recipe(
            loaded,
            out,
            until=until,
            retry_failed=retry_failed,
            fresh=fresh or (),
            say=event,
            start_ray=cluster.start,
            stop_ray=cluster.stop,
            debug=common.debug,
        )
    _show_result(result, out)
    if result.problems:
        raise typer.Exit(FAILED)


def _may_go(going: "list[Going]", *, ask: bool) -> bool:
    """List what is to be removed; whether it may be."""
    for one in going:
        say(f"{one.stage} is made anew, and this goes: {one.path} ({one.files:,} files, {one.size / 1e6:,.1f} MB)")
    if not going or not ask:
        return True
    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody can be asked here: add --yes to remove what is listed", param_hint="--fresh")
    return typer.confirm("Remove it?")


def validate(recipe: RecipeArgument, settings: SetOption = None) -> None:
    """Check a recipe without running it: every unknown key, wrong type, missing file and broken reference at once.

    **Examples**

        mmcorpus validate demo

        mmcorpus validate my.yaml --set download.image_size=384
    """
    from mmcorpus.pipelines.recipe.load import load_recipe
    from mmcorpus.pipelines.stages.order import build_stages

    loaded = load_recipe(recipe, settings or [])
    names = [stage.name for stage in build_stages(loaded, "OUT")]
    say(f"{recipe} is valid: {len(names)} stages\n  " + "\n  ".join(names))


def _show_plan(decisions: "list[Decision]", *, always: bool, anew: Collection[str]) -> None:
    """Say beforehand what a change will redo; silent for a new run. `anew`: stages whose outputs `--fresh` removes."""
    redone = [decision for decision in decisions if decision.action != "keep"]
    kept = [decision.stage.name for decision in decisions if decision.action == "keep"]
    if always:
        for decision in decisions:
            fresh = decision.stage.name in anew
            verb = "keep" if decision.action == "keep" and not fresh else "run "
            say(f"{verb}  {decision.stage.name}: {'made anew (--fresh)' if fresh else decision.reason}")
    elif kept and redone:
        names = [decision.stage.name for decision in redone]
        say(f"{names[0]}: {redone[0].reason} → to do: {', '.join(names)}; kept: {', '.join(kept)}")


_STYLES = {"keep": "dim", "start": "bold", "done": "green", "failed": "red", "blocked": "yellow"}


def event(kind: str, stage: str, text: str) -> None:
    """Say what a run does, as `run_recipe` tells it."""
    from rich.text import Text

    line = Text(told(f"{stage}: "), style=_STYLES.get(kind, "")).append(
        told(text), style="" if kind != "keep" else "dim"
    )
    console().print(line)


def _show_result(result: "RunResult", out: str) -> None:
    summary = result.summary
    for source, stages in summary["sources"].items():
        _show_funnel(source, stages)
    if result.report:
        _show_truth(out)
    if result.problems:
        say("")
        for problem in result.problems[:20]:
            complain(problem)
        if len(result.problems) > 20:
            say(f"… and {len(result.problems) - 20} more; mmcorpus status {out} lists them")
        say(f"The same command tries again what failed. Full accounts: {out}/errors/")
    elif not summary["balance"] and summary["sources"]:
        say("Every sample is accounted for.")
    if result.report:
        say(f"Report: {result.report}")
    say(f"Results: {out} ({summary['seconds']:.0f} s of work)")


def _show_funnel(source: str, stages: Any) -> None:
    shown = table(
        f"{source}: where the samples went", ("stage", "in", "kept", "dropped", "by rule"), left=("stage", "by rule")
    )
    for stage in stages:
        rules = list(stage["dropped"].items())  # the most frequent first
        by_rule = ", ".join(f"{rule} {count:,}" for rule, count in rules[:6]) + (" …" if len(rules) > 6 else "")
        dropped = sum(stage["dropped"].values())
        shown.add_row(stage["stage"], f"{stage['entered']:,}", f"{stage['kept']:,}", f"{dropped:,}", by_rule)
    console().print(shown)


def _show_truth(out: str) -> None:
    """What the report found of a generated site's samples; nothing for a run of the web."""
    from mmcorpus.curation.store import storage
    from mmcorpus.pipelines.truth.run_verdict import TRUTH_FILE

    path = storage.join(out, TRUTH_FILE)
    if not storage.exists(path):
        return
    found = storage.read_json(path)
    shown = table(
        "Against the truth of the generated site",
        ("corruption", "listed", "meant to be", "caught", "by another rule", "missed", "kept", "wrongly dropped"),
        left=("corruption", "meant to be"),
    )
    for entry in found["truth"]:
        drop = entry["expect"] == "dropped"
        rule = ": ".join(entry[key] for key in ("expect_stage", "expect_rule") if entry[key])
        meant = f"dropped by {rule or 'any rule'}" if drop else "kept"
        numbers = ("caught", "caught_otherwise", "missed") if drop else ("kept", "wrongly_dropped")
        numbered = {name: f"{entry[name]:,}" if entry[name] or name in ("caught", "kept") else "·" for name in numbers}
        style = "red" if entry["missed"] or entry["wrongly_dropped"] else ""
        cells = [numbered.get(name, "") for name in ("caught", "caught_otherwise", "missed", "kept", "wrongly_dropped")]
        shown.add_row(entry["spoil"], f"{entry['listed']:,}", meant, *cells, style=style)
    console().print(shown)
    if found["selections"]:
        shown = table(
            "Each selection by itself: dropped of those listed",
            ("selection", "captions of other pictures", "spoiled otherwise", "clean (wrongly)"),
            left=("selection",),
        )
        for entry in found["selections"]:
            counts = (f"{lost:,} of {listed:,}" for lost, listed in map(entry.get, ("swapped", "spoiled", "clean")))
            shown.add_row(entry["selection"], *counts)
        console().print(shown)
    for source, means in found["extraction"].items():
        say(f"{source}: text F1 {means['text']:.3f}, images in order F1 {means['images']:.3f} against the pages' truth")
