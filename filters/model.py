"""Judges that are models: a half on CPUs that turns samples into arrays, a half that holds the model (DESIGN §4).

The halves meet in arrays alone, so that decoders on many CPUs can feed a model on a GPU; on a machine without one, a
worker runs both, one after the other, on the same batches, and the scores are the same to the bit.
"""

import copy
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, Self

from mmcorpus.filters.scorer import Batch, Columns, Scorer

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "fp32", "bf16", "fp16"]

_SPEED_ONLY: Final = ("device", "batch_size")
"""Parameters that change no score beyond the last digit, and so do not make scores stale."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Halves:
    """A judging function in its two halves."""

    prepare: Callable[[Batch], Columns]
    """Samples to columns of equal length, arrays where it can be. Needs no model."""
    judge: Callable[[Columns], Columns]
    """Those to the scorer's columns."""

    def __call__(self, batch: Batch) -> Columns:
        return self.judge(self.prepare(batch))


@dataclass(frozen=True, kw_only=True)
class ModelScorer(Scorer):
    """A scorer that wants an accelerator. Subclasses define `load_model`, and `load_prepare` if samples take work."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    device: Device = "auto"
    """The device of the model; auto takes GPUs if the cluster has any."""
    dtype: Dtype = "auto"
    """Of the forward pass; auto is bf16 on a GPU and fp32 on a CPU."""
    batch_size: int = 256
    """Samples in one forward pass, at most."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; give 1 or more")

    @abstractmethod
    def load_model(self) -> Callable[[Columns], Columns]:
        """The half that holds the model: what `load_prepare` gives to the columns of the tables."""

    def load_prepare(self) -> Callable[[Batch], Columns]:
        """The half that runs on CPUs; without one the model gets the samples as they are."""
        return dict

    def load(self) -> Halves:
        return Halves(prepare=self.load_prepare(), judge=self.load_model())

    def on(self, device: Literal["cpu", "cuda"]) -> Self:
        other = copy.copy(self)
        chosen = device if self.device == "auto" else self.device
        object.__setattr__(other, "device", chosen)
        if self.dtype == "auto":
            object.__setattr__(other, "dtype", "bf16" if chosen == "cuda" else "fp32")
        return other

    def settled(self) -> Self:
        """The same scorer with what it leaves to the machine settled for the machine that this runs on."""
        if "auto" not in (self.device, self.dtype):
            return self
        import torch

        return self.on("cuda" if torch.cuda.is_available() else "cpu")

    def parameters(self) -> dict[str, Any]:
        return {name: value for name, value in super().parameters().items() if name not in _SPEED_ONLY}
