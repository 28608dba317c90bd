"""How others pack, written anew and compactly from what their sources do, to be run on the same lengths as ours.

Each takes lengths and images, both of shape (items,), and the limits of a sequence, and returns each item's bin, -1
for items that are left out. Their authors' data loading is not timed, and loops over all open bins are quicker here
than there (the bins are the same), so the seconds flatter them. Sources:

- Open-Qwen2VL, `sequence_packing_image_to_pil.py`: first-fit-decreasing by length within each tar of 10,000 pairs.
- nanoVLM at 4e0c096, `data/advanced_datasets.py`: a buffer of 8 sequences' tokens (`train.py`: 4 x batch size of 2);
  bins for their sum and 5 more; longest first into the emptiest bin that has room.
- TRL 0.2x, `data_utils.py`, `strategy="bfd"`: best-fit-decreasing within each batch of 1,000 of `datasets.map`.
- LLaVA-OneVision-1.5, `examples/llava_ov_1_5/sample_packing/{hashbacket,2_do_hashbacket}.py`: buckets by length;
  lengths that divide the capacity by powers of two fill bins alone; then in six rounds each item of at least the mean
  length is a seed that is filled up with the smallest items to a least number, then the largest that fit, and given
  up unless it is 90 to 96 % full. What then remains is left out. Seeds are taken one after the other, not by threads.
- Molmo2 at f3cb108, `olmo/data/dynamic_packer.py`: a buffer of 48, of which a knapsack over tokens (512 steps) and
  images, an image worth 30 tokens, takes the most valuable part whenever it is full.
"""

import bisect
from collections import defaultdict, deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Peer = Callable[[Ints, Ints, int, int | None], Ints]


def open_qwen2vl(lengths: Ints, images: Ints, capacity: int, max_images: int | None) -> Ints:
    """First-fit-decreasing by length, 10,000 at a time; it knows no limit of images, which is applied all the same."""
    bins, opened = np.empty(len(lengths), dtype=np.int64), 0
    for start in range(0, len(lengths), 10_000):
        own = slice(start, start + 10_000)
        free = np.zeros(len(lengths[own]), dtype=np.int64)
        slots = np.zeros(len(lengths[own]), dtype=np.int64)
        used = 0
        for item in np.argsort(-lengths[own], kind="stable").tolist():
            length, count = int(lengths[start + item]), int(images[start + item]) if max_images else 0
            fits = (free[:used] >= length) & (slots[:used] >= count)
            number = int(fits.argmax()) if used else 0
            if number >= used or not fits[number]:
                number, used = used, used + 1
                free[number], slots[number] = capacity, max_images or 0
            free[number] -= length
            slots[number] -= count
            bins[start + item] = opened + number
        opened += used
    return bins


