"""text-dedup's MinHash script over JSON lines, with its own parameters for bands and rows; prints survivors as JSON.

python text_dedup_dedup.py DOCUMENTS_FOLDER OUT_FOLDER BANDS ROWS WORKERS
"""

import json
import subprocess
import sys


def main() -> None:
    """Run it as its users do, count what is left."""
    documents, out, bands, rows, workers = *sys.argv[1:3], *map(int, sys.argv[3:6])
    command = [
        sys.executable, "-m", "text_dedup.minhash", "--path", documents, "--split", "train",
        "--cache_dir", f"{out}/cache",
        "--output", f"{out}/kept", "--column", "text", "--batch_size", "10000", "--ngram", "5", "--min_length", "0",
        "--num_perm", str(bands * rows), "--b", str(bands), "--r", str(rows), "--num_proc", str(workers),
        "--hash_func", "xxh3", "--hash_bits", "64",
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=sys.stderr)
    from datasets import load_from_disk

    print(json.dumps({"survivors": len(load_from_disk(f"{out}/kept"))}))


if __name__ == "__main__":
    main()
