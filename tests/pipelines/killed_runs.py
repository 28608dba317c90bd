"""Runs of a recipe without Ray, each in a fork of this process that is killed amid one of its file operations.

    python -m tests.pipelines.killed_runs RECIPE OUT KILLS SEED

Imports are paid once, work is done in the driver itself, and a moment is a number of file operations: 200 kills take
minutes. Writes a line of JSON: how many kills, how many runs came to their end, in which stages it was killed, and
which files of those runs differ from those of an undisturbed one, which is left in the folder `reference` beside OUT.
"""

import contextlib
import importlib
import json
import os
import random
import re
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import ray

from mmcorpus.curation.engine import tasks
from mmcorpus.curation.synthetic.miniweb import MiniWebConfig
from mmcorpus.pipelines.recipe.load import load_recipe
from mmcorpus.pipelines.run.run_recipe import run_recipe
from tests.pipelines.whole_runs import QUICK, hashes, write_recipe

# Pairs, conversations and pages from a generated site to two trained models, all of it small.
SECTIONS: Final = """\
sources:
  pairs: {urls: "${web}/pairs.parquet"}
  instructions: {urls: "${web}/instructions.parquet", kind: conversation}
  pages: {kind: document, pages: "${web}/pages/*.warc.gz"}
score:
  scorers:
    image: {on: [pairs, pages.images]}
    caption: {on: [pairs, pages.paragraphs]}
    fingerprint: {on: [pairs]}
    document: {on: [pages]}
dedup:
  same_image: {by: image, sources: [pairs], among: caption.words > 2}
  same_file: {by: bytes, sources: [pages.images]}
  near_text: {by: minhash, column: caption, sources: [pages]}
select:
  pairs: {keep: "image.min_side >= 50 and caption.words > 2 and same_image.rank == 0", heldout_fraction: 0.2}
  pages: {keep: "near_text.rank == 0", heldout_fraction: 0.2}
pack:
  pretrain: {sources: [pairs], context_length: 128, tokens_per_image: 4, sequences_per_shard: 4, format: both}
  interleaved:
    {sources: [pages, pairs], mix: {pages: 60, pairs: 40}, context_length: 512, tokens_per_image: 4, max_images: 16,
     too_long: split, sequences_per_shard: 4}
  sft: {sources: [instructions], context_length: 256, tokens_per_image: 4, sequences_per_shard: 4}
"""
STAGES: Final = """\
    pretrain: &settings
      {pack: pretrain, schedule: {steps: 4}, data: {batch_sequences: 2, micro_batch_sequences: 2},
       freeze: {vision: false}, compute: {precision: fp32}, checkpoints: {every: 1}}
    sft:
      <<: *settings
      pack: sft
      init: pretrain
"""
CHANGES: Final = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"})
"""Audit events of what changes a folder, but for `open`, which may."""
WITH_TIMES: Final = re.compile(
    r"(run|summary|truth|.*/(list|state|made_from)|.*_stats)\.json|\.lock|report\.html|errors/.*|training/.*/metrics\.jsonl"
    r"|dedup/.*|manifests/.*"
)
"""Of a run's files those that hold times (of work, or of files) or hashes of those that do, or tell how often something
was tried. What deduplication finds is in `scores/`; in `dedup/` are its working files, named and marked by times."""


def killed_recipe(folder: Path) -> Path:
    """The recipe with its site, in a folder."""
    site = MiniWebConfig(pairs=60, instructions=12, pages=12, weights=QUICK, sides=(64, 160))
    return write_recipe(folder, SECTIONS, STAGES, site, name="killed", per_shard=20, workers=1)


