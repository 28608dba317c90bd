"""Equal work for every device: which of a step's sequences go to which, from what each costs.

Packed sequences are about equally long and yet differ in work: one of many short samples has little attention, one of
tiled images much to encode. Devices wait for the slowest, so the step takes as long as the largest share.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

if TYPE_CHECKING:
    from mmcorpus.training.model import VisionLanguageModel

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Work:
    """FLOPs of a training step, forward and backward, for a unit of each cost in a pack's index."""

    position: float
    """A position in the decoder's blocks."""
    target: float
    """A token through the LM head."""
    attention: float
    """A pair of positions of a sample, half of which see each other."""
    crop: float
    """A crop through encoder and projector."""

    @classmethod
    def of(cls, model: "VisionLanguageModel") -> Self:
        """Of a model as its parts are frozen now: 2 FLOPs a weight forward, twice that backward where it is trained,
        once where the gradient only goes through to what comes before."""
        language: Any = model.language
        config = language.config
        head = language.get_output_embeddings().weight
        blocks = _weights(model.blocks) - sum(layer.idle for layer in model.sparse.values())
        whole, encoder = _weights(model), _weights(language)
        encoder = whole - encoder
        trained = any(weight.requires_grad for weight in language.parameters())
        encodes = any(weight.requires_grad for weight in model.vision.parameters())
        decode = 6.0 if trained else 4.0
        return cls(
            position=decode * blocks,
            target=decode * head.numel(),
            attention=decode * config.num_hidden_layers * config.hidden_size,
            crop=(6.0 if encodes else 2.0) * model.vision.patches * encoder,
        )

    def costs(self, index: pa.Table) -> Floats:
        """FLOPs of each sequence of a pack's index; shape (sequences,)."""
        length, targets, attention, crops = (
            index[name].to_numpy().astype(np.float64) for name in ("length", "targets", "attention", "crops")
        )
        found: Floats = self.position * length + self.target * targets + self.attention * attention + self.crop * crops
        return found


def _weights(module: Any) -> int:
    return sum(weight.numel() for weight in module.parameters())


def assign(step: Sequence[int], costs: npt.ArrayLike, world: int) -> list[list[int]]:
    """A step's sequences by device, each device about the same work and as many as by turns (to one).

    `costs` are of the sequences in `step`, in its order. Pure: the same on every device. One device keeps the step's
    order; of several each begins with its dearest, so that forward passes that run at once are alike. The dearest
    sequence left goes to the device with the least (LPT), then sequences change places while that lowers the largest.
    """
    if world == 1:
        return [list(step)]
    cost = np.asarray(costs, dtype=np.float64)
    if cost.shape != (len(step),):
        raise ValueError(f"costs of shape {cost.shape} are not one of each of {len(step)} sequences")
    room = [len(range(rank, len(step), world)) for rank in range(world)]
    shares: list[list[int]] = [[] for _ in range(world)]
    heap = [(0.0, rank) for rank in range(world) if room[rank]]
    for place in np.argsort(-cost, kind="stable").tolist():
        load, rank = heapq.heappop(heap)
        shares[rank].append(place)
        if len(shares[rank]) < room[rank]:
            heapq.heappush(heap, (load + float(cost[place]), rank))
    _even_out(shares, cost)
    return [[step[place] for place in sorted(share, key=lambda place: (-cost[place], place))] for share in shares]


def _even_out(shares: list[list[int]], cost: Floats) -> None:
    """Swap a sequence of the device with most work for one of another's while that lowers the larger of the two."""
    loads = np.array([cost[share].sum() for share in shares])
    for _ in range(4 * len(shares)):
        most = int(loads.argmax())
        best: tuple[float, int, int, int] | None = None
        for other in np.argsort(loads, kind="stable").tolist():
            if other == most or not shares[other]:
                continue
            gain = cost[shares[most]][:, None] - cost[shares[other]][None, :]  # what moves from most to other
            after = np.maximum(loads[most] - gain, loads[other] + gain)
            place = int(after.argmin())
            if best is None or after.flat[place] < best[0]:
                best = (float(after.flat[place]), other, *divmod(place, len(shares[other])))
        if best is None or best[0] >= loads[most] * (1 - 1e-12):
            return
        _, other, mine, theirs = best
        moved = cost[shares[most][mine]] - cost[shares[other][theirs]]
        shares[most][mine], shares[other][theirs] = shares[other][theirs], shares[most][mine]
        loads[most] -= moved
        loads[other] += moved
