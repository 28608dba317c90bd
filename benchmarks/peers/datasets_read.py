"""Hugging Face `datasets` reading parquet or Arrow: samples and seconds, as JSON; run in an environment of its own."""

import json
import sys
import time
from pathlib import Path

import datasets


def main(folder: str, kind: str) -> None:
    """Read all samples of a folder, images as their bytes."""
    files = sorted(str(path) for path in Path(folder).iterdir())
    if kind == "arrow":
        loaded = datasets.concatenate_datasets([datasets.Dataset.from_file(path) for path in files])
    else:
        loaded = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
    start = time.perf_counter()
    samples = sum(bool(row["image"]["bytes"]) and bool(row["text"]) for row in loaded)
    print(json.dumps({"samples": samples, "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main(*sys.argv[1:])
