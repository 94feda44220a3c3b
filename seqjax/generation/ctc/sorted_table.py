"""Rows of sorted keys with values: (row, key) -> value, in compiled code.

An n-gram model's successors of a context and a lexicon's children of a node are both such
tables. What is looked up is found by bisection, so a table costs no more than its entries.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

ABSENT = -1
"""The position of what is not in a table."""


class Arrays(NamedTuple):
    """A table on its way through compiled code."""

    starts: jax.Array
    """[R + 1] int32: where the keys of each row begin."""
    keys: jax.Array
    """[N] int32, ascending within a row."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SortedTable:
    """Keys of R rows, ascending within each."""

    starts: np.ndarray
    """[R + 1] int32."""
    keys: np.ndarray
    """[N] int32."""

    @property
    def arrays(self) -> Arrays:
        """What `find` takes."""
        return Arrays(jnp.asarray(self.starts), jnp.asarray(self.keys))

    @property
    def steps(self) -> int:
        """Bisections that find any key of the longest row."""
        longest = int(np.diff(self.starts).max(initial=0))
        return longest.bit_length()


def sorted_table(
    rows: np.ndarray, keys: np.ndarray, *, size: int,
) -> tuple[SortedTable, np.ndarray]:
    """A table of `size` rows from unordered (row, key) pairs.

    Args:
      rows, keys: [N] integers; a pair may stand there once.
      size: number of rows.

    Returns:
      The table, and [N] the order in which it holds the pairs (for their values).
    """
    order = np.lexsort((keys, rows))
    starts = np.zeros(size + 1, np.int32)
    np.cumsum(np.bincount(rows, minlength=size), out=starts[1:])
    held = keys[order].astype(np.int32)
    if not len(held):
        held = np.full(1, -1, np.int32)  # a gather needs something to point at
    return SortedTable(starts=starts, keys=held), order


def find(table: Arrays, rows: jax.Array, keys: jax.Array, *, steps: int) -> jax.Array:
    """Positions of (row, key), int32 of their shape; `ABSENT` where there is no such pair.

    Args:
      rows: int32 of any shape, each a row of the table.
      keys: int32 of the same shape.
      steps: the table's `steps`.
    """
    low, end = table.starts[rows], table.starts[rows + 1]

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low + high) // 2
        right = (table.keys[middle] < keys) & (low < high)
        return jnp.where(right, middle + 1, low), jnp.where(right | (low >= high), high, middle)

    low, _ = lax.fori_loop(0, steps, halve, (low, end), unroll=True)
    at = jnp.minimum(low, len(table.keys) - 1)
    return jnp.where((low < end) & (table.keys[at] == keys), at, ABSENT)
