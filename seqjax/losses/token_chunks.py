"""The sum of cross entropies, a chunk of tokens at a time, with its gradient made on the way.

Decoder states, an output layer with an entry for each word and targets go in; sums come out. The
gradient of a chunk's logits is known as soon as its logits are, so that the forward pass takes it
through the output layer at once: no logits are made twice, and those of one chunk exist at a
time. What the layer's gradient gains from a chunk is added up a block of words at a time.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from seqjax.losses.base import Projection, WordProject
from seqjax.losses.vocabulary_blocks import Blocks, add_block, block_count, take_block

_BLOCK = 2**18
"""Elements of the part of the output layer's gradient that is made at once: it stays in a
processor's cache until it is added."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chunks:
    """How tokens are taken. Hashable: compiled programs are made for it."""

    blocks: Blocks
    tokens: int
    """Of a chunk, at most."""
    vocabulary: int
    """Words of the whole output layer."""
    smoothing: float
    accuracy: bool
    words_over: str | None = None
    """Axis of the mesh over which words are split, each device having a part (None: none)."""

    @property
    def each(self) -> float:
        """What label smoothing weighs each word's -log p with."""
        return self.smoothing / (self.vocabulary - 1)


def blocks_for(project: WordProject, *, width: int) -> Blocks:
    """Blocks of words whose part of the output layer's gradient is small.

    Args:
      project: the output layer, with a `vocabulary_axis`.
      width: D.
    """
    return Blocks(
        project=project, axis=project.vocabulary_axis, width=max(128, _BLOCK // max(1, width)))


def sums_of_tokens(
    how: Chunks, projection: Projection, hidden: jax.Array, target: jax.Array, scored: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Label smoothed cross entropy, negative log-likelihood and number of right guesses, summed;
    float32 scalars.

    The first has a gradient; the others are for reports. (Without smoothing the first two are
    one.) Where devices have parts of the words, each gets its equal share of these sums, and the
    gradient of all of them through its own words.

    Args:
      hidden: [N, D]; target: [N] ids, counted from the first word of the part; scored: [N] bool.
    """
    found: Any = _sums(how, projection, hidden, target, scored)
    loss, nll, correct = found
    nll = jax.lax.stop_gradient(nll) if how.smoothing else loss
    return loss, nll, jax.lax.stop_gradient(correct)


def _cut(how: Chunks, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    """[N, ...] as [chunks, tokens, ...]; what is missing in the last is zeros."""
    tokens = arrays[0].shape[0]
    count = -(-tokens // how.tokens)
    size = -(-tokens // count)
    extra = count * size - tokens
    return tuple(
        jnp.pad(x, ((0, extra),) + ((0, 0),) * (x.ndim - 1)).reshape(count, size, *x.shape[1:])
        for x in arrays)


def token_sums(
    logits: jax.Array, target: jax.Array, scored: jax.Array, *, vocabulary: int, smoothing: float,
    accuracy: bool, words_over: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """[3] the sums of `sums_of_tokens`, and the log-sum-exp of each token [n].

    Args:
      logits: [n, V] float32, of all words or of the part that this device has; the sums are over
        all parts.
      target, scored: [n], as for `sums_of_tokens`.
      vocabulary, smoothing, accuracy, words_over: see `Chunks`.
    """
    over, total = words_over, logits.sum(-1) if smoothing else jnp.zeros(())
    lse, best = jax.nn.logsumexp(logits, axis=-1), logits.argmax(-1)
    if over is None:
        picked = jnp.take_along_axis(logits, target[:, None], axis=-1)[:, 0]
        right = best == target
    else:
        size = logits.shape[-1]
        here = (target >= 0) & (target < size)
        place = jnp.clip(target, 0, size - 1)[:, None]
        picked = jnp.where(here, jnp.take_along_axis(logits, place, axis=-1)[:, 0], 0.0)
        largest = jax.lax.pmax(lse, over)
        lse = largest + jnp.log(jax.lax.psum(jnp.exp(lse - largest), over))
        picked, total = jax.lax.psum((picked, total), over)
        right = here & (best == target) & _is_best(logits.max(-1), over)
    nll = jnp.where(scored, lse - picked, 0.0).sum()
    loss = nll
    if smoothing:
        each = smoothing / (vocabulary - 1)
        smooth = jnp.where(scored, vocabulary * lse - total, 0.0).sum()
        loss = (1.0 - smoothing - each) * nll + each * smooth
    correct = jnp.zeros((), jnp.float32)
    if accuracy:
        correct = (scored & right).sum(dtype=jnp.float32)
        correct = correct if over is None else jax.lax.psum(correct, over)
    return jnp.stack([loss, nll, correct]), lse


def _chunk(
    how: Chunks, logits: jax.Array, target: jax.Array, scored: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return token_sums(
        logits, target, scored, vocabulary=how.vocabulary, smoothing=how.smoothing,
        accuracy=how.accuracy, words_over=how.words_over)


def _is_best(largest: jax.Array, over: str) -> jax.Array:
    """[n] bool: whether the largest logit of a part [n] is that of all words; of equal ones the
    first."""
    part = jax.lax.axis_index(over)
    winner = largest == jax.lax.pmax(largest, over)
    return jax.lax.pmin(jnp.where(winner, part, jax.lax.axis_size(over)), over) == part


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sums(
    how: Chunks, projection: Projection, hidden: jax.Array, target: jax.Array, scored: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    def body(total: jax.Array, part: Any) -> tuple[jax.Array, None]:
        states, *rest = part
        return total + _chunk(how, how.blocks.project(projection, states), *rest)[0], None

    total, _ = jax.lax.scan(body, jnp.zeros(3, jnp.float32), _cut(how, hidden, target, scored))
    return _shares(how, total)


def _shares(how: Chunks, total: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """[3] sums as scalars; of a part of the words its equal share, so that parts add up to them."""
    total = total if how.words_over is None else total / jax.lax.axis_size(how.words_over)
    return total[0], total[1], total[2]


def _forward(
    how: Chunks, projection: Projection, hidden: jax.Array, target: jax.Array, scored: jax.Array
) -> Any:
    """The sums, and the gradient of the first by the output layer and the states."""

    def body(carry: tuple[jax.Array, Any], part: Any) -> tuple[Any, jax.Array]:
        total, d_projection = carry
        states, target, scored = part
        logits = how.blocks.project(projection, states)
        sums, lse = _chunk(how, logits, target, scored)
        d_states, d_projection = _through(
            how, projection, d_projection, states=states, logits=logits, lse=lse, target=target,
            scored=scored)
        return (total + sums, d_projection), d_states

    zeros = jnp.zeros(3, jnp.float32), jax.tree.map(jnp.zeros_like, projection)
    (total, d_projection), d_hidden = jax.lax.scan(
        body, zeros, _cut(how, hidden, target, scored))
    d_hidden = d_hidden.reshape(-1, hidden.shape[-1])[: hidden.shape[0]]
    return _shares(how, total), (d_projection, d_hidden.astype(hidden.dtype))


def _through(
    how: Chunks, projection: Projection, d_projection: Any, *, states: jax.Array, logits: jax.Array,
    lse: jax.Array, target: jax.Array, scored: jax.Array,
) -> tuple[jax.Array, Any]:
    """A chunk's gradient by its states [n, D], and `d_projection` with what it adds."""
    plain = 1.0 - how.smoothing - how.each
    # d loss / d logit = softmax (plain + V each) - plain [is the target] - each
    weight = plain + how.vocabulary * how.each
    scale = scored[:, None].astype(jnp.float32)

    def body(carry: tuple[jax.Array, Any], number: jax.Array) -> tuple[Any, None]:
        d_states, d_projection = carry
        block = take_block(how.blocks, projection, number)
        part = jax.lax.dynamic_slice_in_dim(logits, block.start, block.ids.shape[0], axis=1)
        d_logits = weight * jnp.exp(part - lse[:, None]) - how.each
        d_logits = (d_logits - jnp.where(block.ids == target[:, None], plain, 0.0)) * scale
        if block.fresh is not None:
            d_logits = jnp.where(block.fresh, d_logits, 0.0)
        _, pull = jax.vjp(how.blocks.project, block.arrays, states)
        d_block, d_part = pull(d_logits)
        d_states = d_states + d_part.astype(jnp.float32)
        return (d_states, add_block(how.blocks, d_projection, block, d_block)), None

    count = block_count(how.blocks, projection)
    first = jnp.zeros(states.shape, jnp.float32), d_projection
    found, _ = jax.lax.scan(body, first, jnp.arange(count))
    return found


def _backward(how: Chunks, saved: Any, gradient: tuple[jax.Array, ...]) -> Any:
    """Of all shares together: each part has the gradient through its own words, and all get the
    same `gradient`."""
    del how
    d_projection, d_hidden = saved
    by = gradient[0]
    return (jax.tree.map(lambda x: x * by.astype(x.dtype), d_projection),
            d_hidden * by.astype(d_hidden.dtype), None, None)


_sums.defvjp(_forward, _backward)
