"""Rows of ids in batches of few shapes: lists of ids in; places of the rows and padded arrays out.

Rows of like length share a batch, or short ones a row; what a model says of one depends on
nothing else in it.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

ROWS = 16
"""Of a batch; the first, of the shortest rows, may have 1, 2, 4 or 8."""
_STEPS = ((64, 8), (128, 16), (256, 32))
"""Widths up to the first number are multiples of the second."""
_STEP = 64
"""Of longer ones."""
_SHARED = 128
"""Width that short rows fill together: little of it stays empty, and attention, which works on
all of it, is still a small part of the work."""


def batches(
    rows: Sequence[np.ndarray], *, pad: int, limit: int
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Batches of all rows.

    Args:
      pad: id of padding.
      limit: of the model, which no row is longer than.

    Yields:
      Places of the rows in `rows`; [B, S] int32, whose further rows are all padding.
    """
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    start, size = 0, len(order) % ROWS or ROWS
    while start < len(order):
        places = order[start : start + size]
        width = min(_width(max(len(rows[i]) for i in places)), max(limit, 1))
        tokens = np.full((_power(len(places)), width), pad, np.int32)
        for row, place in enumerate(places):
            tokens[row, : len(rows[place])] = rows[place]
        yield places, tokens
        start, size = start + size, ROWS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Where rows of ids lie in a batch, in which several may share a row."""

    shape: tuple[int, int]
    """B, S."""
    places: tuple[tuple[int, int, int], ...]
    """Of each that is in it: its place among all; its row and first column here."""

    def filled(self, rows: Sequence[np.ndarray], *, empty: int) -> np.ndarray:
        """[B, S] int32 of all rows, `empty` where none is."""
        out = np.full(self.shape, empty, np.int32)
        for place, row, start in self.places:
            out[row, start : start + len(rows[place])] = rows[place]
        return out

    def segments(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """[B, S] int32: 1, 2, ... for those that share a row, 0 where none is."""
        numbers: dict[int, int] = collections.defaultdict(int)
        out = np.zeros(self.shape, np.int32)
        for place, row, start in self.places:
            numbers[row] += 1
            out[row, start : start + len(rows[place])] = numbers[row]
        return out


def layouts(rows: Sequence[np.ndarray], *, limit: int, shared: bool) -> Iterator[Layout]:
    """Batches of all rows.

    Args:
      limit: of the model, which no row is longer than.
      shared: short ones share a row, the best fitting ones.
    """
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    begun: dict[int, list[list[tuple[int, int]]]] = collections.defaultdict(list)
    free: dict[int, list[tuple[list[tuple[int, int]], int]]] = collections.defaultdict(list)
    left, widest = sum(map(len, rows)), 0
    for place in order:
        length = len(rows[place])
        space = next((n for n in range(length, widest + 1) if free[n]), None) if shared else None
        if space is None:
            space = _width(max(length, min(_SHARED, left) if shared else 0))
            space = max(min(space, limit), length, 1)
            one: list[tuple[int, int]] = []
            end = space
            begun[space].append(one)
        else:
            one, end = free[space].pop()
        one.append((place, end - space))
        free[space - length].append((one, end))
        widest, left = max(widest, space - length), left - length
    for width, contents in sorted(begun.items()):
        while contents:
            count = _part(len(contents))
            taken, contents = contents[:count], contents[count:]
            yield Layout(shape=(_power(len(taken)), width), places=tuple(
                (place, row, start) for row, one in enumerate(taken) for place, start in one))


def check_lengths(rows: Sequence[np.ndarray], *, limit: int, name: str) -> None:
    """Refuses rows that are longer than the model takes, by their number from 0."""
    for place, ids in enumerate(rows):
        if len(ids) > limit:
            raise ValueError(f"{name}[{place}]: has {len(ids)} tokens, but the model takes at most "
                             f"{limit}: shorten it")


def _width(longest: int) -> int:
    step = next((step for end, step in _STEPS if longest <= end), _STEP)
    return max(-(-longest // step) * step, step)


def _power(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()


def _part(count: int) -> int:
    """How many of so many rows are a batch: at most `ROWS`, and so many that the next power of
    two is nearly full of them."""
    if count >= ROWS:
        return ROWS
    whole = _power(count)
    return count if 4 * count > 3 * whole else whole // 2
