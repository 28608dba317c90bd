"""Text from an image: greedy or sampled, with a key-value cache."""

import dataclasses
import functools
from typing import TYPE_CHECKING

import torch
from PIL import Image, ImageOps

from mmcorpus.curation.store import storage
from mmcorpus.packing.chat import ChatTemplate
from mmcorpus.packing.conversations import chat_template, encode_conversations, lay_out
from mmcorpus.packing.lengths import IMAGE_TOKEN
from mmcorpus.packing.tokens import encode_texts, special_ids
from mmcorpus.training.batch import collate, expand
from mmcorpus.training.checkpoint import chat_template_of, load_model
from mmcorpus.training.images import lay_out_images
from mmcorpus.training.model import VisionLanguageModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


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
    def load(cls, checkpoint: str, device: str | None = None) -> "Generator":
        """From a checkpoint or a training folder (its latest). `device` is cpu or cuda, None for what is there."""
        model, tokenizer, state = load_model(checkpoint)
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return cls(model=model, tokenizer=tokenizer, chat_template=chat_template_of(state))

    def prompt_ids(self, prompt: str) -> list[int]:
        """The prompt as the model was trained to see it, the image one placeholder at its beginning."""
        if self.template is not None:
            asked = lay_out([("user", prompt)], 1, self.template, prompt=True)
            return encode_conversations(self.tokenizer, [asked])[0].input_ids.tolist()
        return [IMAGE_TOKEN, *special_ids(self.tokenizer).newline, *encode_texts(self.tokenizer, [prompt])[0]]

    @torch.no_grad()
    def generate(
        self,
        image: Image.Image | bytes | str,
        prompt: str = "",
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> str:
        """The model's answer to `prompt` about `image` (a Pillow image, encoded bytes, or a path or URL).

        A pretrained checkpoint continues a caption (an empty prompt writes a whole one); an instruction-tuned one
        answers. Temperature 0 takes the likeliest token each time; above, it samples, the same for the same seed.
        """
        from transformers import DynamicCache

        if temperature < 0:
            raise ValueError(f"temperature is {temperature}; give 0 for the likeliest token, or more")
        device = next(self.model.parameters()).device
        language = self.model.language
        stops = {special_ids(self.tokenizer).eos, *(self.template.ends if self.template is not None else ())}
        ids = self.prompt_ids(prompt)
        shown = _shown(image)
        pixels, per_image, broken = lay_out_images([shown], self.model.config.layout, self.model.vision.image_size)
        if broken:
            raise ValueError(f"{image if isinstance(image, str) else 'the image'} cannot be decoded as an image")
        length = len(ids) - 1 + (per_image if isinstance(per_image, int) else len(per_image.templates[0]))
        piece = expand(torch.tensor(ids).numpy(), [length], [len(ids)], [[]], pixels, [], per_image)
        embeds_1LD = self.model.embed(collate([piece], multiple=1).to(device))
        random = torch.Generator().manual_seed(seed)
        cache = DynamicCache(config=language.config)
        answer: list[int] = []
        for _ in range(max_new_tokens):
            hidden_1LD = self.model.decoder(
                inputs_embeds=embeds_1LD, past_key_values=cache, use_cache=True
            ).last_hidden_state
            logits_V = self.model.head.logits(hidden_1LD[0, -1]).float().cpu()[: len(self.tokenizer)]
            if temperature:
                token = int(torch.multinomial((logits_V / temperature).softmax(-1), 1, generator=random))
            else:
                token = int(logits_V.argmax())
            if token in stops:
                break
            answer.append(token)
            embeds_1LD = language.get_input_embeddings()(torch.tensor([[token]], device=device))
        return str(self.tokenizer.decode(answer, skip_special_tokens=True)).strip()


def generate(
    checkpoint: str,
    image: Image.Image | bytes | str,
    prompt: str = "",
    *,
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    device: str | None = None,
) -> str:
    """Load a checkpoint and answer once; keep a Generator for more than one image."""
    generator = Generator.load(checkpoint, device)
    return generator.generate(image, prompt, max_new_tokens=max_new_tokens, temperature=temperature)


def _shown(image: Image.Image | bytes | str) -> Image.Image | bytes:
    """The image as `lay_out_images` takes it."""
    if isinstance(image, Image.Image):
        return ImageOps.exif_transpose(image).convert("RGB")
    return storage.read_bytes(image) if isinstance(image, str) else image
