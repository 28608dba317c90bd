"""Vector bin packing: sequences that are limited in positions and in images, filled by what is short of both.

First-fit-decreasing orders by length alone: long texts fill sequences that then hold no image, and captions are left to
sequences whose images run out while most positions stay empty. Here one sequence is filled at a time, as in the
bin-centric heuristics of Panigrahy, Talwar, Uyeda and Wieder 2011 ("Heuristics for Vector Bin Packing"). What is left
to pack asks for positions and images in some proportion; the next item is a large one after which the room left in the
sequence comes nearest to that proportion, so that both limits are reached together.

Items of one length and as many images are one kind. A filled sequence is a recipe of kinds, and is repeated while
there is plenty of all of them.

Example, 10 positions and 2 images a sequence, six texts of 3 positions, four captions of 2 positions and an image. By
length: 3 3 3 | 3 3 3 | 2 2 | 2 2. Here: 3 3 2 2 | 3 3 2 2 | 3 3.
"""

import numpy as np
import numpy.typing as npt

from mmcorpus.packing.binpack import Bins, IntArray, Limit, check_items

STRAY = 4.0
"""What straying from the proportion costs, in items' sizes; from 3 to 8 sequences differ by 1 %."""
SPARE = 4
"""A sequence is repeated for at most this part of the kind that is scarcest for it, since the proportion changes."""


def fill_balanced(lengths: npt.NDArray[np.integer], capacity: int, limit: Limit) -> Bins:
    """Bins of items with integer lengths, shape (items,), within `capacity` and one other limit.

    Equal inputs give equal bins. Raises ValueError naming the first item that fits no bin, or has no length.
    """
    sizes: IntArray = np.asarray(lengths, dtype=np.int64)
    counts: IntArray = np.asarray(limit.sizes, dtype=np.int64)
    check_items(sizes, capacity, [limit])
    max_images = limit.most
    kinds, kind_of, left = np.unique(sizes * (max_images + 1) + counts, return_inverse=True, return_counts=True)
    placed_kinds, placed_bins, placed_at, opened = _fill(*np.divmod(kinds, max_images + 1), left, capacity, max_images)
    items, places = np.argsort(kind_of, kind="stable"), np.argsort(placed_kinds, kind="stable")
    bin_of, position = np.empty_like(sizes), np.empty_like(sizes)
    bin_of[items], position[items] = placed_bins[places], placed_at[places]
    used = np.bincount(bin_of, weights=sizes, minlength=opened).astype(np.int64)
    return Bins(bin=bin_of, position=position, used=used, capacity=capacity)


def _fill(
    lengths: IntArray, images: IntArray, left: IntArray, capacity: int, max_images: int
) -> tuple[IntArray, IntArray, IntArray, int]:
    """Per placement, in order, its kind, its bin and its place there; and how many bins there are."""
    numbers, left = np.arange(len(lengths)), left.copy()
    parts: list[tuple[IntArray, IntArray, IntArray]] = []
    opened = 0
    while len(numbers):
        asked = np.array([lengths @ left / capacity, images @ left / max_images])
        recipe = _recipe(lengths, images, left, asked, capacity, max_images)
        chosen, need = np.unique(recipe, return_counts=True)
        times = max(1, int((left[chosen] // need).min()) // SPARE)
        left[chosen] -= need * times
        bins = np.repeat(np.arange(opened, opened + times), len(recipe))
        parts.append((np.tile(numbers[recipe], times), bins, np.tile(np.arange(len(recipe)), times)))
        opened += times
        if not left[chosen].all():
            there = left > 0
            numbers, lengths, images, left = numbers[there], lengths[there], images[there], left[there]
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        return none, none, none, 0
    kinds, bins, places = (np.concatenate(part) for part in zip(*parts, strict=True))
    return kinds, bins, places, opened


def _recipe(
    lengths: IntArray, images: IntArray, left: IntArray, asked: npt.NDArray[np.float64], capacity: int, max_images: int
) -> IntArray:
    """The kinds that fill one bin, in the order in which they are put in.

    `asked` is what all that is left needs, in whole bins' positions and in whole bins' images: its larger one says how
    many bins there will be, and of the other limit each bin may leave its share unused.
    """
    left = left.copy()
    share = asked / asked.max()
    part_length, part_images = lengths / capacity, images / max_images
    size = part_length * share[0] + part_images * share[1]
    cross = part_length * asked[1] - part_images * asked[0]
    room_length, room_images = capacity, max_images
    recipe: list[int] = []
    while True:
        fits = np.flatnonzero((lengths <= room_length) & (images <= room_images) & (left > 0))
        if not len(fits):
            return np.array(recipe, dtype=np.int64)
        over_length = room_length / capacity - 1 + share[0]
        over_images = room_images / max_images - 1 + share[1]
        stray = np.abs(over_length * asked[1] - over_images * asked[0] - cross[fits]) / asked.sum()
        best = int(fits[np.argmax(size[fits] - STRAY * stray)])
        recipe.append(best)
        left[best] -= 1
        room_length -= int(lengths[best])
        room_images -= int(images[best])
