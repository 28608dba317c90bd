"""A pack drawn: which samples share a sequence, where their images lie, what carries loss, what does not see what.

One self-contained page: of each sequence a bar of its positions, and below it its samples with thumbnails and text.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Final

import numpy as np

from mmcorpus.curation.store import storage
from mmcorpus.filters.secrets import masked_text
from mmcorpus.packing.layout import PerImage
from mmcorpus.packing.lengths import IMAGE_TOKEN
from mmcorpus.packing.packs import PackReader
from mmcorpus.packing.sequence import PackedSequence
from mmcorpus.packing.tokens import load_tokenizer
from mmcorpus.pipelines.report.gallery import thumbnail

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MOST_IMAGES: Final = 64
"""Thumbnails of one sequence."""
_MOST_TOKENS: Final = 600
"""Of a sample, shown as text."""
_COLOURS: Final = 6
_HEIGHT: Final = 56


@dataclass(frozen=True, kw_only=True)
class Run:
    """Neighbouring tokens of one kind."""

    kind: str
    """`image`, `loss` or `text`."""
    first: int
    """The first token, by its place in the sequence's `input_ids`."""
    end: int
    start: int
    """The first position, images expanded."""
    stop: int
    branch: int
    """0 before the sample's annotations, then 1, 2, …"""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One sample of a sequence."""

    uid: str
    source: str
    length: int
    runs: tuple[Run, ...]
    images: tuple[int, ...]
    """Its images, by their place in the sequence."""


def samples_of(packed: PackedSequence, per_image: PerImage) -> list[Drawn]:
    """A sequence's samples, their tokens in runs of image, loss and other text."""
    is_image = packed.input_ids == IMAGE_TOKEN
    repeats = np.ones(len(packed.input_ids), dtype=np.int64)
    repeats[is_image] = _image_lengths(packed, per_image)
    offsets = np.concatenate([[0], np.cumsum(repeats)]).tolist()
    branches = packed.branches or ((),) * len(packed.uids)
    found = []
    start = first_image = 0
    for number, (uid, source) in enumerate(zip(packed.uids, packed.sources, strict=True)):
        end = start + packed.token_counts[number]
        kinds = ["image" if image else "text" for image in is_image[start:end]]
        for first, last in packed.loss_spans[number]:
            kinds[first - start : last - start] = [
                "image" if kind == "image" else "loss" for kind in kinds[first - start : last - start]
            ]
        begins = branches[number]
        branch = np.searchsorted(begins, np.arange(start, end), side="right").tolist() if begins else [0] * len(kinds)
        runs, at = [], start
        # Images stand alone, so that several in a row are told apart.
        keys = [
            (kind, own, place if kind == "image" else -1)
            for place, (kind, own) in enumerate(zip(kinds, branch, strict=True))
        ]
        for (kind, own, _), group in itertools.groupby(keys):
            stop = at + sum(1 for _ in group)
            runs.append(Run(kind=kind, first=at, end=stop, start=offsets[at], stop=offsets[stop], branch=own))
            at = stop
        images = tuple(range(first_image, first_image + packed.image_counts[number]))
        found.append(Drawn(uid=uid, source=source, length=packed.lengths[number], runs=tuple(runs), images=images))
        start, first_image = end, first_image + packed.image_counts[number]
    return found


def _image_lengths(packed: PackedSequence, per_image: PerImage) -> list[int]:
    if isinstance(per_image, int):
        return [per_image] * sum(packed.image_counts)
    sizes = np.array(packed.sizes, dtype=np.int64).reshape(-1, 2)
    lengths: list[int] = per_image.lengths(sizes[:, 0], sizes[:, 1]).tolist()
    return lengths


