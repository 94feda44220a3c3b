"""What a softmax's losses need of every token's logits, from a block of words at a time.

Chunks of tokens make the output layer's gradient once a chunk and add it up; blocks of words
make each part of it once. Where the layer's arrays lie split over devices that have rows of
their own, a block is gathered when its turn comes, and its gradient is split again at once:
the whole layer and its whole gradient need not exist on any device.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from seqjax.losses.base import Project, Projection


@struct.dataclass
class TokenStatistics:
    """Of each token's logits [V], float32 [N] (or of another shape) but for `best`."""

    lse: jax.Array
    """Log of the sum of exponentials."""
    picked: jax.Array
    """The target's logit."""
    total: jax.Array
    """Sum of the logits."""
    largest: jax.Array
    best: jax.Array
    """int32: where the largest is."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blocks:
    """How an output layer is taken in blocks. Hashable: compiled programs are made for it."""

    project: Project
    """(projection, [N, D]) -> float32 logits [N, V], for all words or for some of them."""
    axis: int
    """Of every array of the projection, along which there is an entry for each word."""
    width: int
    """Words of a block, at most."""
    split_over: str | None = None
    """Axis of the mesh over which the other axis of arrays is split (None: they are whole)."""
    split: tuple[int | None, ...] = ()
    """That axis, of each array (None: this one is whole)."""


def statistics_of_logits(logits: jax.Array, target: jax.Array) -> TokenStatistics:
    """From float32 logits [N, V], and target [N]."""
    return TokenStatistics(
        lse=jax.nn.logsumexp(logits, axis=-1),
        picked=jnp.take_along_axis(logits, target[:, None], axis=-1)[:, 0],
        total=logits.sum(-1), largest=logits.max(-1), best=logits.argmax(-1).astype(jnp.int32),
    )


def statistics_by_block(
    blocks: Blocks, projection: Projection, hidden: jax.Array, target: jax.Array
) -> TokenStatistics:
    """The same from decoder states [N, D]; the backward pass makes logits again.

    A target that is no word's number (of a part of the vocabulary) picks 0.
    """
    found: Any = _statistics(blocks, projection, hidden, target)
    return TokenStatistics(*found)


def joined(parts: TokenStatistics, size: int) -> TokenStatistics:
    """Of the whole vocabulary from those of its parts, [P, ...] with `size` words each."""
    winner = parts.largest.argmax(0)[None]
    best = jnp.take_along_axis(parts.best, winner, axis=0)[0] + winner[0] * size
    return TokenStatistics(
        lse=jax.nn.logsumexp(parts.lse, axis=0), picked=parts.picked.sum(0),
        total=parts.total.sum(0), largest=parts.largest.max(0), best=best,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """Some words of an output layer."""

    arrays: Any
    start: jax.Array
    ids: jax.Array
    """[C] numbers of its words."""
    fresh: jax.Array | None
    """[C] bool: those that no block before had (None: all)."""


def _count(blocks: Blocks, projection: Projection) -> tuple[int, int]:
    """Number of blocks, and words of each; the last overlaps the one before."""
    size = jax.tree.leaves(projection)[0].shape[blocks.axis]
    count = -(-size // min(blocks.width, size))
    return count, -(-size // count)


def block_count(blocks: Blocks, projection: Projection) -> int:
    """Number of blocks that an output layer is taken in."""
    return _count(blocks, projection)[0]


def take_block(blocks: Blocks, projection: Projection, number: jax.Array) -> Block:
    """The block of a number, below `block_count`."""
    size = jax.tree.leaves(projection)[0].shape[blocks.axis]
    count, width = _count(blocks, projection)
    start = jnp.minimum(number * width, size - width)
    leaves, tree = jax.tree.flatten(projection)
    taken = []
    for x, split in zip(leaves, blocks.split or (None,) * len(leaves), strict=True):
        part = jax.lax.dynamic_slice_in_dim(x, start, width, axis=blocks.axis % x.ndim)
        if split is not None:
            part = jax.lax.all_gather(part, blocks.split_over, axis=split, tiled=True)
        taken.append(part)
    ids = start + jnp.arange(width)
    fresh = None if size == count * width else ids >= number * width
    return Block(arrays=tree.unflatten(taken), start=start, ids=ids, fresh=fresh)


def add_block(
    blocks: Blocks, total: Any, block: Block, gradient: Any, *, more: bool = False
) -> Any:
    """`total`, shaped as the projection, with the gradient of one block added.

    Args:
      more: `total` may hold something of this block already.
    """
    leaves, tree = jax.tree.flatten(total)
    added = []
    parts, splits = jax.tree.leaves(gradient), blocks.split or (None,) * len(leaves)
    for x, part, split in zip(leaves, parts, splits, strict=True):
        if split is not None:
            part = jax.lax.psum_scatter(
                part, blocks.split_over, scatter_dimension=split, tiled=True)
        axis = blocks.axis % x.ndim
        if more or block.fresh is not None:
            part = part + jax.lax.dynamic_slice_in_dim(x, block.start, part.shape[axis], axis)
        added.append(jax.lax.dynamic_update_slice_in_dim(x, part, block.start, axis))
    return tree.unflatten(added)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _statistics(
    blocks: Blocks, projection: Projection, hidden: jax.Array, target: jax.Array
) -> tuple[jax.Array, ...]:
    """The fields of `TokenStatistics`."""
    tokens = hidden.shape[0]

    def body(carry: tuple[jax.Array, ...], number: jax.Array) -> tuple[Any, None]:
        largest, exps, picked, total, best = carry
        block = take_block(blocks, projection, number)
        logits = blocks.project(block.arrays, hidden)
        here = block.ids == target[:, None]
        if block.fresh is not None:
            logits = jnp.where(block.fresh, logits, -jnp.inf)
            here = here & block.fresh
            total = total + jnp.where(block.fresh, logits, 0.0).sum(-1)
        else:
            total = total + logits.sum(-1)
        top = logits.max(-1)
        new = jnp.maximum(largest, top)
        exps = exps * jnp.exp(largest - new) + jnp.exp(logits - new[:, None]).sum(-1)
        picked = picked + jnp.where(here, logits, 0.0).sum(-1)
        best = jnp.where(top > largest, block.start + logits.argmax(-1), best)
        return (new, exps, picked, total, best.astype(jnp.int32)), None

    zeros = jnp.zeros(tokens, jnp.float32)
    first = (zeros - jnp.inf, zeros, zeros, zeros, jnp.zeros(tokens, jnp.int32))
    count = _count(blocks, projection)[0]
    (largest, exps, picked, total, best), _ = jax.lax.scan(body, first, jnp.arange(count))
    return largest + jnp.log(exps), picked, total, largest, best


def _forward(blocks: Blocks, projection: Projection, hidden: jax.Array, target: jax.Array) -> Any:
    found: Any = _statistics(blocks, projection, hidden, target)
    return found, (projection, hidden, target, found[0])


def _backward(blocks: Blocks, saved: Any, gradient: tuple[jax.Array, ...]) -> Any:
    projection, hidden, target, lse = saved
    d_lse, d_picked, d_total = (x[:, None] for x in gradient[:3])

    def body(carry: tuple[jax.Array, Any], number: jax.Array) -> tuple[Any, None]:
        d_hidden, d_projection = carry
        block = take_block(blocks, projection, number)
        logits, pull = jax.vjp(blocks.project, block.arrays, hidden)
        d_logits = d_lse * jnp.exp(logits - lse[:, None]) + d_total
        d_logits += jnp.where(block.ids == target[:, None], d_picked, 0.0)
        if block.fresh is not None:
            d_logits = jnp.where(block.fresh, d_logits, 0.0)
        d_block, d_states = pull(d_logits)
        d_hidden = d_hidden + d_states.astype(jnp.float32)
        return (d_hidden, add_block(blocks, d_projection, block, d_block)), None

    zeros = jnp.zeros(hidden.shape, jnp.float32), jax.tree.map(jnp.zeros_like, projection)
    count = _count(blocks, projection)[0]
    (d_hidden, d_projection), _ = jax.lax.scan(body, zeros, jnp.arange(count))
    return d_projection, d_hidden.astype(hidden.dtype), None


_statistics.defvjp(_forward, _backward)
