"""Moves sentences between batches: rows of every array of a search, wherever its batch axis is."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

SHARED = -1
"""Axis of arrays that all sentences share."""


def batch_axes(shapes_of_one: Any, shapes_of_two: Any) -> tuple[int, ...]:
    """For each leaf of a pytree the axis that grows with the number of sentences, SHARED
    if none does, from its shapes for one and for two sentences."""

    def axis(one: Any, two: Any) -> int:
        grown = [i for i, (a, b) in enumerate(zip(one.shape, two.shape, strict=True)) if a != b]
        if len(grown) > 1:
            raise ValueError(f"a cache of shape {two.shape} has several batch axes")
        return grown[0] if grown else SHARED

    pairs = zip(jax.tree.leaves(shapes_of_one), jax.tree.leaves(shapes_of_two), strict=True)
    return tuple(axis(one, two) for one, two in pairs)


def move_rows(
    into: jax.Array, of: jax.Array, source: jax.Array, moved: jax.Array, *, axis: int,
) -> jax.Array:
    """`into` with `of`'s rows `source[i]` in the rows i where `moved`.

    Args:
      into, of: a batch of R sentences lies along `axis`, as R or R * n entries; SHARED:
        all sentences share the array, which both have alike.
      source, moved: [R].
    """
    if axis < 0:
        return into
    rows = source.shape[0]
    split = (*into.shape[:axis], rows, into.shape[axis] // rows, *into.shape[axis + 1:])
    mask = moved.reshape((1,) * axis + (rows,) + (1,) * (len(split) - axis - 1))
    taken = jnp.take(of.reshape(split), source, axis=axis)
    return jnp.where(mask, taken, into.reshape(split)).reshape(into.shape)


def batch_first(tree: Any) -> tuple[int, ...]:
    """As `batch_axes`, where the batch axis is the first; scalars are shared."""
    return tuple(0 if x.ndim else SHARED for x in jax.tree.leaves(tree))