class PackPage:
    """Draws sequences of one pack."""

    def __init__(self, root: str) -> None:
        """Raises PackError for packs that cannot be read."""
        self.reader = PackReader(root)
        self.colours = {source: number % _COLOURS for number, source in enumerate(self.reader.sources)}
        self.context: int = self.reader.manifest["context_length"]

    def page(self, numbers: Sequence[int]) -> str:
        """The page of these sequences. Raises ValueError for one that the pack does not have."""
        files = resources.files("mmcorpus.pipelines.report")
        style = "".join((files / name).read_text("utf-8") for name in ("style.css", "packs.css"))
        title = escape(self.reader.root.rstrip("/").rpartition("/")[2])
        body = "".join(self.sequence(number) for number in numbers)
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>{title}</title><style>{style}</style><main><header><h1>Packs of {title}</h1>"
            f"<p>{escape(self._summary())}</p></header>{self.legend()}{body}</main></html>\n"
        )

    def fragment(self, numbers: Sequence[int]) -> str:
        """The same to stand in another page, such as a notebook's."""
        style = (resources.files("mmcorpus.pipelines.report") / "packs.css").read_text("utf-8")
        body = "".join(self.sequence(number) for number in numbers)
        return f'<style>{style}</style><div class="packed">{self.legend()}{body}</div>'

    def _summary(self) -> str:
        counts, each = self.reader.manifest["counts"], self.reader.per_image
        per_image = f"{each} positions" if isinstance(each, int) else f"the layout {each.kind}"
        full = counts["positions"] / max(1, counts["sequences"] * self.context)
        return (
            f"{counts['samples']:,} samples and {counts['images']:,} images ({per_image} each) in "
            f"{counts['sequences']:,} sequences of {self.context:,} positions, {full:.2%} full"
        )

    def legend(self) -> str:
        """What the colours mean."""
        sources = "".join(
            f'<span><i class="box source-{colour}"></i>{escape(source)}</span>'
            for source, colour in self.colours.items()
        )
        kinds = (("image", "image"), ("text", "text without loss"), ("loss", "text with loss"), ("free", "padding"))
        own = "".join(f'<span><i class="box {kind}"></i>{name}</span>' for kind, name in kinds)
        return f'<div class="legend">{sources}<span class="gap"></span>{own}</div>'

    def sequence(self, number: int) -> str:
        """One sequence as HTML."""
        if not 0 <= number < len(self.reader):
            raise ValueError(f"{self.reader.root} has sequences 0 to {len(self.reader) - 1}, there is no {number}")
        packed = self.reader[number]
        samples = samples_of(packed, self.reader.per_image)
        positions = sum(sample.length for sample in samples)
        targets = sum(run.end - run.first for one in samples for run in one.runs if run.kind == "loss")
        several = sum(any(run.branch for run in sample.runs) for sample in samples)
        branches = f", {several} with several annotations" if several else ""
        head = (
            f"<h2>Sequence {packed.sequence}</h2><p class='lead'>{len(samples)} samples{branches}, "
            f"{len(packed.images)} images, {positions:,} of {self.context:,} positions, {targets:,} tokens with loss"
            "</p>"
        )
        shown = itertools.islice(itertools.count(), MOST_IMAGES)
        cards = "".join(self._card(place, one, packed, shown) for place, one in enumerate(samples))
        return f'<section class="sequence">{head}{self._bar(samples)}<div class="cards">{cards}</div></section>'

    def _bar(self, samples: Sequence[Drawn]) -> str:
        width = max(self.context, sum(sample.length for sample in samples))
        parts, start = [f'<rect class="free" x="0" y="0" width="{width}" height="{_HEIGHT}"/>'], 0
        for number, sample in enumerate(samples):
            colour = self.colours.get(sample.source, 0)
            title = f"<title>{number}: {escape(sample.source)}, {sample.length} positions</title>"
            inner = [f'<rect class="source-{colour}" x="{start}" y="0" width="{sample.length}" height="14"/>']
            for run in sample.runs:
                # Annotations of one image lie on steps: what stands beside each other does not see each other.
                drop = 4 * min(run.branch, 5)
                inner.append(
                    f'<rect class="{run.kind}" x="{run.start}" y="{16 + drop}" width="{run.stop - run.start}" '
                    f'height="{_HEIGHT - 16 - drop}"/>'
                )
            parts.append(f"<g>{title}{''.join(inner)}</g>")
            if start:
                parts.append(f'<line class="border" x1="{start}" x2="{start}" y1="0" y2="{_HEIGHT}"/>')
            start += sample.length
        return (
            f'<svg class="bar" viewBox="0 0 {width} {_HEIGHT}" preserveAspectRatio="none" role="img" '
            f'aria-label="the positions of the sequence">{"".join(parts)}</svg>'
        )

    def _card(self, number: int, sample: Drawn, packed: PackedSequence, shown: Iterator[int]) -> str:
        pictures = "".join(
            _picture(packed.images[image].data, image) for image, _ in zip(sample.images, shown, strict=False)
        )
        left = len(sample.images) - pictures.count("<figure")
        more = f"<span>and {left} more</span>" if left else ""
        colour = self.colours.get(sample.source, 0)
        return (
            f'<div class="packed-sample source-edge-{colour}">'
            f'<div class="head"><b>{number}</b> {escape(sample.source)} '
            f"<code>{escape(sample.uid[:12])}</code> {sample.length:,} positions</div>"
            f'<div class="pictures">{pictures}{more}</div><p>{self._text(sample, packed)}</p></div>'
        )

    def _text(self, sample: Drawn, packed: PackedSequence) -> str:
        parts, branch, spent = [], 0, 0
        tokenizer = self._tokenizer()
        images: Iterable[int] = iter(sample.images)
        for run in sample.runs:
            if run.branch != branch:
                branch = run.branch
                parts.append(f'<br><i class="branch">{branch}</i> ')
            if run.kind == "image":
                parts.append(f"<mark class='image'>image {next(iter(images), '?')}</mark>")
                continue
            ids = packed.input_ids[run.first : run.end][: max(0, _MOST_TOKENS - spent)].tolist()
            spent += len(ids)
            text = tokenizer.decode(ids) if tokenizer else " ".join(map(str, ids))
            parts.append(f"<span class='{run.kind}'>{escape(masked_text(str(text)))}</span>")
            if spent >= _MOST_TOKENS:
                parts.append(" …")
                break
        return "".join(parts)

    def _tokenizer(self) -> "PreTrainedTokenizerFast | None":
        if not hasattr(self, "_loaded"):
            folder = storage.join(self.reader.root, "tokenizer")
            self._loaded = load_tokenizer(folder) if storage.exists(folder) else None
        return self._loaded


def _picture(data: bytes, number: int) -> str:
    source = thumbnail(data)
    inner = f'<img src="{source}" alt="">' if source else '<span class="none">cannot be decoded</span>'
    return f"<figure>{inner}<figcaption>{number}</figcaption></figure>"
