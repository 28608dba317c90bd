"""Megatron-Energon reading packs' tars, images decoded, resized and stacked; run in an environment of its own.

python energon_load.py PACKS OUT SIDE ROUNDS prints the processor seconds of the quickest round as JSON. Energon's index
is made beforehand, in OUT, whose tars are links to those of PACKS. One process, no workers, a sequence a sample, four a
batch; a round is one epoch, the loader made anew.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from megatron.energon import (
    Cooker,
    DefaultTaskEncoder,
    SampleDecoder,
    WorkerConfig,
    get_loader,
    get_val_dataset,
    stateless,
)
from megatron.energon.flavors.webdataset.prepare import WebdatasetPreparator
from PIL import Image


def prepare(packs: Path, out: Path) -> None:
    """Link the tars, have Energon index them, and say that they are crude samples, for a cooker of one's own."""
    out.mkdir(parents=True)
    names = sorted(path.name for path in packs.glob("*.tar"))
    for name in names:
        os.link(packs / name, out / name)
    WebdatasetPreparator.prepare_dataset(out, names, split_parts_ratio=[("val", 1.0)], shuffle_seed=None, workers=1)
    described = {"__module__": "megatron.energon", "__class__": "CrudeWebdataset"}
    (out / ".nv-meta" / "dataset.yaml").write_text(json.dumps(described))  # JSON is YAML


@stateless
def cook(sample: dict[str, Any]) -> dict[str, Any]:
    """A sequence by its parts' names."""
    return dict(sample)


class Encoder(DefaultTaskEncoder):
    """A sequence's images as squares; a batch is what a model takes of them."""

    decoder = SampleDecoder(image_decode="pilrgb")
    side = 0

    cookers = (Cooker(cook),)

    @stateless
    def encode_sample(self, sample: dict[str, Any]) -> dict[str, Any]:
        """The ids and lengths, and the images resized."""
        pictures = [self.square(sample[key]) for key in sorted(sample) if key[:3].isdigit()]
        return {"ids": sample["input_ids.npy"], "lengths": sample["json"]["lengths"], "pictures": pictures}

    def square(self, image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """As `benchmarks/packing_loader.py` makes it of webdataset's."""
        resized = image.convert("RGB").resize((self.side, self.side), Image.Resampling.BICUBIC)
        return np.asarray(resized, dtype=np.uint8).transpose(2, 0, 1)

    def batch(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """The pictures of all as one tensor."""
        pictures = [picture for sample in samples for picture in sample["pictures"]]
        return {"ids": [sample["ids"] for sample in samples], "pictures": torch.from_numpy(np.stack(pictures))}

    def encode_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """As it is."""
        return batch


def main() -> None:
    """Count the images of each round, so that none is left out."""
    packs, out, side, rounds = Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:5])
    torch.set_num_threads(1)
    prepare(packs, out)
    Encoder.side = side
    seconds, images = [], 0
    for _ in range(rounds):
        start = time.process_time()
        config = WorkerConfig(rank=0, world_size=1, num_workers=0)
        dataset = get_val_dataset(out, worker_config=config, batch_size=4, task_encoder=Encoder())
        images = sum(len(batch["pictures"]) for batch in get_loader(dataset))
        seconds.append(time.process_time() - start)
    print(json.dumps({"seconds": min(seconds), "images": images}))


if __name__ == "__main__":
    main()
