"""The vision-language model: embed → encode → project → place → decode (Open-Qwen2VL §2.1).

It knows nothing of devices, distribution or data files. Shape legend: B sequences, L positions, D the language model's
width, N images (of tiled ones crops), T tokens an image, K image tokens of a batch or patches of a token, M target
tokens, V the vocabulary's size, P patches of an image, Q those of all crops, E the encoders' width.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mmcorpus.packing.layout import PerImage, SquareLayout
from mmcorpus.training.attention import NAMES, Attention, attention_mask, register_varlen
from mmcorpus.training.batch import PackedBatch
from mmcorpus.training.config import ModelConfig, MoEConfig, RandomLanguage
from mmcorpus.training.config.model import layout_name
from mmcorpus.training.connector import build_connector
from mmcorpus.training.decoder import LogitShape, check_layers, masks
from mmcorpus.training.loss import Head, token_losses
from mmcorpus.training.moe import MixtureOfExperts, sparse_layers, upcycle
from mmcorpus.training.optim import GroupConfig, grouped
from mmcorpus.training.resolution import resized, resized_configs
from mmcorpus.training.vision import GREY, VisionEncoder, build_vision


class VisionLanguageModel(nn.Module):
    """Encoders, connector and causal language model over packed batches."""

    def __init__(self, config: ModelConfig, vision: VisionEncoder, language: Any) -> None:
        """`language`: a causal language model of transformers, dense where `config` makes it one of experts."""
        super().__init__()
        self.config = config
        self.vision = vision
        self.projector = build_connector(
            config.connector, vision.width, language.config.hidden_size, config.layout, vision.patches
        )
        self.language: Any = language
        self.logit_shape = LogitShape.of(language.config.to_dict())
        self.isolated = True
        self.attention: Attention = "sdpa"
        self.train_vision = True
        self._check_layout(config.layout)
        if config.moe is not None:
            upcycle(self.blocks, config.moe)

    @property
    def decoder(self) -> Any:
        """The language model without its head."""
        return self.language.get_decoder()

    @property
    def blocks(self) -> nn.ModuleList:
        """The language model's transformer blocks."""
        count = self.language.config.num_hidden_layers
        found = [m for m in self.decoder.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
        if not found:
            raise ValueError(
                f"no list of {count} blocks in a language model of the type {self.language.config.model_type}"
            )
        return found[0]

    @property
    def sparse(self) -> dict[int, MixtureOfExperts]:
        """Its mixtures of experts by layer, from 0; none in a dense decoder, or one that transformers has as sparse."""
        return sparse_layers(self.blocks)

    @property
    def head(self) -> Head:
        """What makes logits of the decoder's hidden states."""
        head: Any = self.language.get_output_embeddings()
        return Head(weight_VD=head.weight, bias_V=head.bias, shape=self.logit_shape)

    def set_attention(self, *, isolated: bool, implementation: Attention) -> None:
        """Choose whether samples in a pack see each other, and the kernel."""
        if implementation == "varlen":
            register_varlen()
        self.isolated, self.attention = isolated, implementation
        self.language.set_attn_implementation(NAMES[implementation])

    def set_layout(self, layout: PerImage) -> None:
        """Lay images out so from now on; vectors for marks that were not there are drawn anew. Raises ValueError for
        more tokens than there are patches, another patch size, or a connector whose weights depend on the layout. Of
        squares their number of tokens is kept, as a model's config has it: they are the encoder's size."""
        layout = layout.tokens if isinstance(layout, SquareLayout) else layout
        self._check_layout(layout)
        self.projector.set_layout(layout)
        self.config = dataclasses.replace(self.config, layout=layout)

    def set_image_size(self, side: int, layout: PerImage | None = None) -> None:
        """Have the encoders see squares of `side` pixels from now on, their position embeddings interpolated; `layout`
        is what an image becomes then, if another than before (`set_layout`). Raises ValueError for a size that they
        cannot have, or a connector whose weights depend on it."""
        if side == self.vision.image_size:
            if layout is not None:
                self.set_layout(layout)
            return
        layout = self.config.layout if layout is None else layout
        layout = layout.tokens if isinstance(layout, SquareLayout) else layout
        vision = self.vision = resized(self.vision, self.config.encoders, side)
        encoders = resized_configs(self.config.encoders, side)
        self._check_layout(layout)
        try:
            connector = build_connector(
                self.config.connector, vision.width, self.language.config.hidden_size, layout, vision.patches
            )
            # Of one kind they differ in shapes, and in the marks that a layout sets.
            connector.load_state_dict(self.projector.state_dict(), strict=False)
        except RuntimeError as error:
            raise ValueError(
                f"the connector {self.config.connector.kind} has weights for other patches a token than image_size "
                f"{side} gives with {layout_name(layout)}; take a connector that averages or attends to them, or "
                "another number of tokens"
            ) from error
        self.projector = connector
        self.config = dataclasses.replace(self.config, encoders=encoders, layout=layout)

    def set_moe(self, moe: MoEConfig) -> None:
        """Make a dense language model one of experts that computes the same, or weigh their losses otherwise from now
        on. Raises ValueError for other experts than there are, or a decoder that has none to make."""
        before = self.config.moe
        if before is None:
            upcycle(self.blocks, moe)
        elif not before.same_shape(moe):
            raise ValueError(
                f"the stage wants {moe.experts} experts, top-{moe.top_k}, in every layer of {moe.every}, and the model "
                f"has {before.experts}, top-{before.top_k}, of {before.every}; upcycle a dense model, or keep them"
            )
        self.config = dataclasses.replace(self.config, moe=moe)

    def check_beside(self, layout: PerImage) -> None:
        """Raise ValueError unless images of this layout may stand beside those of the model's."""
        self._check_layout(layout)
        self.projector.check_beside(layout)

    def _check_layout(self, layout: PerImage) -> None:
        vision = self.vision
        if isinstance(layout, int):
            if layout > vision.patches:
                raise ValueError(
                    f"tokens_per_image is {layout}, but the encoder gives {vision.patches} patches of an image of "
                    f"{vision.image_size} pixels a side; give that number or less"
                )
        elif layout.patch != vision.patch:
            raise ValueError(
                f"the layout {layout.kind!r} has patches of {layout.patch} pixels, the encoder's are of "
                f"{vision.patch}: set the layout's patch to {vision.patch} and pack again, or take another encoder"
            )

    def freeze(self, *, vision: bool, projector: bool, language: bool) -> None:
        """Choose the parts that are not trained."""
        for part, frozen in ((self.vision, vision), (self.projector, projector), (self.language, language)):
            part.requires_grad_(not frozen)
        self.train_vision = not vision

    def train_groups(self, groups: Sequence[GroupConfig]) -> None:
        """Train the parameters that a group matches, and no others."""
        trained = grouped([name for name, _ in self.named_parameters()], groups)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in trained)
        self.train_vision = any(parameter.requires_grad for parameter in self.vision.parameters())

    def kept(self) -> dict[str, torch.Tensor]:
        """What a checkpoint keeps, by name: every parameter, tied ones once, and the buffers that some decoders are
        loaded with beside them (Gemma 4's layer scalars, the biases of DeepSeek's router)."""
        parameters = {name for name, _ in self.named_parameters(remove_duplicate=False)}
        buffers = {name: value for name, value in self.state_dict().items() if name not in parameters}
        return {**dict(self.named_parameters()), **buffers}

    def encode_images(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Square images, uint8 N×3×H×H → N×T×D."""
        with torch.set_grad_enabled(self.train_vision and torch.is_grad_enabled()):
            features_NPE = self.vision(images_NCHW)
        return self.projector(features_NPE)

    def image_tokens(self, batch: PackedBatch) -> torch.Tensor:
        """The features of the batch's image positions, in their order: K×D."""
        if batch.pool_TK is None:
            return self.encode_images(batch.images_NCHW).flatten(0, 1)
        with torch.set_grad_enabled(self.train_vision and torch.is_grad_enabled()):
            features_QE = self.vision.crops(batch.images_NCHW, batch.crop_sizes)
        return self.projector(features_QE, batch.pool_TK, batch.padding_Q)

    def embed(self, batch: PackedBatch) -> torch.Tensor:
        """B×L×D: the words' embeddings, with each image's tokens and marks in their places."""
        words_BLD: torch.Tensor = self.language.get_input_embeddings()(batch.input_ids_BL.clamp(min=0))
        if batch.images_NCHW.shape[0] == 0:
            return words_BLD + 0.0 * self._nothing(words_BLD)
        tokens_KD = self.image_tokens(batch)
        if batch.image_positions.numel() != len(tokens_KD):
            raise ValueError(
                f"the batch has {batch.image_positions.numel()} image positions but its {batch.images_NCHW.shape[0]} "
                f"images give {len(tokens_KD)} features ({layout_name(self.config.layout)})"
            )
        b, length, d = words_BLD.shape
        places, values = batch.image_positions, tokens_KD.to(words_BLD.dtype)
        if batch.mark_positions is not None and batch.marks is not None:
            places = torch.cat([places, batch.mark_positions])
            values = torch.cat([values, self.projector.mark(batch.marks).to(words_BLD.dtype)])
        return words_BLD.reshape(b * length, d).index_copy(0, places, values).view(b, length, d)

    def _nothing(self, words_BLD: torch.Tensor) -> torch.Tensor:
        """A number that every part beside the language model has a hand in. Every device must run every part, or the
        sharded ones wait for each other: a batch without images encodes one grey one, times zero."""
        size = self.vision.image_size
        grey = torch.full((1, 3, size, size), GREY, dtype=torch.uint8, device=words_BLD.device)
        with torch.set_grad_enabled(self.train_vision and torch.is_grad_enabled()):
            features_NPE = self.vision(grey)
        found = self.projector.sample(features_NPE).sum()
        if self.projector.marks is not None:
            found = found + self.projector.marks.weight.sum()
        return found.to(words_BLD.dtype)

    def hidden(self, batch: PackedBatch) -> torch.Tensor:
        """B×L×D: the decoder's last hidden states."""
        return self.decoded(self.embed(batch), batch)

    def decoded(self, embeds_BLD: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
        """The same of these embeddings in the place of the batch's words and images."""
        if self.isolated:
            position_ids_BL, sample_ids_BL = batch.position_ids_BL, batch.sample_ids_BL
            branch_ids_BL = batch.branch_ids_BL
        else:
            length = batch.input_ids_BL.shape[1]
            position_ids_BL = torch.arange(length, device=batch.input_ids_BL.device).expand_as(batch.input_ids_BL)
            sample_ids_BL = batch.sample_ids_BL.clamp(max=0)  # one document; padding stays apart
            branch_ids_BL = None

        def mask(window: int | None) -> Any:
            return attention_mask(sample_ids_BL, branch_ids_BL, self.attention, position_ids_BL, window)

        found: torch.Tensor = self.decoder(
            inputs_embeds=embeds_BLD,
            attention_mask=masks(self.decoder.config, position_ids_BL.shape[1], mask),
            position_ids=position_ids_BL,
            use_cache=False,
        ).last_hidden_state
        return found

    def logits(self, batch: PackedBatch) -> torch.Tensor:
        """B×L×V logits of every position: for tests and small inputs."""
        return self.head.logits(self.hidden(batch))

    def token_losses(self, batch: PackedBatch, *, z: bool = False) -> torch.Tensor:
        """[M] fp32 loss of each target token, in the batch's order, in nats; with `z` 2×M, below it log²Z (z-loss)."""
        hidden_MD = self.hidden(batch).flatten(0, 1).index_select(0, batch.predict_positions_M)
        return token_losses(hidden_MD, self.head, batch.targets_M, z=z)

    def forward(self, batch: PackedBatch, *, z: bool = False) -> torch.Tensor:
        """`token_losses`. The trainer divides their sum by the step's global count."""
        return self.token_losses(batch, z=z)


def build_language(source: str | RandomLanguage, vocabulary: int) -> Any:
    """The causal language model from a Hugging Face id, a local folder, or the sizes of a random one; weights fp32.

    `vocabulary` is the tokenizer's size: a random model gets that many tokens (rounded up to 64), and a pretrained one
    with fewer rows than that is refused, since its embedding would be indexed out of range. Raises ValueError as well
    for one whose layers cannot be computed (`check_layers`).
    """
    from transformers import AutoConfig, AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

    if isinstance(source, RandomLanguage):
        return Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=-(-vocabulary // 64) * 64,
                hidden_size=source.hidden_size,
                intermediate_size=source.intermediate_size,
                num_hidden_layers=source.layers,
                num_attention_heads=source.heads,
                num_key_value_heads=source.key_value_heads,
                rope_parameters={"rope_type": "default", "rope_theta": source.rope_theta},
                tie_word_embeddings=True,
            )
        )
    check_layers(AutoConfig.from_pretrained(source, trust_remote_code=False))
    language: Any = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, attn_implementation="sdpa", trust_remote_code=False
    )
    rows = language.get_input_embeddings().weight.shape[0]
    if rows < vocabulary:
        raise ValueError(f"the packs' tokenizer has {vocabulary} tokens but {source} embeds {rows}; pack with its own")
    return language


def build_model(
    config: ModelConfig, vocabulary: int, seed: int = 0, taken: Mapping[int, Mapping[str, Any]] | None = None
) -> VisionLanguageModel:
    """The model that `config` names. Random weights depend on `seed` alone; the global generator is left as it was.
    `taken`: as for `build_vision`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vision = build_vision(config.encoders, taken or {})
        language = build_language(config.language, vocabulary)
        return VisionLanguageModel(config, vision, language)
