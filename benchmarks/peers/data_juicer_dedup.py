"""Data-Juicer's document_minhash_deduplicator over JSON lines; prints survivors as JSON.

python data_juicer_dedup.py DOCUMENTS_FOLDER OUT_FOLDER BANDS ROWS WORKERS
"""

import json
import sys
from pathlib import Path

from data_juicer.config import init_configs
from data_juicer.core import DefaultExecutor


def main() -> None:
    """Run the operator as a recipe of one, count what is left."""
    documents, out, bands, rows, workers = *sys.argv[1:3], *map(int, sys.argv[3:6])
    Path(out).mkdir(parents=True, exist_ok=True)
    recipe = {
        "project_name": "dedup",
        "dataset_path": documents,
        "export_path": f"{out}/kept.jsonl",
        "np": workers,
        "text_keys": "text",
        "ds_cache_dir": f"{out}/cache",
        "process": [
            {
                "document_minhash_deduplicator": {
                    "tokenization": "space",
                    "window_size": 5,
                    "lowercase": True,
                    "num_permutations": bands * rows,
                    "num_bands": bands,
                    "num_rows_per_band": rows,
                }
            }
        ],
    }
    path = Path(out, "recipe.yaml")
    path.write_text(json.dumps(recipe))  # JSON is YAML
    DefaultExecutor(init_configs(["--config", str(path)])).run()
    with Path(recipe["export_path"]).open() as file:
        # Data-Juicer turns sys.stdout into lines of its log.
        print(json.dumps({"survivors": sum(1 for _ in file)}), file=sys.__stdout__)


if __name__ == "__main__":
    main()
