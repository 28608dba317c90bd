"""open_clip's own preprocessing and forward pass, in two halves: what CPUs do to samples, and what the model does."""

import contextlib
import functools
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmcorpus.filters.open_clip_names import Checkpoint

if TYPE_CHECKING:
    import torch

_CLIPS_MODE: Final = "clips"


_LONGEST_TEXT: Final = 20_000
_LONGEST_CLEAN: Final = 2_048
"""Characters; the 77 tokens of CLIP's context take some 350."""
_CONTROL: Final = re.compile("<((?:start|end)_of_text>)", re.IGNORECASE)


class Preprocess:
    """Decoded pixels and captions as the arrays that the model takes."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Raises ValueError if open_clip cannot make the model of its config."""
        import torch

        name, pretrained = checkpoint.open_clip_names()
        with torch.device("meta"):  # the model's config alone is wanted, not its weights
            model = _create(checkpoint, name, pretrained, device="meta", load_weights=False, pretrained_text=False)
        steps = _transform(model).transforms
        cut = _to_tensor_step(steps)
        self._resize, self._tokenizer = steps[:cut], _tokenizer(name)
        self._context = int(self._tokenizer([""]).shape[1])
        self._padding = self._tokenizer([""])[0]

    def pixels(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Images, uint8 [height, width, 3], resized and cropped as open_clip does: uint8 [images, side, side, 3]."""
        from PIL import Image

        made = []
        for pixels in images:
            image = Image.fromarray(pixels)
            for step in self._resize:
                image = step(image)
            made.append(np.asarray(image))
        return np.stack(made)

    def tokens(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Token ids, int32 [texts, context length], and which texts did not fit and are cut, bool [texts]."""
        import torch

        tokens = self._tokenizer(list(texts))
        cut = np.zeros(len(texts), bool)
        # Only a text that reaches the last place but one can be too long. If it is, one place more holds more of it.
        full = torch.nonzero(tokens[:, -2] != self._padding[-2]).flatten().tolist()
        if full:
            longer = self._tokenizer([texts[row] for row in full], context_length=self._context + 1)
            # The tokenizers of mode "clips" end every text with a class token, in the last place.
            same = self._context - (getattr(self._tokenizer, "tokenizer_mode", None) == _CLIPS_MODE)
            cut[full] = (longer[:, :same] != tokens[full, :same]).any(1).numpy()
        return tokens.numpy().astype(np.int32), cut


class ClipModel:
    """The model, on its device."""

    def __init__(self, checkpoint: Checkpoint, *, device: str, dtype: str) -> None:
        """Raises ValueError if the weights are not there or do not fit the architecture."""
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device is cuda, but torch sees no GPU here; use device: cpu, or auto")
        if device == "cuda":
            # fp32 means fp32 (convolutions would round their inputs to TF32's 10 bits), and twice means the same. For
            # the whole process, because threads share these settings.
            torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = False, True
        name, pretrained = checkpoint.open_clip_names()
        model = _create(checkpoint, name, pretrained, device="cpu", require_pretrained=True)
        steps = _transform(model).transforms
        self._normalize = steps[_to_tensor_step(steps) + 1]
        self._model = model.eval().requires_grad_(False).to(device)
        self._tokenizer_name = name
        self._device = torch.device(device)
        self._dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
        self.logit_scale = float(model.logit_scale.exp())
        bias = getattr(model, "logit_bias", None)
        self.logit_bias = 0.0 if bias is None else float(bias)

    def embed_images(self, pixels: np.ndarray) -> "torch.Tensor":
        """Embeddings of unit length, float32 [images, dimensions], on the device, of `Preprocess.pixels`."""
        with self._inference():
            x_NHWC = self._to_device(pixels)
            x_NCHW = x_NHWC.permute(0, 3, 1, 2).contiguous().float().div_(255)
            return self._unit(self._model.encode_image(self._normalize(x_NCHW)))

    def embed_tokens(self, tokens: np.ndarray) -> "torch.Tensor":
        """Embeddings of unit length, float32 [texts, dimensions], on the device, of `Preprocess.tokens`."""
        with self._inference():
            return self._unit(self._model.encode_text(self._to_device(tokens).long()))

    def embed_texts(self, texts: Sequence[str]) -> "torch.Tensor":
        """Embeddings of unit length, float32 [texts, dimensions], of a few texts of one's own (prompts)."""
        tokens = _tokenizer(self._tokenizer_name)(list(texts))
        return self.embed_tokens(tokens.numpy())

    def _unit(self, features: "torch.Tensor") -> "torch.Tensor":
        import torch

        return torch.nn.functional.normalize(features.float(), dim=-1)

    def _to_device(self, array: np.ndarray) -> "torch.Tensor":
        import torch

        if self._device.type == "cpu":
            return torch.tensor(array)
        # From pinned memory the copy runs beside the computation of the batch before.
        kept = torch.empty(array.shape, dtype=torch.tensor(array[:0]).dtype, pin_memory=True)
        kept.numpy()[...] = array
        return kept.to(self._device, non_blocking=True)

    @contextlib.contextmanager
    def _inference(self) -> Iterator[None]:
        import torch

        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self._dtype is not None:
                stack.enter_context(torch.autocast(self._device.type, dtype=self._dtype))
            yield


def _create(checkpoint: Checkpoint, name: str, pretrained: str | None, **more: Any) -> Any:
    import open_clip

    with _quiet():
        try:
            return open_clip.create_model(name, pretrained, **more)
        except Exception as error:  # open_clip and torch raise almost anything for weights that do not fit
            first = "; ".join(line.strip() for line in str(error).splitlines()[:2])  # torch lists every tensor
            raise ValueError(f"open_clip could not load {checkpoint}: {first}") from error


def _transform(model: Any) -> Any:
    from open_clip import transform

    return transform.image_transform_v2(transform.PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)


def _to_tensor_step(steps: Sequence[Any]) -> int:
    """The step that leaves Pillow: resizing stands before it, and normalising, which a GPU does, after."""
    from torchvision.transforms import Normalize, ToTensor

    cut = next((place for place, step in enumerate(steps) if isinstance(step, ToTensor)), -1)
    if cut < 0 or [type(step) for step in steps[cut + 1 :]] != [Normalize]:
        raise RuntimeError(f"this version of open_clip prepares images in another way ({steps}); install 3.3.0")
    return cut


def load_open_clip_tokenizer(name: str) -> Any:
    """open_clip's tokenizer of a model. Code beside it is not run, though the model's own config may ask for that."""
    import open_clip

    try:
        return open_clip.get_tokenizer(name, trust_remote_code=False)
    except TypeError as error:
        if "SimpleTokenizer" not in str(error):
            raise
        return open_clip.get_tokenizer(name)  # CLIP's own, of no other files


def _tokenizer(name: str) -> Callable[..., Any]:
    with _quiet():
        tokenizer = load_open_clip_tokenizer(name)
    if hasattr(tokenizer, "bpe"):  # CLIP's own, in Python; the others are transformers'
        tokenizer.clean_fn = functools.partial(_plain_text, tokenizer.clean_fn)
    made: Callable[..., Any] = tokenizer
    return made


def _plain_text(clean: Callable[[str], str], text: str) -> str:
    """A text as open_clip cleans it, without what its tokenizer cannot tell from its control tokens, and cut where no
    token counts any more: it joins the pairs of a word one after the other, in the square of the word's length."""
    if len(text) > _LONGEST_TEXT:
        text = " ".join(text.split())[:_LONGEST_TEXT]
    return _CONTROL.sub(r"< \1", clean(text)[:_LONGEST_CLEAN])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """open_clip tells every step of loading to the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
