"""Which sentences are decoded together, in which of a few static shapes.

Sentences of like length share a batch, longest first: the largest shape compiles and, if
memory is short, fails first, and the estimate of the time left errs on the safe side. Row
counts and widths come from a small menu, so a job of any size compiles a few programs.

Plain NumPy: lengths go in, `DecodingBatch`es come out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodingBatch:
    """Sentences that are decoded together."""

    indices: tuple[int, ...]
    """Their numbers in the input, at most `rows`."""
    rows: int
    width: int
    """Source tokens in a row, padding included."""


SHORT, MANY = 12, 32
"""Tokens, and sentences: so many that are so short get a width of their own."""


def round_up_to_power(n: int, *, least: int = 1) -> int:
    """The smallest power of two that is neither below `n` nor below `least`."""
    return max(least, 1 << max(0, n - 1).bit_length())


def plan_decoding(
    lengths: Sequence[int] | np.ndarray, *, max_tokens: int = 12000, batch_size: int | None = None,
    largest_width: int | None = None, row_multiple: int = 1, least_width: int = 16,
    few: bool = False,
) -> list[DecodingBatch]:
    """Batches of like lengths that hold every sentence once.

    Args:
      lengths: source tokens per sentence, eos included.
      max_tokens: rows x width of a batch at most (a single sentence may exceed it).
      batch_size: rows of a batch at most.
      largest_width: the model's limit; the widest shape is no wider.
      row_multiple: row counts are multiples of this (devices that share a batch).
      least_width: narrower shapes do not pay for their compilation.
      few: for a job that is small beside the compilation of its shapes: a batch is as wide as
        the one before it unless it needs less than a quarter of that, and the last one of
        several has as many rows as the others.

    Returns:
      Batches, longest sentences first. A batch is as wide as its longest sentence needs,
      in powers of two (`SHORT`, where many sentences are all no longer), and full, but for the
      last one, whose rows are a power of two times `row_multiple`. So there is at most one
      shape per power of two, plus one.
    """
    lengths = np.asarray(lengths, np.int64)
    order = np.argsort(-lengths, kind="stable")
    batches: list[DecodingBatch] = []
    short = len(lengths) >= MANY and lengths.max() <= SHORT < least_width
    start = 0
    while start < len(order):
        longest = int(lengths[order[start]])
        width = SHORT if short else round_up_to_power(longest, least=least_width)
        if largest_width is not None:
            width = min(width, max(largest_width, longest))
        if few and batches and 4 * width >= batches[-1].width:
            width = batches[-1].width
        rows = rows_for(width, max_tokens=max_tokens, batch_size=batch_size,
                        row_multiple=row_multiple)
        members = order[start:start + rows]
        if len(members) < rows and not (few and batches and batches[-1].width == width):
            units = round_up_to_power(-(-len(members) // row_multiple))
            rows = min(rows, row_multiple * units)
        batches.append(DecodingBatch(
            indices=tuple(int(i) for i in members), rows=rows, width=width))
        start += len(members)
    return batches


def rows_for(
    width: int, *, max_tokens: int, batch_size: int | None, row_multiple: int = 1,
) -> int:
    """Rows of a full batch of this width: what both limits allow, at least `row_multiple`."""
    most = max_tokens // width
    if batch_size is not None:
        most = min(most, batch_size)
    return max(1, most // row_multiple) * row_multiple