def nanovlm(lengths: Ints, images: Ints, capacity: int, max_images: int | None) -> Ints:
    """Buffers of 8 sequences, the longest first into the emptiest bin."""
    bins, opened, start = np.empty(len(lengths), dtype=np.int64), 0, 0
    ends = np.cumsum(lengths)
    while start < len(lengths):
        before = int(ends[start - 1]) if start else 0
        end = min(len(lengths), int(np.searchsorted(ends, before + 8 * capacity)) + 1)
        count = -(-(int(ends[end - 1]) - before) // capacity) + 5
        loads = [(0, 0, number) for number in range(count)]
        for item in (start + np.argsort(-lengths[start:end], kind="stable")).tolist():
            length, own = int(lengths[item]), int(images[item]) if max_images else 0
            loads.sort()
            for place, (load, held, number) in enumerate(loads):
                if load + length <= capacity and held + own <= (max_images or 0):
                    loads[place] = (load + length, held + own, number)
                    break
            else:
                number = len(loads)
                loads.append((length, own, number))
            bins[item] = opened + number
        opened, start = opened + len(loads), end
    return np.unique(bins, return_inverse=True)[1].astype(np.int64)


def trl(lengths: Ints, images: Ints, capacity: int, max_images: int | None) -> Ints:
    """Best-fit-decreasing within batches of 1,000; no limit of images, packing of images being refused."""
    bins, opened = np.empty(len(lengths), dtype=np.int64), 0
    for start in range(0, len(lengths), 1000):
        spaces = 1 << capacity
        """Bit s: there is a bin with s free; a new one has all."""
        by_space: defaultdict[int, deque[int]] = defaultdict(deque)
        for item in (start + np.argsort(-lengths[start : start + 1000], kind="stable")).tolist():
            length = int(lengths[item])
            above = spaces >> length
            space = length + (above & -above).bit_length() - 1
            if by_space[space]:
                number = by_space[space].popleft()
                if not by_space[space] and space < capacity:
                    spaces ^= 1 << space
            else:
                number, opened = opened, opened + 1
            by_space[space - length].append(number)
            spaces |= 1 << space - length
            bins[item] = number
    return bins


def llava_onevision(lengths: Ints, images: Ints, capacity: int, max_images: int | None) -> Ints:
    """Hash buckets; lengths alone."""
    buckets: dict[int, list[int]] = defaultdict(list)
    for item in range(len(lengths) - 1, -1, -1):
        buckets[int(lengths[item])].append(item)
    boxes: list[list[int]] = []
    whole, shortest = capacity, min(buckets)
    while whole >= shortest:
        own = buckets.get(whole, [])
        while len(own) >= capacity // whole:
            boxes.append([own.pop() for _ in range(capacity // whole)])
        if whole & 1:
            break
        whole >>= 1
    for least, ratio in ((1, 0.96), (1, 0.95), (8, 0.9), (4, 0.92), (6, 0.92), (4, 0.9)):
        there = sorted(length for length, own in buckets.items() if own)
        if len(there) < 2:
            break
        mean = sum(there) / (len(there) + 1)
        small = [length for length in there if length < int(mean)]
        for seed in reversed(there[len(small) :]):
            for _ in range(len(buckets[seed])):
                box = _seeded(buckets, small, seed, capacity, least)
                if len(box) < least or sum(int(lengths[item]) for item in box) < ratio * capacity:
                    for item in reversed(box):
                        length = int(lengths[item])
                        if not buckets[length] and length != seed:
                            bisect.insort(small, length)
                        buckets[length].append(item)
                    break  # the seed's equals would fare alike
                boxes.append(box)
    bins = np.full(len(lengths), -1, dtype=np.int64)
    for number, box in enumerate(boxes):
        bins[box] = number
    return bins


def _seeded(buckets: dict[int, list[int]], small: list[int], seed: int, capacity: int, least: int) -> list[int]:
    """A box of a seed and what fills it up; `small` is the ascending lengths that are left for that."""
    box, room = [buckets[seed].pop()], capacity - seed
    while room and len(box) < least * 8 and small and small[0] <= room:
        fitting = bisect.bisect_right(small, room)
        if len(box) < least * 0.8:
            place = 0
        elif len(box) < least:
            place = max(range(fitting), key=lambda at: len(buckets[small[at]]) * room / small[at])
        else:
            place = fitting - 1
        length = small[place]
        box.append(buckets[length].pop())
        room -= length
        if not buckets[length]:
            del small[place]
    return box


def molmo2(lengths: Ints, images: Ints, capacity: int, max_images: int | None) -> Ints:
    """A knapsack over 48 buffered items at a time."""
    step, most = max(1, capacity // 512), max_images or 0
    counts = images if max_images else np.zeros_like(images)
    bins, opened = np.empty(len(lengths), dtype=np.int64), 0
    waiting = deque(range(len(lengths)))
    buffer: list[int] = []
    while waiting or buffer:
        while waiting and len(buffer) < 48:
            buffer.append(waiting.popleft())
        room = -(-capacity // step)
        best = np.zeros((len(buffer) + 1, room + 1, most + 1), dtype=np.float32)
        sizes = [(-(-int(lengths[item]) // step), int(counts[item])) for item in buffer]
        for place, (length, count) in enumerate(sizes):
            value = int(lengths[buffer[place]]) + 30 * count
            best[place + 1] = best[place]
            there = best[place, : room + 1 - length, : most + 1 - count] + value
            np.maximum(best[place + 1, length:, count:], there, out=best[place + 1, length:, count:])
        length, count = room, most
        for place in range(len(buffer) - 1, -1, -1):
            own, seen = sizes[place]
            if own <= length and seen <= count and best[place + 1, length, count] != best[place, length, count]:
                bins[buffer.pop(place)] = opened
                length, count = length - own, count - seen
        opened += 1
    return bins


PEERS: dict[str, Peer] = {
    "Open-Qwen2VL": open_qwen2vl,
    "nanoVLM": nanovlm,
    "TRL bfd": trl,
    "LLaVA-OneVision-1.5": llava_onevision,
    "Molmo2": molmo2,
}
LENGTHS_ALONE = {"TRL bfd", "LLaVA-OneVision-1.5"}
"""Peers that know no limit of images."""
