"""Held-out retrieval: how often a caption finds its picture, and a picture its caption.

Shape legend: N pairs, E the vectors' length.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch.nn import functional

from mmcorpus.curation.store import uid_arrays as uids
from mmcorpus.training.clip.data import PairLoader
from mmcorpus.training.clip.model import Clip
from mmcorpus.training.clip.pairs import Pairs

_ROWS = 1024  # of the matrix of similarities at a time


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """Pairs as unit vectors, fp32 on the CPU."""

    rows: list[int]
    """Those of the pairs whose image could be decoded."""
    images_NE: torch.Tensor
    texts_NE: torch.Tensor


def drawn(pairs: Pairs, count: int) -> list[int]:
    """At most `count` of the pairs, drawn by a hash of the uid."""
    ranks = uids.hashes(uids.encode(pairs.table["uid"]), "retrieval")
    return sorted(int(row) for row in np.argsort(ranks, kind="stable")[:count])


@torch.no_grad()
def embed(
    clip: Clip, pairs: Pairs, rows: Sequence[int], *, device: torch.device, precision: str, batch: int, threads: int
) -> Embedded:
    """The vectors of some pairs, prepared as at inference."""
    loader = PairLoader(pairs, clip.preprocess, clip.tokenize, threads=threads)
    groups = [list(rows[start : start + batch]) for start in range(0, len(rows), batch)]
    training = clip.model.training
    clip.model.eval()
    images, texts, kept = [], [], list[int]()
    for group, loaded in zip(groups, loader.evaluation_batches(groups), strict=True):
        there = loaded.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            image, text = clip.encode(there.images_B3SS, there.tokens_BT)
        images.append(image[there.valid_B].cpu())
        texts.append(text[there.valid_B].cpu())
        kept += [row for row, valid in zip(group, loaded.valid_B.tolist(), strict=True) if valid]
    clip.model.train(training)
    nothing = torch.zeros(0, 1)
    return Embedded(
        rows=kept,
        images_NE=torch.cat(images) if images else nothing,
        texts_NE=torch.cat(texts) if texts else nothing,
    )


def retrieval(
    images_NE: torch.Tensor, texts_NE: torch.Tensor, captions: Sequence[str], scale: float
) -> dict[str, float]:
    """Recall at 1 and 5 in both directions, and the contrastive loss over all N at once, in nats.

    A picture has found its caption when a caption of the same words is among the first k: web captions repeat. Of equal
    similarities the wrong ones count as the nearer, so that a model that gives the same vector to all recalls nothing.
    """
    groups = torch.from_numpy(pa.array(captions, pa.string()).dictionary_encode().indices.to_numpy().astype(np.int64))
    found: dict[str, float] = {}
    loss = 0.0
    for name, queries, answers in (("image_to_text", images_NE, texts_NE), ("text_to_image", texts_NE, images_NE)):
        ranks = []
        for start in range(0, len(queries), _ROWS):
            similarity = queries[start : start + _ROWS] @ answers.T
            right = groups[start : start + _ROWS, None] == groups[None, :]
            best = similarity.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
            ranks.append(((similarity >= best) & ~right).sum(1))
            own = torch.arange(start, start + len(similarity))
            loss += float(functional.cross_entropy(scale * similarity, own, reduction="sum"))
        rank = torch.cat(ranks) if ranks else torch.zeros(0)
        for k in (1, 5):
            found[f"{name}_r{k}"] = float((rank < k).float().mean()) if len(rank) else float("nan")
    return {"heldout_loss": loss / (2 * len(captions)) if captions else float("nan"), **found}
