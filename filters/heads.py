"""Small heads on CLIP image embeddings: LAION's aesthetic predictors, NSFW detectors, any chain of linear layers.

The layers are inferred from the weights' shapes. What shapes cannot tell, the activation between layers and whether the
last value is a logit, is said by the config. LAION's improved-aesthetic-predictor (`sac+logos+ava1-l14-linearMSE.pth`:
768 → 1024 → 128 → 64 → 16 → 1, for ViT-L/14) has no activation at all; its detectors of unsafe images have ReLUs.
"""

import itertools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mmcorpus.filters.weights import weights_identity

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """One head: a number for each image."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    weights: str
    """A local file: a PyTorch state dict (.pth, .pt, .bin) or .safetensors."""
    activation: Literal["none", "relu", "gelu"] = "none"
    """Between the linear layers."""
    output: Literal["value", "probability"] = "value"
    """`probability` puts the last value through a sigmoid."""

    def check(self) -> None:
        """Raise ValueError if the file is not there."""
        if not os.path.isfile(self.weights):
            raise ValueError(f"weights: there is no file at {os.path.abspath(self.weights)}")

    def describe(self) -> str:
        """The layers and the file's hash: `768-1024-128-64-16-1 none value FILE@HASH`."""
        widths = [self._layers()[0][0].shape[1], *(weight.shape[0] for weight, _ in self._layers())]
        return f"{'-'.join(map(str, widths))} {self.activation} {self.output} {weights_identity(self.weights)}"

    def load(self, dimensions: int, device: str) -> Callable[["torch.Tensor"], "torch.Tensor"]:
        """The head as a function from unit embeddings, float32 [images, dimensions], to float32 [images].

        Raises:
            ValueError: the file's layers do not form a chain from `dimensions` to one number.
        """
        import torch

        layers = [(weight.to(device), None if bias is None else bias.to(device)) for weight, bias in self._layers()]
        first = layers[0][0].shape[1]
        if first != dimensions:
            raise ValueError(
                f"{self.weights} is a head for embeddings of {first} numbers, and this model gives {dimensions}; "
                "use it with the CLIP model that it was trained on"
            )
        activate = {"none": None, "relu": torch.nn.functional.relu, "gelu": torch.nn.functional.gelu}[self.activation]

        def head(embeddings: "torch.Tensor") -> "torch.Tensor":
            x = embeddings
            for place, (weight, bias) in enumerate(layers):
                if place and activate is not None:
                    x = activate(x)
                x = torch.nn.functional.linear(x, weight, bias)
            x = x[:, 0]
            return torch.sigmoid(x) if self.output == "probability" else x

        return head

    def _layers(self) -> list[tuple["torch.Tensor", "torch.Tensor | None"]]:
        """Weight [out, in] and bias [out] of each linear layer, in the order of their names."""
        state = self._state()
        biases = {
            name: name.removesuffix("weight") + "bias"
            for name in sorted((name for name, value in state.items() if value.ndim == 2), key=_natural)
        }
        layers = [
            (state[name].float(), state[bias].float() if bias in state else None) for name, bias in biases.items()
        ]
        left = set(state) - {*biases, *biases.values()}
        chained = all(before.shape[0] == after.shape[1] for (before, _), (after, _) in itertools.pairwise(layers))
        if not layers or not chained or layers[-1][0].shape[0] != 1 or left:
            shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in state.items())
            raise ValueError(f"{self.weights} is no chain of linear layers that ends in one number; it holds {shapes}")
        return layers

    def _state(self) -> dict[str, "torch.Tensor"]:
        import torch

        try:
            if self.weights.endswith(".safetensors"):
                from safetensors.torch import load_file

                found: Any = load_file(self.weights)
            else:
                found = torch.load(self.weights, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises almost anything for files that are no weights
            raise ValueError(f"{self.weights} could not be read as weights: {error}") from error
        found = found.get("state_dict", found) if isinstance(found, dict) else {}
        return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}


def _natural(name: str) -> list[Any]:
    """`layers.10` comes after `layers.9`."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
