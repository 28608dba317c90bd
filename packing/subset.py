"""Subset sums in one or two dimensions, exact, in long integers.

Bit `row * stride + column` of an integer is set if some subset of the items taken in so far has these two sums; taking
in an item shifts what fits beside it and joins the two. A single dimension is a single row.
"""

import functools
from collections.abc import Iterable
from itertools import accumulate, repeat

Point = tuple[int, int]


@functools.lru_cache(maxsize=16)
def _lines(stride: int, rows: int) -> list[int]:
    """Of each number of rows up to `rows`, the integer that has their first bits."""
    return list(accumulate(repeat(stride, rows), lambda bits, by: bits << by | 1, initial=1))


def choose(pool: Iterable[Point], room: Point, low: Point, high: Point) -> tuple[list[int], float]:
    """Which items of `pool`, sizes as (column, row), add up to a point between `low` and `high`, both included.

    Items are taken in until there is such a point, and not beyond: the pool may be a generator, and its beginning is
    preferred. If there is none, the items add up to the reachable point that misses least, each miss measured in
    room. No sum is beyond `room`, and every item must fit into it. Returns places in the pool, and the miss.

    >>> choose([(4, 0), (3, 0), (6, 0), (1, 0)], (10, 0), (10, 0), (10, 0))
    ([0, 2], 0.0)
    """
    columns, rows = room
    stride = columns + 1
    lines = _lines(stride, rows)
    whole = lines[rows] << stride
    band = lines[high[1]] - (lines[low[1] - 1] if low[1] else 0)
    target = (band << high[0] + 1) - (band << low[0])
    reach, total, total_rows = 1, 0, 0
    items: list[tuple[int, int]] = []
    """Each one's shift, and what was reachable before it."""
    hit = reach & target
    if not hit:
        for column, row in pool:
            shift = row * stride + column
            items.append((shift, reach))
            total += column
            total_rows += row
            if total <= columns and total_rows <= rows:
                reach |= reach << shift
            else:
                # Left of the item's column is what has run over into the next row, and beyond the last one what fits
                # in no row; while all that was taken in fits together, there is neither.
                reach |= reach << shift & whole - (lines[rows] << column)
            if total >= low[0] and (hit := reach & target):
                break
    at, miss = (hit.bit_length() - 1, 0.0) if hit else _nearest(reach, room, low, high)
    chosen: list[int] = []
    for place in range(len(items) - 1, -1, -1):
        shift, before = items[place]
        if not before >> at & 1:
            chosen.append(place)
            at -= shift
    return chosen[::-1], miss


def _nearest(reach: int, room: Point, low: Point, high: Point) -> tuple[int, float]:
    """The bit that misses the wanted points least, and by how much."""
    columns, rows = room
    stride = columns + 1
    whole, under = (1 << stride) - 1, (1 << high[0] + 1) - 1
    best, least = 0, float("inf")
    for row in range(rows + 1):
        line = reach >> row * stride & whole
        if not line:
            continue
        column = (line & under).bit_length() - 1
        if column < low[0] and (above := line & ~under):
            over = (above & -above).bit_length() - 1
            column = over if column < 0 or over - high[0] < low[0] - column else column
        miss = max(0, low[0] - column, column - high[0]) / max(1, columns)
        miss += max(0, low[1] - row, row - high[1]) / max(1, rows)
        if miss < least:
            best, least = row * stride + column, miss
    return best, least
