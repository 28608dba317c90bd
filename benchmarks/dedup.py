"""Fuzzy deduplication against datasketch, rensa, text-dedup, datatrove and Data-Juicer.

    python -m benchmarks.dedup                       # signatures, then 1 M documents against the peers
    python -m benchmarks.dedup --documents 20000     # a smoke test
    python -m benchmarks.dedup --only costs --sizes 10000,100000,1000000,10000000

signatures: one thread, from a text to its numbers, 5-word shingles of the same words; the peers by their fastest call
for many texts. dedup: the same documents, 5 words, 14 bands x 8 rows, as many processes as cores; seconds from the
start of the process to the last file, the peak of the proportional memory (PSS, children included) and the documents
left. Each peer keeps its own normalisation and hashes, so survivors differ by a little. costs: ours alone, a document
at each size, with and without verification. The peers' environments are made under --envs at the first run (minutes
and gigabytes); what does not install is skipped, and the reason printed.

The documents: sentences of the Debian handbook (of Python's help where apt is missing) drawn at random, 30 % of them
copies of an earlier one with words changed or the end cut, 5 % exact copies, of which one in twenty of a single text.
"""

import argparse
import json
import os
import pydoc_data.topics
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common import show, write_result
from benchmarks.handbook import read_pages
from mmcorpus.curation.store.uid import pair_uid

BANDS, ROWS = 14, 8
PER_SHARD: Final = 10_000
PEERS: Final = Path(__file__).parent / "peers"
PACKAGES: Final = {
    "rensa": ["rensa"],
    "datatrove": ["datatrove[io,processing]", "spacy", "orjson"],
    "text-dedup": ["text-dedup"],
    "data-juicer": ["py-data-juicer", "aiohttp"],
    "datasets": ["datasets", "pillow"],
    "energon": ["megatron-energon"],
    "nanovlm": ["torch", "torchvision", "transformers<5", "einops", "pillow", "pyarrow"],
}
SCRIPTS: Final = {
    "text-dedup": "text_dedup_dedup.py",
    "datatrove": "datatrove_dedup.py",
    "data-juicer": "data_juicer_dedup.py",
}


def sentences() -> list[str]:
    """Plain sentences of 6 to 40 words, sorted, each once."""
    try:
        texts = [
            text for page in read_pages() if page.language[:2] in ("en", "fr", "de", "es") for text in page.paragraphs
        ]
    except RuntimeError as error:
        print(f"no handbook ({error}); the sentences are those of Python's help")
        texts = list(pydoc_data.topics.topics.values())
    words = (re.findall(r"\w+", part.lower()) for text in texts for part in re.split(r"[.!?:]\s", text))
    return sorted({" ".join(part) for part in words if 6 <= len(part) <= 40})


