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
_SHARED = (32, 64, 96, 128)
"""Widths that short rows may fill together."""
_SAMPLE = 256
"""Rows that say which of these is best."""
_POSITION = 768
"""What a position costs beside attention, in positions that it attends to: attention works on
whole rows, all else on each position alone. About the width of a model."""
_Row = list[tuple[int, int]]
"""Places of the rows of ids that share one, each with its first column."""


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
      shared: those share a row that fill it best.
    """
    width = _shared_width(rows, limit=limit) if shared else 0
    begun = _filled_rows(rows, limit=limit, shared=width)
    for width, contents in sorted(begun.items()):
        while contents:
            count = _part(len(contents))
            taken, contents = contents[:count], contents[count:]
            yield Layout(shape=(_power(len(taken)), width), places=tuple(
                (place, row, start) for row, one in enumerate(taken) for place, start in one))


def _shared_width(rows: Sequence[np.ndarray], *, limit: int) -> int:
    """The width to be shared with which some of these rows, of all if they are few, cost least."""
    some = rows[:: -(-len(rows) // _SAMPLE) or 1]
    longest = max((len(x) for x in some if len(x) <= _SHARED[-1]), default=0)

    def cost(shared: int) -> int:
        begun = _filled_rows(some, limit=limit, shared=shared)
        return sum(len(found) * width * (_POSITION + width) for width, found in begun.items())

    return min(sorted({_width(longest), *(w for w in _SHARED if w >= longest)}), key=cost)


def _filled_rows(
    rows: Sequence[np.ndarray], *, limit: int, shared: int
) -> dict[int, list[_Row]]:
    """Rows of each width, filled from the longest on, each where least remains.

    Args:
      shared: width that is begun for short ones; 0: each has a row of its own.
    """
    begun: dict[int, list[_Row]] = collections.defaultdict(list)
    free: dict[int, list[tuple[_Row, int]]] = collections.defaultdict(list)
    left, widest = sum(map(len, rows)), 0
    for place in sorted(range(len(rows)), key=lambda i: -len(rows[i])):
        length = len(rows[place])
        space = next((n for n in range(length, widest + 1) if free[n]), None)
        if space is None:
            space = max(min(_width(max(length, min(shared, left))), limit), length, 1)
            row, end = [], space
            begun[space].append(row)
        else:
            row, end = free[space].pop()
        row.append((place, end - space))
        left -= length
        if shared:
            free[space - length].append((row, end))
            widest = max(widest, space - length)
    return begun


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
    return count if 4 * count >= 3 * whole else whole // 2
