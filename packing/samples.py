"""From a row to tokens that fit a sequence, or to the rule that keeps it out. Planner and packer share it.

A row is first encoded (`encode_rows`), which takes a tokenizer and does not depend on how long a sequence is, and then
fitted (`fit_encoded`), which is arithmetic.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmcorpus.packing import conversations, documents, tokens, trees
from mmcorpus.packing.chat import CHATML, ChatTemplate, Claim
from mmcorpus.packing.config import PlanConfig
from mmcorpus.packing.draws import sample_words
from mmcorpus.packing.inputs import Kind, StoredImages
from mmcorpus.packing.layout.base import Size
from mmcorpus.packing.lengths import Each
from mmcorpus.packing.render import parse_annotations, render
from mmcorpus.packing.turns import count_marks, parse_conversation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedSample:
    """A sample that fits a sequence."""

    tokens: tokens.TokenizedSample
    length: int
    """Positions it takes."""
    full_length: int
    """Positions it would take uncut; larger than `length` only if it was truncated or split."""
    crops: int
    """Pictures that an encoder sees of its images."""
    captions: tuple[str, ...] = ()
    """What a pair says instead of its row's caption; empty for that caption."""
    annotations: int = 1
    """How many annotations of its images it has."""
    left_out: int = 0
    """How many more it was given, for which a sequence has no room."""
    part: int = 0
    """Which part of its row it is."""
    sizes: tuple[Size, ...] = ()
    """Width and height of each of its images, where those decide how many positions they take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejection:
    """Why a row is not packed, as the ledger says it."""

    rule: str
    """`missing_text`, `missing_size`, `bad_conversation`, `bad_document`, `image_marks`, `too_long`, `too_many_images`
    or `too_many_crops`."""
    value: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedRow:
    """A row as tokens, whole, whatever a sequence has room for."""

    tokens: tokens.TokenizedSample | documents.TokenizedDocument
    captions: tuple[str, ...] = ()
    """What a pair says instead of its row's caption; empty for that caption."""
    sizes: tuple[Size, ...] = ()
    """Width and height of each of its images, in order, where those decide how many positions they take."""
    positions: Each
    """Of each image, how many it takes."""
    crops: Each
    """Of each image, how many an encoder sees."""


Fitted = tuple[FittedSample, ...] | Rejection
"""What becomes of a row: its sample, its parts in order, or why there is none."""


def fit_rows(
    tokenizer: "PreTrainedTokenizerFast",
    kind: Kind,
    texts: Sequence[str | tuple[str, ...] | None],
    config: PlanConfig,
    images: Sequence[StoredImages | None] = (),
    words: Sequence[int] = (),
) -> list[Fitted]:
    """Tokenize rows' texts (captions; conversations or nodes as JSON) in one batch; one answer a row, in order.

    `images` are what each row says of its images, as `stored_images` gives it: for conversations, and for pairs where
    `asks_sizes`. `words` are 64 bits of each row's copy, by which its annotations are rendered.
    A pair may have several captions: those that do not fit are left out, the last first, and `too_long` is asked of the
    image with the first alone. A document that is too long, or has more images or crops than a sequence, is dropped, or
    cut to its beginning, or split.
    """
    encoded = encode_rows(tokenizer, kind, texts, config, images, words)
    return [row if isinstance(row, Rejection) else fit_encoded(row, config) for row in encoded]


