"""CLIP scores: how well a caption fits its image, by any open_clip model (Radford et al. 2021; DataComp, §4.1).

clip_l14: {uses: clip, model_name: ViT-L-14, pretrained: openai}
clip_dfn: {uses: clip, model_name: "hf-hub:apple/DFN5B-CLIP-ViT-H-14", save_embeddings: true}
mine:     {uses: clip, model_name: checkpoints/mine, concepts: {watermark: {positive: [a stock photo with a watermark],
           negative: [a photo]}}}
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import pyarrow as pa

from mmcorpus.filters.contamination import read_manifest
from mmcorpus.filters.evaluation_embeddings import check_embeddings, read_embeddings
from mmcorpus.filters.heads import HeadConfig
from mmcorpus.filters.model import ModelScorer
from mmcorpus.filters.open_clip_names import Checkpoint
from mmcorpus.filters.scorer import REASON, Batch, Columns, fingerprint_of
from mmcorpus.filters.texts import blank_reason

if TYPE_CHECKING:
    import torch

_OWN: Final = ("similarity", "logit", "caption_too_long")
_EVALUATION: Final = ("evaluation_similarity", "evaluation_match")
_UNWANTED: Final = {*_OWN, *_EVALUATION, "uid", REASON, "image", "text"}


@dataclass(frozen=True, kw_only=True)
class ConceptConfig:
    """A zero-shot concept: what shows it, and what does not."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    positive: tuple[str, ...]
    """Prompts for images that show the concept: `a screenshot of a web page`."""
    negative: tuple[str, ...]
    """Prompts for images that do not: `a photo`."""

    def __post_init__(self) -> None:
        for name in ("positive", "negative"):
            if not getattr(self, name) or not all(text.strip() for text in getattr(self, name)):
                raise ValueError(f"{name} needs at least one prompt, and none may be blank")


@dataclass(frozen=True, kw_only=True)
class ClipScorer(ModelScorer):
    """similarity: cosine of the image's and the caption's embedding, −1 to 1. logit: that times the model's logit scale
    (e^4.6 = 100 for OpenAI's), plus its bias if it has one (SigLIP). caption_too_long: the caption was longer than the
    model's context, and what fits of it was scored. A column a concept, the probability that the image shows it, and a
    column a head. Where there is no caption the first two are null (reason `no_caption` or `blank`), the rest are not.
    With `evaluations`, evaluation_similarity: cosine to the nearest picture of the evaluation sets, and
    evaluation_match: that picture's item, `set/id`.
    """

    model_name: str = "ViT-L-14"
    """An architecture that open_clip lists (`ViT-B-32`), `hf-hub:organisation/name`, or a folder with
    open_clip_config.json and weights."""
    pretrained: str | None = None
    """With a listed architecture: a tag that open_clip has for it (`datacomp_xl_s13b_b90k`) or a file of weights; null
    takes `openai`."""
    save_embeddings: bool = False
    """Keep the image's and the caption's embeddings, fp16, by uid, in embeddings/<source>/<name>/."""
    concepts: dict[str, ConceptConfig] = field(default_factory=dict)
    """Zero-shot concepts, by column: `{watermark: {positive: [...], negative: [...]}}`. Each side's prompts are
    embedded and averaged, and put against each other, as for zero-shot classification (Radford et al. 2021, §3.1.4)."""
    heads: dict[str, HeadConfig] = field(default_factory=dict)
    """Heads on the image's embedding, by column: `{aesthetic: {weights: sac+logos+ava1-l14-linearMSE.pth}}`."""

    evaluations: str | None = None
    """An index of evaluation sets that `mmcorpus evaluations --set clip.model_name=…` made with this model."""

    name: ClassVar[str] = "clip"
    version: ClassVar[str] = "1"
    inputs: ClassVar[tuple[str, ...]] = ("image", "caption")

    def __post_init__(self) -> None:
        super().__post_init__()
        for section, names in (("concepts", self.concepts), ("heads", self.heads)):
            for name in names:
                if not name.isidentifier() or name in _UNWANTED:
                    raise ValueError(
                        f"{section}: {name!r} cannot be a column; take letters, digits and _, and none of "
                        f"{', '.join(sorted(_UNWANTED))}"
                    )
        both = sorted(set(self.concepts) & set(self.heads))
        if both:
            raise ValueError(f"heads: {both[0]!r} is the name of a concept too; rename one")

    def schema(self) -> pa.Schema:
        columns = {"similarity": pa.float32(), "logit": pa.float32(), "caption_too_long": pa.bool_()}
        columns |= dict.fromkeys([*self.concepts, *self.heads], pa.float32())
        compared = dict(zip(_EVALUATION, (pa.float32(), pa.string()), strict=True)) if self.evaluations else {}
        return pa.schema({**columns, **compared})

    def embeddings(self) -> pa.Schema | None:
        if not self.save_embeddings:
            return None
        vector = pa.list_(pa.float16(), self.checkpoint().dimensions())
        return pa.schema({"image": vector, "text": vector})

    def checkpoint(self) -> Checkpoint:
        """The model's architecture and weights."""
        return Checkpoint(model_name=self.model_name, pretrained=self.pretrained)

    def check(self) -> None:
        self.checkpoint().check()
        for name, head in self.heads.items():
            try:
                head.check()
            except ValueError as error:
                raise ValueError(f"heads.{name}.{error}") from None
        if self.evaluations is not None:
            check_embeddings(self.evaluations, self.checkpoint().revision())

    def model(self) -> str:
        heads = [f"{name} {head.describe()}" for name, head in self.heads.items()]
        compared = [f"evaluations {read_manifest(self.evaluations)['content']}"] if self.evaluations else []
        return "; ".join([self.checkpoint().revision(), *heads, *compared])

    def parameters(self) -> dict[str, Any]:
        # Those without an index are as they were before there could be one, so that no score goes stale for it.
        return {name: value for name, value in super().parameters().items() if name != "evaluations" or value}

    def fingerprint(self) -> str:
        """As every scorer's, but for the place of the evaluation sets' index, which decides nothing."""
        return fingerprint_of(self, {**self.parameters(), **({"evaluations": True} if self.evaluations else {})})

    def load_prepare(self) -> Callable[[Batch], Columns]:
        from mmcorpus.filters.clip_model import Preprocess

        preprocess = Preprocess(self.checkpoint())

        def prepare(batch: Batch) -> Columns:
            captions = batch["caption"]
            tokens, too_long = preprocess.tokens([caption or "" for caption in captions])
            return {
                "pixels": preprocess.pixels([image.pixels for image in batch["image"]]),
                "tokens": tokens,
                "caption_too_long": too_long.tolist(),
                REASON: [blank_reason(caption) for caption in captions],
            }

        return prepare

    def load_model(self) -> Callable[[Columns], Columns]:
        return _Judge(self.settled())


