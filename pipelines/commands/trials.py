"""`mmcorpus individual-select`: which sources are worth training on."""

import shlex
from typing import Annotated

import typer

from mmcorpus.pipelines.commands import common
from mmcorpus.pipelines.commands.common import FAILED, Cluster, CpusOption, a_folder, complain, console, say, table
from mmcorpus.pipelines.commands.run import RecipeArgument, SetOption, event


def individual_select(
    recipe: RecipeArgument,
    out: Annotated[str, typer.Option("--out", help="The run's folder; local or any fsspec URL.", callback=a_folder)],
    settings: SetOption = None,
    num_cpus: CpusOption = None,
) -> None:
    """Choose a stage's sources by trying them: round for round the one that helps most (POINTS). Resumable.

    The recipe's `individual_select` names the stage, the sources that are always in, the candidates, and the
    evaluation that decides. Each trial is trained and evaluated in the run's folder, under its own name; the trials so
    far stand in individual_select.json.

    **Examples**

        mmcorpus individual-select points_small --out runs/points-small

        mmcorpus individual-select my.yaml --out runs/my --set individual_select.rounds=1
    """
    from mmcorpus.pipelines.recipe.load import load_recipe
    from mmcorpus.pipelines.report import write_report
    from mmcorpus.pipelines.run.individual_select import FILE, TrialFailed, settings_of
    from mmcorpus.pipelines.run.individual_select import individual_select as choose

    loaded = load_recipe(recipe, settings or [])
    with Cluster(num_cpus, lazy=True) as cluster:
        try:
            found = choose(loaded, out, say=event, start_ray=cluster.start, stop_ray=cluster.stop, debug=common.debug)
        except TrialFailed as error:
            complain(str(error))
            raise typer.Exit(FAILED) from None
    shown = table("Trials", ["round", "added", "score", "from", "to", "taken"], ["added"])
    for trial in found.trials:
        low, high = ("" if value is None else f"{value:.4f}" for value in (trial.low, trial.high))
        added = trial.added or ", ".join(trial.sources)
        shown.add_row(str(trial.round), added, f"{trial.score:.4f}", low, high, "yes" if trial in found.taken else "no")
    console().print(shown)
    entry = loaded.file.individual_select
    assert entry is not None, "else nothing was chosen"
    sets = " ".join(f"--set {shlex.quote(setting)}" for setting in settings_of(loaded, entry, found.sources))
    say(f"Train on {', '.join(found.sources)}: {sets}")
    say(f"Checkpoint: {out}/training/{found.taken[-1].name}. Trials: {out}/{FILE}. Report: {write_report(out)}")