def encode_rows(
    tokenizer: "PreTrainedTokenizerFast",
    kind: Kind,
    texts: Sequence[str | tuple[str, ...] | None],
    config: PlanConfig,
    images: Sequence[StoredImages | None] = (),
    words: Sequence[int] = (),
) -> list[EncodedRow | Rejection]:
    """The rows as tokens, in one batch; of `config` nothing but layout, chat template and `render` matters."""
    template = chat_template(tokenizer, config) if kind == "conversation" else None
    stored = images if len(images) else [None] * len(texts)
    drawn = words if len(words) else [0] * len(texts)
    claims: list[list[Claim]] = [[] for _ in texts]
    rows = [
        _read(kind, text, own, template, config, word, claim)
        for text, own, word, claim in zip(texts, stored, drawn, claims, strict=True)
    ]
    if template is not None:
        rows = _checked(rows, claims, template)
    if asks_sizes(kind, config):
        rows = [_with_sizes(kind, row, own) for row, own in zip(rows, stored, strict=True)]
    kept = [number for number, row in enumerate(rows) if not isinstance(row, Rejection)]
    readable = [rows[number] for number in kept]
    encoded: list[tokens.TokenizedSample | documents.TokenizedDocument] = []
    if kind in ("document", "text"):
        encoded += documents.encode_documents(tokenizer, readable)
    elif kind == "pair":
        encoded += tokens.encode_captions(tokenizer, readable)
    else:
        encoded += trees.encode_trees(tokenizer, readable)
    sizes: list[tuple[Size, ...]] = [()] * len(kept)
    if asks_sizes(kind, config):
        sizes = [
            tuple(image.size for image in own.images)  # type: ignore[misc]  # _with_sizes has seen to it
            if isinstance(own, documents.TokenizedDocument)
            else _known(stored[number])[: own.image_count]
            for number, own in zip(kept, encoded, strict=True)
        ]
    answers = list(rows)
    costs = zip(*_costs(config, sizes), strict=True)
    for number, own, said, size, (positions, crops) in zip(kept, encoded, readable, sizes, costs, strict=True):
        captions = said if kind == "pair" and isinstance(said, tuple) else ()
        answers[number] = EncodedRow(tokens=own, captions=captions, sizes=size, positions=positions, crops=crops)
    return answers


def chat_template(tokenizer: "PreTrainedTokenizerFast", config: PlanConfig) -> ChatTemplate:
    """The template that conversations are written in."""
    return conversations.chat_template(tokenizer, CHATML if config.chat_template == "chatml" else None)


def template_hash(tokenizer: "PreTrainedTokenizerFast", config: PlanConfig) -> str:
    """The hash of the tokenizer's own template, if that is the one; empty for ChatML, which is always the same."""
    return "" if config.chat_template == "chatml" else chat_template(tokenizer, config).hash


def _read(
    kind: Kind,
    text: str | tuple[str, ...] | None,
    stored: StoredImages | None,
    template: ChatTemplate | None,
    config: PlanConfig,
    word: int,
    claims: list[Claim],
) -> Any:
    """A row's captions, its turns laid out, or its nodes; a Rejection if there is nothing to learn from."""
    if isinstance(text, tuple):
        return text
    if text is None or not text.strip():
        return Rejection(rule="missing_text", value=f"missing_text: {'null' if text is None else 'blank'}")
    if kind == "pair":
        return text
    try:
        if template is not None:
            annotations = parse_annotations(text)
            if annotations is None:
                return _lay_out(text, stored, template, claims)
            branches = render(annotations, config.render, word)
            return trees.lay_out_tree(branches, 1 if stored is None else len(stored), template, claims)
        nodes = documents.parse_nodes(text, images=kind == "document")
    except ValueError as error:
        rule = "bad_conversation" if kind == "conversation" else "bad_document"
        return Rejection(rule=rule, value=f"{rule}: {error}")
    if not any(isinstance(node, str) for node in nodes):
        return Rejection(rule="missing_text", value="missing_text: no text among its nodes")
    return nodes


def _checked(rows: Sequence[Any], claims: Sequence[Sequence[Claim]], template: ChatTemplate) -> list[Any]:
    """The rows, or a Rejection of each whose claims do not hold."""
    answers = iter(template.check([claim for own in claims for claim in own]))
    checked = []
    for row, own in zip(rows, claims, strict=True):
        wrong = [answer for answer in itertools.islice(answers, len(own)) if answer is not None]
        bad = bool(wrong) and not isinstance(row, Rejection)
        checked.append(Rejection(rule="bad_conversation", value=f"bad_conversation: {wrong[0]}") if bad else row)
    return checked


