"""An output layer taken apart: some of its words at a time, and their part of its gradient.

What is made of a block of words, and added up block by block, needs little memory.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from seqjax.losses.base import Projection, WordProject


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blocks:
    """How an output layer is taken in blocks. Hashable: compiled programs are made for it."""

    project: WordProject
    """(projection, [N, D]) -> float32 logits [N, V], for all words or for some of them."""
    axis: int
    """Of every array of the projection, along which there is an entry for each word."""
    width: int
    """Words of a block, at most."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """Some words of an output layer."""

    arrays: Projection
    start: jax.Array
    ids: jax.Array
    """[C] numbers of its words."""
    fresh: jax.Array | None
    """[C] bool: those that no block before had (None: all)."""


def words_of(projection: Projection, axis: int) -> int:
    """Words of an output layer, of arrays that have an entry for each along `axis`."""
    return jax.tree.leaves(projection)[0].shape[axis]


def block_count(blocks: Blocks, projection: Projection) -> int:
    """Number of blocks that an output layer is taken in; the last overlaps the one before."""
    size = words_of(projection, blocks.axis)
    return -(-size // min(blocks.width, size))


def take_block(blocks: Blocks, projection: Projection, number: jax.Array) -> Block:
    """The block of a number, below `block_count`."""
    size, count = words_of(projection, blocks.axis), block_count(blocks, projection)
    width = -(-size // count)
    start = jnp.minimum(number * width, size - width)
    arrays = jax.tree.map(
        lambda x: jax.lax.dynamic_slice_in_dim(x, start, width, axis=blocks.axis % x.ndim),
        projection)
    ids = start + jnp.arange(width)
    fresh = None if size == count * width else ids >= number * width
    return Block(arrays=arrays, start=start, ids=ids, fresh=fresh)


def add_block(
    blocks: Blocks, total: Projection, block: Block, gradient: Projection
) -> Projection:
    """`total`, shaped as the projection, with the gradient of one block added."""

    def add(x: jax.Array, part: jax.Array) -> jax.Array:
        axis = blocks.axis % x.ndim
        before = jax.lax.dynamic_slice_in_dim(x, block.start, part.shape[axis], axis)
        return jax.lax.dynamic_update_slice_in_dim(x, before + part, block.start, axis)

    return jax.tree.map(add, total, gradient)
