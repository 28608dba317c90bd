"""Items in the order given, but each after those it needs."""

import heapq
from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter


def in_order(needs: Mapping[str, Iterable[str]]) -> list[str]:
    """The keys of `needs`, the first that is ready first; what is needed but no key counts as there.

    Raises:
        graphlib.CycleError: (a ValueError) some need each other.
    """
    names = list(needs)
    position = {name: number for number, name in enumerate(names)}
    sorter = TopologicalSorter({name: [need for need in needs[name] if need in position] for name in names})
    sorter.prepare()
    ordered: list[str] = []
    ready: list[int] = []
    while sorter.is_active():
        for name in sorter.get_ready():
            heapq.heappush(ready, position[name])
        ordered.append(names[heapq.heappop(ready)])
        sorter.done(ordered[-1])
    return ordered