def _lay_out(text: str, stored: StoredImages | None, template: ChatTemplate, claims: list[Claim]) -> Any:
    """A conversation's turns laid out with its images where they are marked, or before all else if none is.

    What a row does not say of its images, its marks do: one at least, as LLaVA's rows have it.
    """
    turns = parse_conversation(text)
    marks = count_marks(turns)
    count = max(1, marks) if stored is None else len(stored)
    if marks not in (0, count):
        return Rejection(rule="image_marks", value=f"image_marks: {marks} marks <image>, {count} images")
    return conversations.lay_out(turns, count, template, claims=claims)


def asks_sizes(kind: Kind, config: PlanConfig) -> bool:
    """Whether the sizes of images decide the lengths of rows of this kind."""
    return kind != "text" and not isinstance(config.per_image, int)


def _known(stored: StoredImages | None) -> tuple[Size, ...]:
    """A row's images' sizes, up to the first that is not known."""
    known = itertools.takewhile(lambda size: all(type(side) is int and side > 0 for side in size), stored or ())
    return tuple(known)  # type: ignore[arg-type]


def _with_sizes(kind: Kind, row: Any, stored: StoredImages | None) -> Any:
    """The row, or a Rejection if the size of one of its images is not known."""
    if isinstance(row, Rejection):
        return row
    if kind == "document":
        number = next((n.number for n in row if isinstance(n, documents.NodeImage) and n.size is None), None)
        return row if number is None else Rejection(rule="missing_size", value=f"missing_size: image {number}")
    laid_out = row.laid_out[0] if isinstance(row, trees.Tree) else row
    count = 1 if kind == "pair" else laid_out.count(tokens.IMAGE_TOKEN)
    known = _known(stored)
    if len(known) >= count:
        return row
    width, height = (stored or ())[len(known)] if len(stored or ()) > len(known) else (None, None)
    which = f"image {len(known)}: " if count > 1 else ""
    return Rejection(rule="missing_size", value=f"missing_size: {which}{width} x {height}")


def _costs(config: PlanConfig, sizes: Sequence[tuple[Size, ...]]) -> tuple[Sequence[Each], Sequence[Each]]:
    """Positions of each row's images, and crops."""
    if isinstance(config.per_image, int):
        crops = 1 if config.layout is None else int(config.layout.crop_counts([1], [1])[0])
        return [config.per_image] * len(sizes), [crops] * len(sizes)
    if not sizes:
        return [], []
    flat = np.array(list(itertools.chain.from_iterable(sizes)), dtype=np.int64).reshape(-1, 2)
    ends = np.cumsum([len(own) for own in sizes])[:-1]
    counted = (config.per_image.lengths, config.per_image.crop_counts)
    positions, crops_of = (np.split(count(flat[:, 0], flat[:, 1]), ends) for count in counted)
    return positions, crops_of


def fit_encoded(row: EncodedRow, config: PlanConfig) -> Fitted:
    """What becomes of a row within the limits of a sequence."""
    if isinstance(row.tokens, documents.TokenizedDocument):
        return _fit_document(row, row.tokens, config)
    images, crops = row.tokens.image_count, _total(row.crops, row.tokens.image_count)
    if (over := _over(images, crops, config)) is not None:
        return over
    sample = tokens.fit_annotations(row.tokens, config.context_length, row.positions)
    full_length = length = _length(sample, row.positions)
    if full_length > config.context_length:
        cut = tokens.truncate(sample, config.context_length, row.positions) if config.too_long == "truncate" else None
        if cut is None:
            return Rejection(rule="too_long", value=f"length={full_length}")
        sample, length = cut, _length(cut, row.positions)
    sample = tokens.weigh(sample, config.target_weights)
    given, kept = max(1, len(row.tokens.branches)), max(1, len(sample.branches))
    fitted = FittedSample(
        tokens=sample,
        length=length,
        full_length=full_length,
        crops=crops,
        captions=row.captions[:kept],
        annotations=kept,
        left_out=given - kept,
        sizes=row.sizes,
    )
    return (fitted,)


