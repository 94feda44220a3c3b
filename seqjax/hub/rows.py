"""Rows of ids in batches of few shapes: lists of ids in; places of the rows and padded arrays out.

Rows of like length share a batch; what a model says of a row depends on nothing else in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

ROWS = 16
"""Of a batch; the first, of the shortest rows, may have 1, 2, 4 or 8."""
_STEPS = ((64, 8), (128, 16), (256, 32))
"""Widths up to the first number are multiples of the second."""
_STEP = 64
"""Of longer ones."""


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