class FileOperations:
    """An audit hook that counts the changes under a folder, and kills its process at or soon after one of them."""

    def __init__(self, folder: Path, last: int | None, delay: float) -> None:
        self._folder = str(folder)
        self._last = last
        self._delay = delay
        self.count = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            changes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            path, changes = arguments[0] if arguments else "", event in CHANGES
        if not changes or not isinstance(path, str | os.PathLike) or not os.fspath(path).startswith(self._folder):
            return
        self.count += 1
        if self.count == self._last:
            if not self._delay:
                os.kill(os.getpid(), signal.SIGKILL)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process as SIGKILL does, wherever it is by then
            signal.setitimer(signal.ITIMER_REAL, self._delay)


def in_this_process(
    make_work: Any, items: Sequence[Any], indices: Sequence[int], name: Any, *_: Any
) -> Iterator[tuple[int, tasks.Outcome]]:
    """`tasks._stream` without Ray."""
    work = make_work()
    for index in indices:
        yield index, tasks.attempt(lambda index=index: dict(work(items[index])), name(items[index]))  # type: ignore[misc]


def run(recipe: str, out: Path, last: int | None = None, delay: float = 0.0) -> tuple[int, int, list[str]]:
    """Run in a fork.

    Returns its status as `os.waitpid` gives it; and of one that was not killed how many file operations it did, and the
    modules it has imported.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        with os.fdopen(reader) as said:
            count, _, modules = said.read().partition("\n")
        return os.waitpid(pid, 0)[1], int(count or 0), modules.split()
    code = 1
    try:
        with out.with_name(f"{out.name}.log").open("w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        tasks._stream = in_this_process
        ray.is_initialized, ray.cluster_resources, ray.nodes = (lambda: True), (lambda: {"CPU": 1.0}), (lambda: [{}])
        operations = FileOperations(out, last, delay)
        sys.addaudithook(operations)
        result = run_recipe(load_recipe(recipe, []), str(out))
        for problem in result.problems:
            print(problem)
        with os.fdopen(writer, "w") as says:
            says.write(f"{operations.count}\n" + " ".join(sys.modules))
        code = 1 if result.problems else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def comparable(out: Path) -> dict[str, str]:
    """SHA-256 of every file of a run that another run must write with the same bytes, by path."""
    files = (path for path in out.rglob("*") if not WITH_TIMES.fullmatch(str(path.relative_to(out))))
    return hashes(out, files)


def stage_of(out: Path) -> str:
    """The stage that a killed run was in the midst of."""
    try:
        stages = json.loads((out / "run.json").read_text())["stages"]
    except FileNotFoundError:
        return "the start"
    return next((name for name, record in stages.items() if record["status"] in ("clearing", "running")), "between")


def main(recipe: str, out: Path, kills: int, seed: int) -> None:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # as the resizer does before it imports it
    chance = random.Random(seed)
    status, operations, modules = run(recipe, out)
    assert status == 0, out.with_name(f"{out.name}.log").read_text()
    for name in modules if kills else ():  # once, and not in each fork
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    expected, where, ended, differ = comparable(out), Counter[str](), 0, dict[str, list[str]]()
    out.rename(out.with_name("reference"))  # the others have its place: paths are in the bytes of working files
    started = time.monotonic()
    while sum(where.values()) < kills or out.exists():
        # Once there are enough of them the last run goes on to its end.
        last = chance.randint(1, max(2, operations // 12)) if sum(where.values()) < kills else None
        status, _, _ = run(recipe, out, last, chance.choice([0.0, chance.uniform(0.0, 0.02)]))
        if status in (signal.SIGKILL, signal.SIGALRM):
            where[stage_of(out)] += 1
            continue
        assert status == 0, out.with_name(f"{out.name}.log").read_text()
        found = comparable(out)
        ended += 1
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        if wrong:
            differ[f"run {ended}"] = wrong
            shutil.copytree(out, out.with_name(f"differs-{ended}"))
        shutil.rmtree(out)
    said = {
        "kills": sum(where.values()),
        "ended": ended,
        "where": dict(where),
        "differ": differ,
        "operations": operations,
    }
    print(json.dumps(said | {"seconds": round(time.monotonic() - started)}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