def _total(each: Each, count: int) -> int:
    return each * count if isinstance(each, int) else int(each.sum())


def _length(sample: tokens.TokenizedSample, positions: Each) -> int:
    """Positions of a sample that has all its images."""
    return len(sample.input_ids) - sample.image_count + _total(positions, sample.image_count)


def _over(images: int, crops: int, config: PlanConfig) -> Rejection | None:
    """Why a sample has too many images or crops for a sequence, if it has."""
    if config.max_images is not None and images > config.max_images:
        return Rejection(rule="too_many_images", value=f"images={images}")
    if config.max_crops is not None and crops > config.max_crops:
        return Rejection(rule="too_many_crops", value=f"crops={crops}")
    return None


def _fit_document(row: EncodedRow, document: documents.TokenizedDocument, config: PlanConfig) -> Fitted:
    whole, images = len(document.input_ids), len(document.images)
    crops, positions = (np.broadcast_to(np.asarray(each, np.int64), images) for each in (row.crops, row.positions))
    full_length = whole - images + int(positions.sum())
    edges = [0, whole]
    over = _over(images, int(crops.sum()), config)
    if full_length > config.context_length or over is not None:
        largest = int(positions.max(initial=0))
        too_long = Rejection(rule="too_long", value=f"length={full_length}")
        if largest > config.context_length or (config.too_long == "drop" and full_length > config.context_length):
            return too_long
        if over is not None and (config.too_long == "drop" or _over(1, int(crops.max(initial=0)), config) is not None):
            return over
        most = [(each, limit) for each, limit in ((1, config.max_images), (crops, config.max_crops)) if limit]
        edges = documents.cuts(document, context_length=config.context_length, tokens_per_image=positions, most=most)
    parts = []
    before = 0
    for number, (start, end) in enumerate(itertools.pairwise(edges if config.too_long == "split" else edges[:2])):
        part = document.part(start, end)
        own = slice(before, before + part.image_count)
        before += part.image_count
        # A sample's first token is never a target, so that a part may have nothing to learn from: images, or one token.
        if part.loss_spans and part.loss_spans[-1][1] > 1:
            parts.append(
                FittedSample(
                    tokens=tokens.weigh(part, config.target_weights),
                    length=end - start - part.image_count + int(positions[own].sum()),
                    full_length=full_length,
                    crops=int(crops[own].sum()),
                    part=number,
                    sizes=row.sizes[own],
                )
            )
    return tuple(parts) or Rejection(rule="too_long", value=f"length={full_length}")


def renderings(kind: Kind, text: object, copies: int, config: PlanConfig) -> int:
    """How many ways a row is rendered for so many copies: copy c as copy c modulo that."""
    rendered = kind == "conversation" and isinstance(text, str) and text.lstrip()[:1] == "{" and '"annotations"' in text
    return min(max(1, copies), config.render.variants) if rendered else 1


def fit_copies(
    tokenizer: "PreTrainedTokenizerFast",
    kind: Kind,
    texts: Sequence[str | tuple[str, ...] | None],
    config: PlanConfig,
    images: Sequence[StoredImages | None],
    uids: npt.NDArray[np.bytes_],
    copies: Sequence[int],
) -> list[list[Fitted]]:
    """Of each row, what becomes of its copies 0, 1, … as `renderings` counts them.

    A rendering that does not fit where the first does is the first's.
    """
    counts = [renderings(kind, text, own, config) for text, own in zip(texts, copies, strict=True)]
    row = np.repeat(np.arange(len(counts)), counts)
    copy = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    words = sample_words(uids[row], copy, config.seed).tolist() if kind == "conversation" else ()
    at = row.tolist()
    fitted = iter(
        fit_rows(tokenizer, kind, [texts[n] for n in at], config, [images[n] for n in at] if len(images) else (), words)
    )
    answers = []
    for count in counts:
        first, *others = (next(fitted) for _ in range(count))
        answers.append([first, *(first if isinstance(own, Rejection) else own for own in others)])
    return answers
