"""Residual dropout of the language model, with a rate of its own where a target is predicted (Molmo, arXiv 2409.17146).

Molmo's pretraining drops at text's targets alone ("text-only dropout": the model leans on the image instead of on the
caption so far), its instruction tuning everywhere. As in allenai/molmo's `Dropout`, what attention and feed-forward of
each block add to the residual stream is multiplied by 1/keep with probability keep, else by 0, where keep is
1 - response at positions that predict a target of weight above 0, and 1 - residual elsewhere.

What is dropped depends on the seed, the step, the sequence's number among the packs and the place in the model alone,
so it is the same for any micro-batches, devices, recomputed activations, and after a resume. On CPU and CUDA other
numbers are drawn. Nothing is dropped in evaluation mode: certificates, held-out losses, generation.

Shape legend: B sequences, L positions, D the language model's width, K positions at which something is dropped.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from mmcorpus.packing.draws import mix
from mmcorpus.training.batch import PackedBatch, collate, expand
from mmcorpus.training.config import DropoutConfig
from mmcorpus.training.model import VisionLanguageModel

_AFTER: Final = (
    ("post_attention_layernorm", "post_feedforward_layernorm"),  # Gemma 2 and 3, OLMo 2: normed, then added
    ("post_self_attn_layernorm", "post_mlp_layernorm"),  # GLM 4
)
_ATTENTION: Final = ("self_attn", "attention", "attn", "self_attention")
_FEED_FORWARD: Final = ("mlp", "feed_forward", "block_sparse_moe", "ffn")
_WORDS: Final = 6
"""Tokens of the text on which the places are tried."""


class ResidualDropout:
    """The dropout of one model's blocks, in training mode, from the `begin` of a batch on."""

    def __init__(self, model: VisionLanguageModel, config: DropoutConfig, seed: int) -> None:
        """Takes its places in the blocks. Raises ValueError for a decoder in which they are not known, or in which they
        are not all that is added to the residual stream (asked of the model itself, with everything dropped)."""
        self.config, self._seed = config, seed
        self._generators: dict[torch.device, torch.Generator] = {}
        self._rows: list[tuple[torch.Tensor, torch.Tensor, np.uint64]] = []
        self._all = False
        # Not a decorator: it would load the compiler on import. Seeded generators are nothing that it can trace.
        self._drop: Any = torch.compiler.disable(self._dropped)
        kind = model.language.config.model_type
        sites = [site for block in model.blocks for site in _sites(block, kind)]
        for number, site in enumerate(sites):
            site.register_forward_hook(self._hook(number))
        self._check(model, kind)

    def begin(self, batch: PackedBatch, step: int) -> None:
        """Say what the forward passes from here on are of: a batch, on its device, of step 0, 1, …"""
        b, length = batch.input_ids_BL.shape
        numbers = batch.sequences or (-1,) * b
        rates_BL = self._rates(batch)
        self._rows = []
        for row, number in enumerate(numbers):
            places = rates_BL[row].nonzero().flatten()
            words = np.array([self._seed, step, number % 2**64], dtype=np.uint64)
            key = mix(mix(mix(words[:1]) ^ words[1:2]) ^ words[2:])[0]
            self._rows.append((places + row * length, 1.0 - rates_BL[row, places], key))

    def _rates(self, batch: PackedBatch) -> torch.Tensor:
        """B×L fp32: the rate at each position, 0 at padding."""
        rates_BL = (batch.sample_ids_BL >= 0).float() * self.config.residual
        targets = batch.predict_positions_M
        if batch.weights_M is not None:
            targets = targets[batch.weights_M > 0]
        return rates_BL.flatten().index_fill(0, targets, self.config.at_targets).view_as(rates_BL)

    def _hook(self, site: int) -> Any:
        def hook(module: nn.Module, given: Any, output: Any) -> Any:
            if not module.training or not (self._rows or self._all):
                return None
            if isinstance(output, tuple):
                return self._drop(output[0], site), *output[1:]
            return self._drop(output, site)

        return hook

    def _dropped(self, added_BLD: torch.Tensor, site: int) -> torch.Tensor:
        if self._all:
            return torch.zeros_like(added_BLD)
        flat_D = added_BLD.reshape(-1, added_BLD.shape[-1])
        places_K = torch.cat([places for places, _, _ in self._rows])
        kept_KD = self.factors(site, flat_D.shape[-1]).to(flat_D.dtype)
        return flat_D.index_copy(0, places_K, flat_D.index_select(0, places_K) * kept_KD).view_as(added_BLD)

    def factors(self, site: int, width: int) -> torch.Tensor:
        """K×D fp32, 0 or 1/keep, of the batch begun: what is multiplied by at a place in the model, rows in order."""
        drawn = []
        for places, keep_K, key in self._rows:
            generator = self._generators.setdefault(places.device, torch.Generator(places.device))
            generator.manual_seed(int(mix(np.array([key ^ np.uint64(site)]))[0] >> np.uint64(1)))
            even_KD = torch.rand(len(places), width, generator=generator, device=places.device)
            drawn.append((even_KD < keep_K[:, None]) / keep_K[:, None])
        return torch.cat(drawn)

    def _check(self, model: VisionLanguageModel, kind: str) -> None:
        """Raise ValueError unless each block, with all that is dropped gone, hands on what it was given."""
        ids = np.arange(_WORDS) + min(100, model.decoder.config.vocab_size - _WORDS)
        batch = collate([expand(ids, [_WORDS], [_WORDS], [()], np.zeros((0, 3, 1, 1), np.uint8), [], 1)], multiple=1)
        worst: list[float] = []

        def compare(block: nn.Module, args: Sequence[Any], given: dict[str, Any], output: Any) -> None:
            before = args[0] if args else given["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            worst.append(float((after - before).abs().max() / before.abs().max().clamp(min=1e-6)))

        with contextlib.ExitStack() as stack, torch.no_grad():
            for block in model.blocks:
                stack.callback(block.register_forward_hook(compare, with_kwargs=True).remove)
            stack.enter_context(_training(model.language))
            try:
                self._all = True
                words_BLD = model.language.get_input_embeddings()(batch.input_ids_BL)
                model.decoded(words_BLD, batch)
            finally:
                self._all = False
        if not max(worst) <= 1e-5:
            raise ValueError(
                f"dropout: the blocks of this language model ({kind}) add more to the residual stream than what their "
                "attention and feed-forward give, so that it cannot be dropped; set dropout.residual and "
                "dropout.response to 0, or take another decoder"
            )


@contextlib.contextmanager
def _training(module: nn.Module) -> Iterator[None]:
    before = {each: each.training for each in module.modules()}
    module.train()
    try:
        yield
    finally:
        for each, mode in before.items():
            each.training = mode


def _sites(block: nn.Module, kind: str) -> list[nn.Module]:
    """The modules of a block whose outputs are added to the residual stream, in order."""
    names = dict(block.named_children())
    for pair in _AFTER:
        if set(pair) <= set(names):
            return [names[name] for name in pair]
    found = [next((names[name] for name in known if name in names), None) for known in (_ATTENTION, _FEED_FORWARD)]
    if None in found:
        raise ValueError(
            f"dropout: in the blocks of this language model ({kind}), which have {', '.join(names)}, attention and "
            "feed-forward are not known by their names; set dropout.residual and dropout.response to 0"
        )
    return [site for site in found if site is not None]