class _Judge:
    """The second half: arrays to columns."""

    def __init__(self, scorer: ClipScorer) -> None:
        from mmcorpus.filters.clip_model import ClipModel

        self._model = ClipModel(scorer.checkpoint(), device=scorer.device, dtype=scorer.dtype)
        self._size, self._saves = scorer.batch_size, scorer.save_embeddings
        self._concepts = {name: self._direction(concept) for name, concept in scorer.concepts.items()}
        dimensions = scorer.checkpoint().dimensions()
        self._heads = {name: head.load(dimensions, scorer.device) for name, head in scorer.heads.items()}
        self._evaluations = read_embeddings(scorer.evaluations) if scorer.evaluations else None
        if self._evaluations is not None:
            import torch

            self._nearest = torch.from_numpy(self._evaluations.vectors).to(scorer.device)

    def __call__(self, columns: Columns) -> Columns:
        import torch

        rows = len(columns["reason"])
        with torch.inference_mode():
            # All is set going before any of it is waited for, so that a GPU does not stand still between the parts.
            parts = [self._part(columns, slice(at, at + self._size)) for at in range(0, rows, self._size)]
            found = {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}
        return self._columns(columns, found)

    def _part(self, columns: Columns, rows: slice) -> dict[str, "torch.Tensor"]:
        images = self._model.embed_images(np.asarray(columns["pixels"][rows]))
        texts = self._model.embed_tokens(np.asarray(columns["tokens"][rows]))
        found = {"similarity": (images * texts).sum(-1)}
        # The difference of two classes' logits: its sigmoid is the softmax over the two.
        found |= {name: (images @ direction).sigmoid() for name, direction in self._concepts.items()}
        found |= {name: head(images) for name, head in self._heads.items()}
        if self._evaluations is not None:
            nearest = (images @ self._nearest.T).max(-1)
            found |= dict(zip(_EVALUATION, (nearest.values, nearest.indices), strict=True))
        return {**found, "image": images.half(), "text": texts.half()} if self._saves else found

    def _columns(self, columns: Columns, found: dict[str, np.ndarray]) -> Columns:
        captioned = [reason is None for reason in columns[REASON]]
        similarity = found.pop("similarity")
        logit = (similarity * np.float32(self._model.logit_scale) + np.float32(self._model.logit_bias)).tolist()
        made: dict[str, Sequence[Any]] = {
            "similarity": _where(captioned, similarity.tolist()),
            "logit": _where(captioned, logit),
            "caption_too_long": columns["caption_too_long"],
            REASON: columns[REASON],
        }
        if self._saves:
            made["image"] = list(found.pop("image"))
            made["text"] = _where(captioned, list(found.pop("text")))
        if self._evaluations is not None:
            made["evaluation_match"] = self._evaluations.names.take(pa.array(found.pop("evaluation_match"))).to_pylist()
        return {**made, **{name: values.tolist() for name, values in found.items()}}

    def _direction(self, concept: ConceptConfig) -> "torch.Tensor":
        """The vector whose product with an image embedding is the logit of the concept against its opposite."""
        from torch.nn.functional import normalize

        positive, negative = (
            normalize(self._model.embed_texts(texts).mean(0), dim=0) for texts in (concept.positive, concept.negative)
        )
        return self._model.logit_scale * (positive - negative)


def _where(shown: Sequence[bool], values: Sequence[Any]) -> list[Any]:
    return [value if show else None for show, value in zip(shown, values, strict=True)]
