"""Hugging Face `datasets` on parquet or Arrow: samples and processor seconds, as JSON; in an environment of its own."""

import json
import sys
import time
from pathlib import Path

import datasets

PASSES = 3


def main(folder: str, kind: str) -> None:
    """Read all samples of a folder a few times, images as their bytes; the best time counts."""
    files = sorted(str(path) for path in Path(folder).iterdir())
    taken = []
    for _ in range(PASSES):
        if kind == "arrow":
            loaded = datasets.concatenate_datasets([datasets.Dataset.from_file(path) for path in files])
        else:
            loaded = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
        start = time.process_time()
        samples = sum(bool(row["image"]["bytes"]) and bool(row["text"]) for row in loaded)
        taken.append(time.process_time() - start)
    print(json.dumps({"samples": samples, "seconds": min(taken)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
