"""`mmcorpus status`, `inspect`, `report`, `verify`, `profiles`, `scorers`: what there is, and what became of it."""

from typing import Annotated, Any

import typer

from mmcorpus.pipelines.commands.common import FAILED, console, say, table

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder.")]


def status(run: RunArgument) -> None:
    """Show a run's stages: what is done, what is under way and how far, what failed, and the disk it takes.

    Exits with 1 if a stage or shard failed.

    **Examples**

        mmcorpus status runs/demo

        mmcorpus status s3://bucket/run
    """
    from mmcorpus.pipelines.run.status import read_status

    found = read_status(run)
    shown = table(
        f"{found.name} in {run}", ("stage", "state", "seconds", "size", "counts"), left=("stage", "state", "counts")
    )
    for line in found.stages:
        style = {"done": "", "failed": "red", "partial": "red"}.get(line.state, "yellow")
        size = "" if line.bytes is None else f"{line.bytes / 1e6:,.1f} MB"
        shown.add_row(line.name, line.state + line.progress, f"{line.seconds:,.1f}", size, line.counts, style=style)
    console().print(shown)
    for line in found.stages:
        for failure in line.failures:
            say(f"{line.name}: {failure}")
    if found.free_bytes is not None:
        say(f"{found.free_bytes / 1e9:,.1f} GB free")
    if any(line.failures for line in found.stages):
        raise typer.Exit(FAILED)


def inspect(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A run, shard, score table, plan, pack, checkpoint …")],
    uid: Annotated[
        str | None, typer.Argument(metavar="[UID]", help="With a run: the whole story of this sample.")
    ] = None,
    draw: Annotated[
        str | None, typer.Option("--draw", metavar="FILE", help="Of packs: draw sequences, as one HTML page.")
    ] = None,
    sequence: Annotated[
        list[int] | None, typer.Option("--sequence", metavar="N", help="With --draw: these; else the first four.")
    ] = None,
) -> None:
    """Say what is in a file or folder that mmcorpus wrote, or tell the whole story of one sample of a run.

    A sample's story: its URL and record, its scores with the model and parameters that made them, the rule that decided
    at each stage, and the sequence it was packed into; a document's page too, with what was dropped of it. The first 6
    digits of a uid are enough if no other begins so.

    **Examples**

        mmcorpus inspect runs/demo 3f9a61

        mmcorpus inspect runs/demo/shards/pairs/00000.tar

        mmcorpus inspect runs/demo/training/sft

        mmcorpus inspect runs/demo/packs/pretrain --draw pack.html --sequence 95
    """
    from mmcorpus.pipelines.report.inspect import describe, story
    from mmcorpus.pipelines.run.state import RunState

    if draw is not None:
        from mmcorpus.curation.store import storage
        from mmcorpus.pipelines.report.packs import PackPage

        page = PackPage(path)
        numbers = sequence or range(min(4, len(page.reader)))
        storage.write_bytes(draw, page.page(list(numbers)).encode())
        say(f"Page: {draw}")
        return
    if sequence:
        raise ValueError("--sequence chooses what --draw FILE draws; give both")
    RunState.load(path)  # of a run: raises for a record that is none
    for line in story(path, uid) if uid else describe(path):
        say(line)


def report(run: RunArgument) -> None:
    """Write a run's report, one self-contained HTML file: funnel, score histograms, galleries, loss curves, timings.

    `mmcorpus run` writes it at the end by itself; this writes it again, of a run under way as well.

    **Examples**

        mmcorpus report runs/demo

        mmcorpus report s3://bucket/run
    """
    import time

    from mmcorpus.curation.store.written import noting
    from mmcorpus.pipelines.report import write_report
    from mmcorpus.pipelines.run.state import RunState

    RunState.load(run)  # raises for a record that is none
    with noting() as notes:
        say(f"Report: {write_report(run)}")
    state = RunState.load(run)
    if state.manifest:  # else a run is under way, which notes its own
        state.settle(notes, since=time.time())


def verify(
    run: RunArgument,
    stages: Annotated[
        list[str] | None, typer.Argument(metavar="[STAGE]...", help="Only these: `pairs/score`, `score`, or `pairs`.")
    ] = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="Read a few files of each stage; of the others compare the sizes.")
    ] = False,
) -> None:
    """Read what a run committed, and tell which files are damaged, missing or unknown, and what mends them.

    Every file is compared with the hash that was taken when it was written. What is damaged is noted, so that the next
    `mmcorpus run` sets it aside in RUN/damaged and makes it again from what it came from; nothing is removed. Exits
    with 1 if anything is not as it was committed.

    **Examples**

        mmcorpus verify runs/demo

        mmcorpus verify runs/demo pairs/download packs
    """
    from mmcorpus.pipelines.run.verify import verify_run

    found = verify_run(run, stages or (), sample=sample)
    for fault in found.faults:
        say(str(fault))
    compared = "sizes, and the hashes of a few" if sample else "hashes"
    say(f"{found.files:,} files, {found.bytes / 1e6:,.1f} MB: {compared} compared, {len(found.faults):,} faults")
    if found.unknown:
        say(f"{found.unknown:,} files have no hashes yet, and were read for what tells of damage in themselves")
    if found.unfinished:
        say(f"not finished: {', '.join(found.unfinished)}")
    if not found.noted:
        say("the faults could not be noted, because the folder is in use or cannot be written: verify again later")
    if found.faults:
        raise typer.Exit(FAILED)


def profiles() -> None:
    """List the published filters that `select` knows by name: their clauses, the scorers they need, and the paper.

    **Examples**

        mmcorpus profiles

        mmcorpus select runs/demo/scores/pairs --profile datacomp_basic --explain
    """
    from mmcorpus.filters import PROFILES

    for profile in PROFILES.values():
        say(f"{profile.name}  – {profile.source}; scorers: {', '.join(profile.scorers)}")
        for clause in profile.clauses:
            say(f"    {clause}")


def scorers() -> None:
    """List the scorers that ship: what each is, its parameters with their defaults, and the columns it gives.

    **Examples**

        mmcorpus scorers

        mmcorpus score data/shards --out data/scores --scorer image --scorer caption
    """
    from mmcorpus.filters import ABOVE, SCORERS, load_scorer_class, with_defaults

    for name in [*SCORERS, *ABOVE]:
        kind = load_scorer_class(name)
        scorer = with_defaults(kind)
        columns = {field.name: str(field.type) for field in scorer.schema()} if scorer else ()
        show_parameters(name, kind)
        say(f"    columns: {', '.join(columns) or 'those named above'}")


def show_parameters(name: str, kind: Any) -> None:
    """Show a scorer or a method: its description, and its parameters with their defaults."""
    import dataclasses
    import inspect as python

    from mmcorpus.pipelines.recipe.check_types import field_help

    text = python.getdoc(kind) or ""
    say(f"{name}  – {' '.join(text.split())}")
    for field in dataclasses.fields(kind):
        default = repr(field.default) if field.default is not dataclasses.MISSING else "…"
        say(f"    {field.name} = {default}  {field_help(kind, field.name)}")
