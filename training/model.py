"""The vision-language model: embed → encode → project → place → decode (Open-Qwen2VL §2.1).

It knows nothing of devices, distribution or data files. Shape legend: B sequences, L positions, D the language model's
width, N images, T tokens an image, M target tokens, V the vocabulary's size, P patches, E the encoder's width.
"""

import dataclasses
from typing import Any, Literal

import torch
from torch import nn

from mmcorpus.packing.lengths import IMAGE_TOKEN
from mmcorpus.training.attention import attention_mask
from mmcorpus.training.batch import PackedBatch
from mmcorpus.training.config import ModelConfig, RandomLanguage
from mmcorpus.training.connector import PoolingProjector
from mmcorpus.training.loss import token_losses
from mmcorpus.training.vision import GREY, VisionEncoder, build_vision


class VisionLanguageModel(nn.Module):
    """Encoder, projector and causal language model over packed batches."""

    def __init__(self, config: ModelConfig, vision: VisionEncoder, language: Any) -> None:
        """`language`: a causal language model of transformers."""
        super().__init__()
        width = language.config.hidden_size
        self.config = config
        self.vision = vision
        self.projector = PoolingProjector(vision.width, config.projector_hidden or width, width, config.grid)
        self.language: Any = language
        self.isolated = True
        self.attention: Literal["sdpa", "flex"] = "sdpa"
        self.train_vision = True

    def set_attention(self, *, isolated: bool, implementation: Literal["sdpa", "flex"]) -> None:
        """Choose whether samples in a pack see each other, and the kernel."""
        self.isolated, self.attention = isolated, implementation
        self.language.set_attn_implementation("flex_attention" if implementation == "flex" else "sdpa")

    def set_tokens_per_image(self, tokens: int) -> None:
        """Pool an image to so many tokens from now on; raises ValueError for more than the encoder has patches."""
        if tokens > self.vision.patches:
            raise ValueError(
                f"tokens_per_image is {tokens}, but the encoder gives {self.vision.patches} patches of an image of "
                f"{self.vision.image_size} pixels a side; give that number or less"
            )
        self.config = dataclasses.replace(self.config, tokens_per_image=tokens)
        self.projector.pool = nn.AdaptiveAvgPool2d(self.config.grid)

    def freeze(self, *, vision: bool, projector: bool, language: bool) -> None:
        """Choose the parts that are not trained."""
        for part, frozen in ((self.vision, vision), (self.projector, projector), (self.language, language)):
            part.requires_grad_(not frozen)
        self.train_vision = not vision

    def encode_images(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """uint8 N×3×H×H → N×T×D."""
        with torch.set_grad_enabled(self.train_vision and torch.is_grad_enabled()):
            features_NPE = self.vision(images_NCHW)
        return self.projector(features_NPE)

    def embed(self, batch: PackedBatch) -> torch.Tensor:
        """B×L×D: the words' embeddings, with each image's tokens in its places."""
        ids_BL = batch.input_ids_BL.masked_fill(batch.input_ids_BL == IMAGE_TOKEN, 0)
        words_BLD: torch.Tensor = self.language.get_input_embeddings()(ids_BL)
        count = batch.images_NCHW.shape[0]
        if batch.image_positions.numel() != count * self.config.tokens_per_image:
            raise ValueError(
                f"the batch has {batch.image_positions.numel()} image positions but its {count} images give "
                f"{count * self.config.tokens_per_image} features ({self.config.tokens_per_image} an image)"
            )
        if count == 0:
            # Every device must run every part, or the sharded ones wait for each other: one grey image, times zero.
            size = self.vision.image_size
            dummy = torch.full((1, 3, size, size), GREY, dtype=torch.uint8, device=words_BLD.device)
            return words_BLD + 0.0 * self.encode_images(dummy).sum().to(words_BLD.dtype)
        tokens_ND = self.encode_images(batch.images_NCHW).flatten(0, 1)
        b, length, d = words_BLD.shape
        placed = words_BLD.reshape(b * length, d).index_copy(0, batch.image_positions, tokens_ND.to(words_BLD.dtype))
        return placed.view(b, length, d)

    def hidden(self, batch: PackedBatch) -> torch.Tensor:
        """B×L×D: the decoder's last hidden states."""
        if self.isolated:
            position_ids_BL, sample_ids_BL = batch.position_ids_BL, batch.sample_ids_BL
            branch_ids_BL = batch.branch_ids_BL
        else:
            length = batch.input_ids_BL.shape[1]
            position_ids_BL = torch.arange(length, device=batch.input_ids_BL.device).expand_as(batch.input_ids_BL)
            sample_ids_BL = batch.sample_ids_BL.clamp(max=0)  # one document; padding stays apart
            branch_ids_BL = None
        return self.language.model(
            inputs_embeds=self.embed(batch),
            attention_mask=attention_mask(sample_ids_BL, branch_ids_BL, self.attention),
            position_ids=position_ids_BL,
            use_cache=False,
        ).last_hidden_state

    def logits(self, batch: PackedBatch) -> torch.Tensor:
        """B×L×V logits of every position: for tests and small inputs."""
        return self.language.lm_head(self.hidden(batch))

    def token_losses(self, batch: PackedBatch) -> torch.Tensor:
        """[M] fp32 loss of each target token, in the batch's order, in nats."""
        hidden_MD = self.hidden(batch).flatten(0, 1).index_select(0, batch.predict_positions_M)
        return token_losses(hidden_MD, self.language.lm_head.weight, batch.targets_M)

    def forward(self, batch: PackedBatch) -> torch.Tensor:
        """`token_losses`. The trainer divides their sum by the step's global count."""
        return self.token_losses(batch)


def build_language(source: str | RandomLanguage, vocabulary: int) -> Any:
    """The causal language model from a Hugging Face id, a local folder, or the sizes of a random one; weights fp32.

    `vocabulary` is the tokenizer's size: a random model gets that many tokens (rounded up to 64), and a pretrained one
    with fewer rows than that is refused, since its embedding would be indexed out of range.
    """
    from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

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
    language: Any = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, attn_implementation="sdpa", trust_remote_code=False
    )
    rows = language.get_input_embeddings().weight.shape[0]
    if rows < vocabulary:
        raise ValueError(f"the packs' tokenizer has {vocabulary} tokens but {source} embeds {rows}; pack with its own")
    return language


def build_model(config: ModelConfig, vocabulary: int, seed: int = 0) -> VisionLanguageModel:
    """The model that `config` names. Random weights depend on `seed` alone; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vision = build_vision(config.vision, config.vision_layer)
        language = build_language(config.language, vocabulary)
        return VisionLanguageModel(config, vision, language)
