"""The order in which torch leaves equal elements: that of C++'s `std::sort`.

torch sorts on CPUs with libstdc++'s introsort, which is not stable beyond 16 elements.
fairseq sorts the sentences of a batch so, and prints them in that order; who compares
outputs line by line needs the very same. Nothing else does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_SMALL = 16


def falling_order(keys: Sequence[int] | np.ndarray) -> np.ndarray:
    """Indices [n] of `torch.sort(keys, descending=True)` on a CPU.

    Quick-sort with the median of three down to stretches of 16, then insertion sort over
    everything. (The heap sort that guards std::sort against quadratic time would change
    ties, too; sentences come sorted by length, for which it never starts.)
    """
    items = list(range(len(keys)))
    values = [int(k) for k in keys]

    def before(a: int, b: int) -> bool:
        return values[items[a]] > values[items[b]]

    def swap(a: int, b: int) -> None:
        items[a], items[b] = items[b], items[a]

    _partitioned(0, len(items), before, swap)
    for i in range(1, len(items)):
        moved, at = items[i], i
        while at > 0 and values[moved] > values[items[at - 1]]:
            items[at] = items[at - 1]
            at -= 1
        items[at] = moved
    return np.array(items, np.int64)


def _partitioned(first: int, last: int, before, swap) -> None:  # noqa: ANN001
    """Partitions until every stretch holds at most `_SMALL` elements."""
    while last - first > _SMALL:
        _median_to_front(first, (first + 1, first + (last - first) // 2, last - 1), before, swap)
        low, high = first + 1, last
        while True:
            while before(low, first):
                low += 1
            high -= 1
            while before(first, high):
                high -= 1
            if low >= high:
                break
            swap(low, high)
            low += 1
        _partitioned(low, last, before, swap)
        last = low


def _median_to_front(front: int, places: tuple[int, int, int], before, swap) -> None:  # noqa: ANN001
    """Swaps the median of three elements, the first for equal ones, to the front."""
    a, b, c = places
    if before(a, b):
        chosen = b if before(b, c) else c if before(a, c) else a
    else:
        chosen = a if before(a, c) else c if before(b, c) else b
    swap(front, chosen)