class Documents:
    """Document i is a function of i alone, so that any number of them can be made in pieces."""

    def __init__(self) -> None:
        self.sentences = sentences()

    def original(self, number: int) -> str:
        """Three to twelve sentences."""
        draw = random.Random(number)
        return " ".join(draw.choices(self.sentences, k=draw.randint(3, 12)))

    def __getitem__(self, number: int) -> str:
        draw = random.Random(-1 - number)
        fate = draw.random()
        if number < 100 or fate >= 0.35:
            return self.original(number)
        earlier = draw.randrange(number) if fate >= 0.0025 else 7
        words = self.original(earlier).split()
        if fate < 0.05:
            return " ".join(words)
        if fate < 0.2:
            words = words[: max(6, round(len(words) * draw.uniform(0.6, 1)))]
        for _ in range(draw.randint(0, max(1, len(words) // 40))):
            words[draw.randrange(len(words))] = draw.choice(("one", "other", "third", "next", "last"))
        return " ".join(words)


def write_documents(folder: Path, documents: Documents, count: int, *, lines: bool) -> None:
    """As shards of rows (what ours reads) and, for the peers, as JSON lines."""
    shards, texts = folder / "shards", folder / "texts"
    for path in (shards, texts):
        path.mkdir(parents=True, exist_ok=True)
    for shard, start in enumerate(range(0, count, PER_SHARD)):
        rows = [documents[number] for number in range(start, min(start + PER_SHARD, count))]
        ids = [f"{number:09d}" for number in range(start, start + len(rows))]
        uids = [pair_uid(one, "") for one in ids]
        table = pa.table({"key": ids, "uid": uids, "status": ["success"] * len(rows), "caption": rows})
        pq.write_table(table, shards / f"{shard:05d}.parquet", compression="zstd")
        (shards / f"{shard:05d}_stats.json").write_text(json.dumps({"successes": len(rows)}))
        if lines:
            with (texts / f"{shard:05d}.jsonl").open("w") as file:
                for one, text in zip(ids, rows, strict=True):
                    file.write(json.dumps({"id": one, "text": text}, ensure_ascii=False) + "\n")


def measured(command: list[str], **environment: str) -> dict[str, Any]:
    """A command's last line of output as JSON, its seconds, the CPU's seconds (to a quarter of one a process) and the
    peak memory of it and all that it starts."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=output, stderr=errors, env={**os.environ, **environment})
        peak, done, worked = 0, threading.Event(), dict[int, float]()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.25):
                family = _family(process.pid)
                peak = max(peak, sum(_pss(pid) for pid in family))
                worked.update({pid: max(worked.get(pid, 0.0), _cpu(pid)) for pid in family})

        watcher = threading.Thread(target=watch)
        watcher.start()
        status = process.wait()
        seconds = time.perf_counter() - start
        done.set()
        watcher.join()
        output.seek(0)
        errors.seek(0)
        lines = output.read().strip().splitlines()
        if status or not lines:
            last = " / ".join(errors.read().strip().splitlines()[-3:])
            raise RuntimeError(f"{' '.join(command)} ended after {seconds:.0f} s with status {status}: {last}")
        found = json.loads(lines[-1])
        return {**found, "wall": seconds, "cpu": sum(worked.values()), "peak_mb": peak / 2**10}


def _family(root: int) -> list[int]:
    """A process and all below it (Linux)."""
    family = [root]
    for pid in family:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                family += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return family


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has had; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pss(pid: int) -> int:
    """Kilobytes, shared pages counted in parts."""
    try:
        found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def environment(name: str, envs: Path) -> Path | None:
    """The Python of a peer's own environment, made if it is not there; None, with the reason printed, if that fails."""
    python = envs / name / "bin" / "python"
    if (envs / name / "ready").exists():
        return python
    shutil.rmtree(envs / name, ignore_errors=True)
    commands = [
        [sys.executable, "-m", "venv", str(envs / name)],
        [str(python), "-m", "pip", "install", "-q", *PACKAGES[name]],
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{name} is left out, it does not install: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
            return None
    (envs / name / "ready").touch()
    return python


def ours_signatures(path: str) -> None:
    """The rate of our signatures, as `peers/signatures.py` measures the others'."""
    from mmcorpus.curation.dedup.minhash import PRESETS, permutations_of
    from mmcorpus.curation.dedup.text import sign

    texts = pa.array(json.loads(Path(path).read_text()))
    a, b = permutations_of(BANDS * ROWS, 1)
    shingles = PRESETS["fineweb"].shingles
    sign(texts[:10], shingles, a, b)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        sign(texts, shingles, a, b)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": sorted(seconds)[1]}))


def ours_dedup(folder: str, work: str, verify: float | None, workers: int) -> None:
    """Our whole deduplication."""
    import ray

    from mmcorpus.curation.dedup.minhash import MinHash
    from mmcorpus.curation.dedup.run import deduplicate
    from mmcorpus.curation.dedup.sources import Source

    os.environ |= {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_raylet_start_wait_time_s": "120"}
    ray.init(num_cpus=workers, include_dashboard=False, object_store_memory=200_000_000, log_to_driver=False)
    source = Source(name="web", shards=f"{folder}/shards", scores=f"{work}/scores")
    method = MinHash(preset="fineweb", verify=verify)
    report = deduplicate("near", method, [source], f"{work}/dedup", workers=workers)
    ray.shutdown()
    print(json.dumps({"survivors": report.samples - report.duplicates, "compared": report.candidates}))


def signatures(documents: Documents, envs: Path, count: int) -> list[dict[str, Any]]:
    """Rows of signatures a second."""
    texts = [documents[number] for number in range(count)]
    quiet = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    rensa = environment("rensa", envs)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(texts, file)
        file.flush()
        peer = [str(PEERS / "signatures.py")]
        runs = [("mmcorpus", [sys.executable, "-m", "benchmarks.dedup", "--child", "signatures", file.name])]
        runs += [("datasketch", [sys.executable, *peer, "datasketch", file.name, str(BANDS * ROWS)])]
        if rensa is not None:
            runs += [("rensa", [str(rensa), *peer, "rensa", file.name, str(BANDS * ROWS)])]
            runs += [
                ("rensa, shingles hashed before", [str(rensa), *peer, "rensa-hashed", file.name, str(BANDS * ROWS)])
            ]
        rows = [{"who": who, "per_second": count / measured(command, **quiet)["seconds"]} for who, command in runs]
    for row in rows:
        row["of_datasketch"] = row["per_second"] / rows[1]["per_second"]
    return rows


def against_peers(folder: Path, documents: Documents, count: int, envs: Path, workers: int) -> Iterator[dict[str, Any]]:
    """Rows of whole deduplications of the same documents, each in its own process."""
    write_documents(folder, documents, count, lines=True)
    ours = [sys.executable, "-m", "benchmarks.dedup", "--child"]
    runs = [
        ("mmcorpus", [*ours, "dedup", str(folder), "none"]),
        ("mmcorpus, verified at 0.8", [*ours, "dedup", str(folder), "0.8"]),
    ]
    for name, script in SCRIPTS.items():
        python = environment(name, envs)
        if python is not None:
            runs.append((name, [str(python), str(PEERS / script), str(folder / "texts")]))
    for who, command in runs:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            own = [] if who.startswith("mmcorpus") else [str(BANDS), str(ROWS)]
            try:
                found = measured([*command, f"{out}/run", *own, str(workers)], TOKENIZERS_PARALLELISM="false")
            except RuntimeError as error:
                print(f"{who} is left out: {error}")
                continue
        yield {"who": who, "documents": count, "seconds": found["wall"], "us_a_document": found["wall"] / count * 1e6,
               "cpu_seconds": found["cpu"], "peak_mb": found["peak_mb"], "survivors": found["survivors"]}  # fmt: skip


def costs(folder: Path, documents: Documents, sizes: list[int], workers: int) -> Iterator[dict[str, Any]]:
    """Rows of our cost at several sizes."""
    for count in sizes:
        write_documents(folder / f"{count}", documents, count, lines=False)
        for verify in ("none", "0.8"):
            with tempfile.TemporaryDirectory(dir=folder) as out:
                child = ["--child", "dedup", str(folder / f"{count}"), verify, f"{out}/run", str(workers)]
                found = measured([sys.executable, "-m", "benchmarks.dedup", *child])
                disk = sum(path.stat().st_size for path in Path(out).rglob("*") if path.is_file())
            yield {"documents": count, "verify": verify, "seconds": found["wall"], "peak_mb": found["peak_mb"],
                   "us_a_document": found["wall"] / count * 1e6, "cpu_us": found["cpu"] / count * 1e6,
                   "disk_mb": disk / 2**20, "survivors": found["survivors"], "compared": found["compared"]}  # fmt: skip
        shutil.rmtree(folder / f"{count}")


def main() -> None:
    """Parse the command line, run, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--documents", type=int, default=1_000_000, help="for the whole deduplication against the peers"
    )
    parser.add_argument("--texts", type=int, default=5000, help="for the signatures")
    parser.add_argument("--sizes", default="10000,100000,1000000", help="for the costs")
    parser.add_argument("--only", choices=["signatures", "dedup", "costs"])
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--envs", type=Path, default=Path.home() / ".cache" / "mmcorpus" / "peers")
    parser.add_argument("--child", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, *rest = options.child
        if kind == "signatures":
            ours_signatures(rest[0])
        else:
            folder, verify, work, workers = rest
            ours_dedup(folder, work, None if verify == "none" else float(verify), int(workers))
        return
    documents, result = Documents(), dict[str, list[dict[str, Any]]]()
    name = "dedup" if options.only is None else f"dedup-{options.only}"

    def collect(part: str, title: str, rows: Iterable[dict[str, Any]]) -> None:
        """Rows are written as they come: the slowest peer takes an hour, and may fail."""
        result[part] = []
        for row in rows:
            print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            result[part].append(row)
            write_result(name, result)
        show(title, result[part])

    with tempfile.TemporaryDirectory(prefix="dedup-") as folder:
        if options.only in (None, "signatures"):
            rows = signatures(documents, options.envs, options.texts)
            collect("signatures", f"Signatures of {BANDS * ROWS} permutations, one thread", rows)
        if options.only in (None, "dedup"):
            found = against_peers(Path(folder, "peers"), documents, options.documents, options.envs, options.workers)
            collect("dedup", f"Fuzzy deduplication, {BANDS} x {ROWS}, {options.workers} processes", found)
        if options.only in (None, "costs"):
            sizes = [int(size) for size in options.sizes.split(",")]
            collect("costs", "Cost a document", costs(Path(folder, "costs"), documents, sizes, options.workers))
    print(f"written to {write_result(name, result)}")


if __name__ == "__main__":
    main()
