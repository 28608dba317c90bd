"""From packs to batches: a fixed order, decoded ahead of the trainer.

The order is a function of (seed, epoch) and the number of sequences: the stream of all epochs' permutations, cut into
steps of `batch_sequences`. Step s always holds the same sequences, so the cursor of a run is its step alone, and
neither the number of threads nor that of devices changes what a step sees. The last step of a run is filled up from
the next epoch, so that every step is full.

Decoding runs in threads, not processes: Pillow releases the interpreter lock while it decodes and resizes, nothing is
copied between processes, and a fork under CUDA or an S3 client is a known way to hang.
"""

import collections
import dataclasses
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
import numpy.typing as npt

from mmcorpus.curation.store import storage
from mmcorpus.packing.chat import CHATML, ChatTemplate
from mmcorpus.packing.errors import PackError
from mmcorpus.packing.layout import PerImage
from mmcorpus.packing.layout.base import LayoutBase
from mmcorpus.packing.packs import PackReader
from mmcorpus.packing.sequence import PackedSequence
from mmcorpus.packing.tokens import load_tokenizer, special_ids, tokenizer_fingerprint
from mmcorpus.training.batch import PackedBatch, Piece, Tiling, collate, expand
from mmcorpus.training.config.model import layout_name, same_layout
from mmcorpus.training.images import load_square, tile
from mmcorpus.training.vision import GREY

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def epoch_order(sequences: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The order of one epoch: a permutation of range(sequences)."""
    return np.random.default_rng([seed, epoch]).permutation(sequences)


class Order:
    """The items of each step, from the permutations of the epochs one after another.

    With `whole`, what is left of an epoch after its last whole batch is left out, so that no batch holds an item twice.
    Keeps the epoch at hand, since steps come in order.
    """

    def __init__(self, items: int, batch: int, seed: int, *, whole: bool = False) -> None:
        self.items, self.batch, self.seed = items, batch, seed
        self.per_epoch = items // batch * batch if whole else items
        self._epoch: tuple[int, npt.NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    def step(self, step: int) -> list[tuple[int, int]]:
        """The (epoch, item) of step 0, 1, …"""
        found: list[tuple[int, int]] = []
        while len(found) < self.batch:
            epoch, offset = divmod(step * self.batch + len(found), self.per_epoch)
            if self._epoch[0] != epoch:
                self._epoch = (epoch, epoch_order(self.items, self.seed, epoch))
            end = min(self.per_epoch, offset + self.batch - len(found))
            found += [(epoch, int(item)) for item in self._epoch[1][offset:end]]
        return found


def micro_batches(mine: Sequence[int], size: int) -> list[list[int]]:
    """A device's sequences of a step (`balance.assign`), cut into forward passes."""
    return [list(mine[start : start + size]) for start in range(0, len(mine), size)]


def check_whole(reader: PackReader) -> None:
    """Raise PackError unless a pack is what its manifest says, as far as can be seen without reading it: the tars'
    sizes, the tokenizer beside them, and the first sequence, which must measure what the layout says."""
    reader.check_files()
    folder, packed = storage.join(reader.root, "tokenizer"), reader.manifest["tokenizer"]
    if storage.exists(folder):
        beside = load_tokenizer(folder)
        if tokenizer_fingerprint(beside) != packed.get("fingerprint"):
            raise PackError(
                f"{folder} is not the tokenizer {packed.get('name')!r} that {reader.root}/manifest.json names: one of "
                "them is of another pack; copy the pack again or write it again"
            )
        _check_template(reader, folder, beside)
    if len(reader):
        reader[0]


def _check_template(reader: PackReader, folder: str, tokenizer: "PreTrainedTokenizerFast") -> None:
    """Raise PackError for packed conversations whose chat template is not that beside them: the model would be asked in
    another one than it was trained on."""
    said = reader.manifest.get("parameters", {})
    if "conversation" not in said.get("sources", {}).values():
        return
    expected = said.get("tokenizer", {}).get("chat_template") or ChatTemplate(tokenizer, CHATML).hash
    if not tokenizer.chat_template or ChatTemplate(tokenizer).hash != expected:
        raise PackError(
            f"{folder} has {'another' if tokenizer.chat_template else 'no'} chat template than that which the "
            f"conversations of {reader.root} are written in; copy the pack again or write it again"
        )


def check_packs(reader: PackReader, tokenizer: "PreTrainedTokenizerFast", layout: PerImage) -> None:
    """Raise ValueError unless packs and model agree on special ids, vocabulary and an image's layout (invariant 5), and
    all sequences are as long as the pack says.

    The vocabulary is compared with that of the tokenizer beside the packs, word by word: two tokenizers trained by the
    same program have the same special ids and yet mean other words.
    """
    root, packed = reader.root, reader.manifest["tokenizer"]
    own = special_ids(tokenizer)
    if packed["special_ids_hash"] != own.hash:
        raise ValueError(
            f"{root} was packed with the tokenizer {packed['name']!r}, whose special ids {packed['special_ids']} "
            f"differ from those of the model's tokenizer, {own.as_dict()}. Pack again with the model's tokenizer, or "
            "train the model that the packs' tokenizer belongs to"
        )
    folder = storage.join(root, "tokenizer")
    if storage.exists(folder) and load_tokenizer(folder).get_vocab() != tokenizer.get_vocab():
        raise ValueError(
            f"{root} was packed with the tokenizer {packed['name']!r}, whose vocabulary differs from that of the "
            "model's tokenizer: the same ids would mean other words. Pack again with the model's tokenizer"
        )
    longest, most = int(np.max(reader.index["length"], initial=0)), reader.manifest["context_length"]
    if longest > most:
        raise ValueError(
            f"{root} says that its sequences have {most} positions, and one has {longest}: manifest and index are not "
            "of one pack; pack again"
        )
    packed_as = reader.layout or reader.tokens_per_image
    if not same_layout(packed_as, layout):
        squares = isinstance(layout, int) and not isinstance(reader.layout or 0, LayoutBase)
        hint = f"tokens_per_image to {reader.tokens_per_image}" if squares else "layout to the packs'"
        raise ValueError(
            f"{root} was packed with {layout_name(packed_as)} but the model gives {layout_name(layout)}: set "
            f"the stage's {hint}, or pack again"
        )


class PackLoader:
    """Reads, decodes and collates packed sequences in the order it is asked to.

    `scaled`: large JPEGs are decoded at a fraction of their size (`load_square`). `skip`: a sequence that cannot be
    read is one position without loss, and the batch's `corrupt` says why; else its PackError is raised.
    """

    def __init__(
        self,
        reader: PackReader,
        *,
        image_size: int,
        length: int | None = None,
        blank: bool = False,
        threads: int = 0,
        scaled: bool = False,
        skip: bool = False,
    ) -> None:
        self.scaled, self.skip = scaled, skip
        self.reader, self.image_size, self.length, self.blank, self.threads = reader, image_size, length, blank, threads
        layout = reader.layout
        self.layout = None if layout is None or layout.kind == "square" else layout
        self._sources = {source: number for number, source in enumerate(reader.sources)}

    def piece(self, sequence: PackedSequence) -> Piece:
        """A packed sequence with its images decoded; a broken one is grey and its sample carries no loss."""
        if self.layout is not None:
            encoded = [image.data for image in sequence.images]
            tiled = tile(encoded, self.layout, sequence.sizes, blank=self.blank)
            return self._expanded(sequence, tiled.pixels, tiled.broken, tiled.tiling)
        shape = (len(sequence.images), 3, self.image_size, self.image_size)
        images = np.full(shape, GREY, dtype=np.uint8)
        broken = []
        for number, image in enumerate(sequence.images):
            pixels = load_square(image.data, self.image_size, scaled=self.scaled)
            if pixels is None:
                broken.append(number)
            elif not self.blank:
                images[number] = pixels
        return self._expanded(sequence, images, broken, self.reader.tokens_per_image)

    def _expanded(
        self, sequence: PackedSequence, images: npt.NDArray[np.uint8], broken: Sequence[int], per_image: int | Tiling
    ) -> Piece:
        return expand(
            sequence.input_ids,
            sequence.lengths,
            sequence.token_counts,
            sequence.loss_spans,
            images,
            broken,
            per_image,
            sequence.branches,
            sequence.uids,
            [self._sources.get(source, 0) for source in sequence.sources],
            sequence.weights,
            sequence.tags,
        )

    def batch(self, indices: Sequence[int]) -> PackedBatch:
        """The sequences with these numbers as one batch; of none, a batch with nothing to learn."""
        read = [self._read(index) for index in indices]
        pieces = [self.piece(_NOTHING if isinstance(one, PackError) else one) for one in read or [_NOTHING]]
        corrupt = tuple(str(one) for one in read if isinstance(one, PackError))
        return dataclasses.replace(collate(pieces, length=self.length), sequences=tuple(indices), corrupt=corrupt)

    def _read(self, index: int) -> PackedSequence | PackError:
        try:
            return self.reader[index]
        except PackError as error:
            if not self.skip:
                raise
            return error

    def batches(self, groups: Iterable[Sequence[int]]) -> Generator[PackedBatch]:
        """A batch for each group, in order; with threads, one more than there are threads is under way."""
        yield from ahead(self.batch, groups, self.threads, waiting=self.threads)


_NOTHING: Final = PackedSequence(
    sequence=-1,
    input_ids=np.zeros(1, dtype=np.int32),
    uids=("",),
    sources=("",),
    lengths=(1,),
    token_counts=(1,),
    image_counts=(0,),
    loss_spans=((),),
    images=(),
)
"""In place of a sequence that cannot be read, or of none: one position, and nothing to learn."""

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


def ahead(load: Callable[[Item], Loaded], items: Iterable[Item], threads: int, *, waiting: int) -> Generator[Loaded]:
    """`load` of each item, in order; with threads, so many items are under way while one is used."""
    if threads == 0:
        yield from map(load, items)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        pending: collections.deque[Future[Loaded]] = collections.deque()
        try:
            for item in items:
                pending.append(pool.submit(load, item))
                if len(pending) > waiting:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
