"""datatrove's four MinHash stages over JSON lines, in WORKERS processes; prints survivors as JSON.

python datatrove_dedup.py DOCUMENTS_FOLDER OUT_FOLDER BANDS ROWS WORKERS
"""

import json
import sys
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers.jsonl import JsonlWriter
from datatrove.utils.hashing import HashConfig


def main() -> None:
    """Run the stages, count what is left."""
    documents, out, bands, rows, workers = *sys.argv[1:3], *map(int, sys.argv[3:6])
    config = MinhashConfig(n_grams=5, num_buckets=bands, hashes_per_bucket=rows, hash_config=HashConfig(precision=64))
    files = len(list(Path(documents).glob("*.jsonl")))
    reader = JsonlReader(documents, text_key="text", id_key="id")
    stages = [
        ([reader, MinhashDedupSignature(f"{out}/signatures", config=config)], files),
        ([MinhashDedupBuckets(f"{out}/signatures", f"{out}/buckets", config=config)], bands),
        ([MinhashDedupCluster(f"{out}/buckets", f"{out}/remove", config=config)], 1),
        ([reader, MinhashDedupFilter(f"{out}/remove"), JsonlWriter(f"{out}/kept", compression=None)], files),
    ]
    for number, (pipeline, tasks) in enumerate(stages):
        LocalPipelineExecutor(
            pipeline, tasks=tasks, workers=workers, logging_dir=f"{out}/logs-{number}", start_method="spawn"
        ).run()
    print(json.dumps({"survivors": sum(sum(1 for _ in path.open()) for path in Path(f"{out}/kept").glob("*.jsonl"))}))


if __name__ == "__main__":
    main()
