"""nanoVLM's loader over image-caption pairs; run in an environment of its own, on a checkout of huggingface/nanoVLM.

python nanovlm_load.py CHECKOUT PAIRS TOKENIZER SIDE LENGTH TOKENS ROUNDS prints the processor seconds of the quickest
round, its images and its positions as JSON. PAIRS is a Parquet file with the columns `image` (encoded) and `caption`,
LENGTH a sequence's positions, TOKENS an image's. Every image becomes one square of SIDE pixels, with values from 0 to 1
in fp32, as nanoVLM has them; they are not stacked, which is its model's work. No workers, four sequences a batch, the
buffer of its `train.py` (`batch_size * 4` sequences); a round is one epoch, the loader made anew. Its template is image
and caption alone, so that its positions are those of other loaders.
"""

import io
import json
import sys
import time
from typing import Any

import pyarrow.parquet as pq
import torch
from PIL import Image
from torch.utils.data import DataLoader

BATCH = 4
TEMPLATE = "{% for one in messages %}{{ one['content'] }}{% endfor %}"


class Pairs:
    """Decoded when asked for, as `datasets` does; the bytes lie in memory."""

    def __init__(self, path: str) -> None:
        table = pq.read_table(path)
        self.images, self.captions = table["image"].to_pylist(), table["caption"].to_pylist()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> dict[str, Any]:
        image = Image.open(io.BytesIO(self.images[number]))
        image.load()
        return {"images": [image], "texts": [{"user": "", "assistant": self.captions[number]}]}


def main() -> None:
    """Count images and positions of each round, so that none is left out."""
    checkout, pairs, folder = sys.argv[1:4]
    side, length, tokens, rounds = map(int, sys.argv[4:8])
    sys.path.insert(0, checkout)
    from data.advanced_datasets import ConstantLengthDataset  # type: ignore[import-not-found]
    from data.collators import VQACollator  # type: ignore[import-not-found]
    from data.datasets import VQADataset  # type: ignore[import-not-found]
    from data.processors import get_image_processor, get_tokenizer  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    special = {"image_token": "<|image|>", "r1c1": "<row_1_col_1>"}
    seconds, images, positions = [], 0, 0
    dataset = Pairs(pairs)
    tokenizer = get_tokenizer(folder, special, TEMPLATE)
    for _ in range(rounds):
        start = time.process_time()
        questions = VQADataset(dataset, tokenizer, get_image_processor(side, side), tokens)
        packed = ConstantLengthDataset(
            questions, max_sample_length=length, seq_length=length, num_of_sequences=BATCH * 4, queue_size=8
        )
        images = positions = 0
        for batch in DataLoader(packed, batch_size=BATCH, collate_fn=VQACollator(tokenizer, length)):
            images += sum(len(squares) for sequence in batch["images"] for squares in sequence)
            positions += int(batch["attention_mask"].sum())
        seconds.append(time.process_time() - start)
    print(json.dumps({"seconds": min(seconds), "images": images, "positions": positions}))


if __name__ == "__main__":
    main()
