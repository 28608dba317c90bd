"""Text from images and text: greedy or sampled, with a key-value cache, one prompt or many side by side."""

import dataclasses
import functools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps

from mmcorpus.curation.store import storage
from mmcorpus.packing.chat import ANSWERS, ChatTemplate, Turns
from mmcorpus.packing.conversations import chat_template, encode_conversations, lay_out
from mmcorpus.packing.layout import PerImage
from mmcorpus.packing.layout.base import Token
from mmcorpus.packing.lengths import IMAGE_TOKEN
from mmcorpus.packing.tokens import encode_texts, special_ids
from mmcorpus.packing.turns import IMAGE_MARK
from mmcorpus.training.batch import Piece, collate, expand
from mmcorpus.training.checkpoint import chat_template_of, load_model
from mmcorpus.training.config.model import layout_name, same_layout
from mmcorpus.training.connector.base import PROBE
from mmcorpus.training.images import lay_out_each, lay_out_images
from mmcorpus.training.model import VisionLanguageModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_log = logging.getLogger(__name__)

Picture = Image.Image | bytes | str
"""A Pillow image, encoded bytes, or a path or URL."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompt:
    """The prompt of an answer: text and images."""

    turns: tuple[tuple[str, str], ...]
    """(role, text), roles being `system`, `user` and `assistant`; the last is a user's. `<image>` marks in users' texts
    are the places of the images, in order."""
    images: tuple[Picture, ...] = ()
    """Those that have no mark stand before the first user's text, a line each."""
    layouts: tuple[PerImage | None, ...] = ()
    """Of each image, what it becomes in place of what the model's layout says, or None; empty if that holds for all."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generator:
    """A loaded checkpoint that answers about images."""

    model: VisionLanguageModel
    tokenizer: "PreTrainedTokenizerFast"
    chat_template: str | None
    """What the conversations of an instruction-tuned checkpoint were written in: the prompt becomes a user's turn. None
    for a pretrained one."""

    @functools.cached_property
    def template(self) -> ChatTemplate | None:
        """The chat template of its tokenizer."""
        return None if self.chat_template is None else chat_template(self.tokenizer, self.chat_template)

    @classmethod
    def load(cls, checkpoint: str, device: str | None = None, layout: PerImage | None = None) -> "Generator":
        """From a checkpoint or a training folder (its latest). `device` is cpu or cuda, None for what is there.

        `layout`: what an image becomes, if another than in training, of which a warning says what it costs (Molmo's
        evaluation: 36 crops after 12 in training). Raises ValueError for one that the model has no weights for.
        """
        model, tokenizer, state = load_model(checkpoint)
        if layout is not None and not same_layout(layout, trained := model.config.layout):
            if not _marks(layout) <= _marks(trained):
                raise ValueError(
                    f"{checkpoint} was trained with {layout_name(trained)} and has not learnt the marks of "
                    f"{layout_name(layout)}: give a layout of the same kind, with other crops"
                )
            model.set_layout(layout)
            _log.warning(
                "%s was trained with %s and is asked with %s: more crops show finer print, while counts and captions "
                "get worse where crops are not those of training (Molmo, arXiv 2409.17146)",
                checkpoint, layout_name(trained), layout_name(layout),
            )  # fmt: skip
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return cls(model=model, tokenizer=tokenizer, chat_template=chat_template_of(state))

    def prompt_ids(self, prompt: str | Turns, images: int = 1) -> list[int]:
        """A prompt as the model was trained to see it, each image one placeholder.

        A pretrained model sees captions: an image, a line break, text; an earlier answer among the turns ends as a
        caption does.
        """
        turns: Turns = [("user", prompt)] if isinstance(prompt, str) else list(prompt)
        if self.template is not None:
            asked = lay_out(turns, images, self.template, prompt=True)
            return encode_conversations(self.tokenizer, [asked])[0].input_ids.tolist()
        special = special_ids(self.tokenizer)
        missing = max(0, images - sum(text.count(IMAGE_MARK) for role, text in turns if role == "user"))
        ids: list[int] = []
        for role, text in turns:
            if role == ANSWERS:
                said = text if tuple(ids[-len(special.newline) :]) == special.newline else f" {text}"
                ids += [*encode_texts(self.tokenizer, [said])[0], special.eos]
                continue
            first, *rest = (f"{IMAGE_MARK}\n" * missing + text).split(IMAGE_MARK)
            missing = 0
            ids += encode_texts(self.tokenizer, [first])[0] if first else []
            for part in rest:
                ids += [IMAGE_TOKEN, *special.newline]
                ids += encode_texts(self.tokenizer, [part])[0] if (part := part.removeprefix("\n")) else []
        return ids

    def prepare(self, prompt: Prompt) -> Piece:
        """A prompt as tokens and pixels. Raises ValueError for an image that cannot be decoded or a mark too many."""
        ids = np.array(self.prompt_ids(list(prompt.turns), len(prompt.images)), dtype=np.int64)
        marks = int((ids == IMAGE_TOKEN).sum())
        if marks != len(prompt.images):
            raise ValueError(f"the prompt has {marks} marks of images and {len(prompt.images)} images")
        shown = [_shown(image) for image in prompt.images]
        own, vision = self.model.config.layout, self.model.vision
        layouts = [own if one is None else one for one in prompt.layouts]
        for one in {id(one): one for one in layouts}.values():
            self.model.check_beside(one)
        pixels, per_image, broken = (
            lay_out_each(shown, layouts, vision.image_size, vision.patch)
            if layouts
            else lay_out_images(shown, own, vision.image_size)
        )
        if broken:
            image = prompt.images[broken[0]]
            raise ValueError(f"{image if isinstance(image, str) else 'the image'} cannot be decoded as an image")
        positions = marks * per_image if isinstance(per_image, int) else sum(map(len, per_image.templates))
        return expand(ids, [len(ids) - marks + positions], [len(ids)], [[]], pixels, [], per_image)

    def generate(
        self,
        image: Picture | Sequence[Picture],
        prompt: str = "",
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> str:
        """The model's answer to `prompt` about `image`, or several, which stand where `<image>` does, or before it.

        A pretrained checkpoint continues a caption (an empty prompt writes a whole one); an instruction-tuned one
        answers. Temperature 0 takes the likeliest token each time; above, it samples, the same for the same seed.
        """
        images = (image,) if isinstance(image, Image.Image | bytes | str) else tuple(image)
        asked = Prompt(turns=(("user", prompt),), images=images)
        return self.answer([asked], max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)[0]

    def answer(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        batch_size: int = 16,
    ) -> list[str]:
        """The answers to many prompts, in their order, `batch_size` of them side by side.

        Each is what it would be alone; at temperature 0 up to the last digits of two tokens that are equally likely.
        """
        pieces = [self.prepare(prompt) for prompt in prompts]
        return self.continued(pieces, max_new_tokens, temperature=temperature, seed=seed, batch_size=batch_size)

    def continued(
        self, pieces: Sequence[Piece], most: int, *, temperature: float = 0.0, seed: int = 0, batch_size: int = 16
    ) -> list[str]:
        """As `answer`, of prompts that are prepared."""
        if temperature < 0:
            raise ValueError(f"temperature is {temperature}; give 0 for the likeliest token, or more")
        answers = [""] * len(pieces)
        # Prompts of like length together, so that little is padded.
        order = sorted(range(len(pieces)), key=lambda number: len(pieces[number].input_ids))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            said = self._continued([pieces[number] for number in chosen], most, temperature, seed)
            for number, tokens in zip(chosen, said, strict=True):
                answers[number] = str(self.tokenizer.decode(tokens, skip_special_tokens=True)).strip()
        return answers

    @torch.no_grad()
    def _continued(self, pieces: Sequence[Piece], most: int, temperature: float, seed: int) -> list[list[int]]:
        """Each answer's tokens without the one that ends it. Shapes: B prompts, L positions, D width, V vocabulary."""
        from transformers import DynamicCache

        device, language = next(self.model.parameters()).device, self.model.language
        stops = {special_ids(self.tokenizer).eos, *(self.template.ends if self.template is not None else ())}
        embeds_BLD = self.model.embed(collate(pieces, multiple=1).to(device))
        # Prompts end together: the padding of the shorter ones goes to the left, where the mask hides it.
        lengths_B = torch.tensor([len(piece.input_ids) for piece in pieces], device=device)
        places_BL = torch.arange(embeds_BLD.shape[1], device=device) - (embeds_BLD.shape[1] - lengths_B)[:, None]
        mask_BL, positions_BL = (places_BL >= 0).long(), places_BL.clamp(min=0)
        embeds_BLD = embeds_BLD.gather(1, positions_BL[..., None].expand_as(embeds_BLD))
        randoms = [torch.Generator().manual_seed(seed) for _ in pieces]
        cache = DynamicCache(config=language.config)
        answers: list[list[int]] = [[] for _ in pieces]
        going = set(range(len(pieces)))
        for _ in range(most):
            hidden_BLD = self.model.decoder(
                inputs_embeds=embeds_BLD, attention_mask=mask_BL, position_ids=positions_BL, past_key_values=cache,
                use_cache=True,
            ).last_hidden_state  # fmt: skip
            logits_BV = self.model.head.logits(hidden_BLD[:, -1]).float().cpu()[:, : len(self.tokenizer)]
            tokens = logits_BV.argmax(-1).tolist()
            if temperature:
                shares_BV = (logits_BV / temperature).softmax(-1)
                drawn = zip(shares_BV, randoms, strict=True)
                tokens = [int(torch.multinomial(shares_V, 1, generator=random)) for shares_V, random in drawn]
            going -= {number for number in going if tokens[number] in stops}
            for number in going:
                answers[number].append(tokens[number])
            if not going:
                break
            embeds_BLD = language.get_input_embeddings()(torch.tensor(tokens, device=device)[:, None])
            mask_BL = torch.cat([mask_BL, mask_BL.new_ones(len(pieces), 1)], dim=1)
            positions_BL = positions_BL[:, -1:] + 1
        return answers


def generate(
    checkpoint: str,
    image: Picture | Sequence[Picture],
    prompt: str = "",
    *,
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    device: str | None = None,
    layout: PerImage | None = None,
) -> str:
    """Load a checkpoint and answer once; keep a Generator for more than one image."""
    generator = Generator.load(checkpoint, device, layout)
    return generator.generate(image, prompt, max_new_tokens=max_new_tokens, temperature=temperature)


def _marks(layout: PerImage) -> set[Token]:
    """The kinds of tokens that an image has in a layout."""
    return {Token.IMAGE} if isinstance(layout, int) else {kind for kind, _ in layout.layout(*PROBE).tokens}


def _shown(image: Picture) -> Image.Image | bytes:
    """The image as `lay_out_images` takes it."""
    if isinstance(image, Image.Image):
        return ImageOps.exif_transpose(image).convert("RGB")
    return storage.read_bytes(image) if isinstance(image, str) else image
