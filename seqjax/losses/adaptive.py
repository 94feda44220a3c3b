"""The loss of an adaptive softmax: cross entropy of the head and of each tail cluster.

Only the tokens whose target is in a cluster are projected onto it, a slice of columns of
the batch at a time, so that the rare clusters cost little and their logits never exist at
once. The output layer is any object of the small protocol `Clusters`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from seqjax.losses.base import Forward, LossOutput
from seqjax.losses.configs import AdaptiveLossConfig
from seqjax.losses.cross_entropy import chunked_sums
from seqjax.losses.rows import sum_over_rows

_SLICES = 8
"""Slices of columns that a row's tokens of one cluster are taken in, at least; those that
no row reaches are skipped."""


class Clusters(Protocol):
    """An output layer of two levels."""

    ends: Any
    """Where the head's words and each tail's end, as ids; the last is the vocabulary size."""

    def head_logits(self, hidden: jax.Array) -> jax.Array:
        """Float32 [..., ends[0] + tails]: words, then one class per tail."""
        ...

    def tail_hidden(self, index: int, hidden: jax.Array) -> jax.Array:
        """[..., D_i]: states in the tail's space."""
        ...

    def tail_logits(self, index: int, narrow: jax.Array) -> jax.Array:
        """Float32 [..., V_i] from `tail_hidden`."""
        ...


def compute(
    forward: Forward, batch: Mapping[str, jax.Array], config: AdaptiveLossConfig, *,
    update: jax.Array,
) -> LossOutput:
    """The loss of a forward pass over predicted tokens (see `declarations.Loss.compute`)."""
    del batch, update
    features, target = forward.tokens()
    return adaptive_loss(features.hidden, features.projection, target, config=config,
                         pad=forward.pad, sentences=forward.sentences)


def adaptive_loss(
    hidden: jax.Array, clusters: Clusters, target: jax.Array, *, config: AdaptiveLossConfig,
    pad: int, sentences: jax.Array | None = None,
) -> LossOutput:
    """fairseq's adaptive loss, summed.

    Args:
      hidden: [B, T, D] decoder states.
      target: [B, T]; `pad` is not scored.
      sentences: float32 scalar, number of sentences (default: rows that hold a token).

    Returns:
      LossOutput whose weight is the number of tokens; metrics `loss`, `nll_loss`,
      `ntokens`, `nsentences`.
    """
    scored = target != pad
    ntokens = scored.sum(dtype=jnp.float32)
    if sentences is None:
        sentences = scored.any(axis=1).sum(dtype=jnp.float32)
    first = clusters.ends[0]
    head_target = target
    for i, (start, end) in enumerate(zip(clusters.ends, clusters.ends[1:], strict=False)):
        head_target = jnp.where((target >= start) & (target < end), first + i, head_target)
    total = chunked_sums(
        hidden, clusters, lambda clusters, hidden: clusters.head_logits(hidden),
        head_target, scored, smoothing=0.0, budget=config.logits_budget, accuracy=False,
    ).nll
    for i, (start, end) in enumerate(zip(clusters.ends, clusters.ends[1:], strict=False)):
        inside = scored & (target >= start) & (target < end)
        if not config.score_every_tail_word:
            inside = inside & (target - start != pad)
        total += sum_over_rows(
            functools.partial(_tail_sum, index=i, size=end - start),
            (clusters, inside.sum(axis=1).max()), clusters.tail_hidden(i, hidden),
            target - start, inside, budget=config.logits_budget,
        )
    metrics = {
        "loss": (total, ntokens),
        "nll_loss": (total, ntokens),
        "ntokens": (ntokens, jnp.float32(1)),
        "nsentences": (sentences, jnp.float32(1)),
    }
    return LossOutput(sum=total, weight=ntokens, metrics=metrics)


def _tail_sum(
    shared: tuple[Clusters, jax.Array], narrow: jax.Array, target: jax.Array, inside: jax.Array,
    *, index: int, size: int, budget: int,
) -> jax.Array:
    """Sum of -log p over the tokens that are `inside` the cluster.

    Each row's tokens are moved to its front (rows stay where they are, so nothing crosses
    devices), and columns are worked off slice by slice until no row has a token left.

    Args:
      shared: the output layer, and the most tokens that a row has inside, of all rows on all
        devices: these take the same branches.
      narrow: [B, T, D_i].
      target: [B, T] number of the word in the cluster, where `inside`.
      size: words of the cluster.
    """
    clusters, most = shared
    rows, length = target.shape
    slices = min(length, max(_SLICES, -(-rows * length * size // budget)))
    width = -(-length // slices)
    slices = -(-length // width)
    order = jnp.argsort(~inside, axis=1, stable=True)
    counts = inside.sum(axis=1)
    extra = ((0, 0), (0, slices * width - length))
    order = jnp.pad(order, extra)
    used = jnp.arange(slices * width)[None] < counts[:, None]

    def column_sum(order: jax.Array, used: jax.Array) -> jax.Array:
        taken = jnp.take_along_axis(narrow, order[..., None], axis=1)
        words = jnp.where(used, jnp.take_along_axis(target, order, axis=1), 0)
        logits = clusters.tail_logits(index, taken)
        picked = jnp.take_along_axis(logits, words[..., None], axis=-1)[..., 0]
        return jnp.where(used, jax.nn.logsumexp(logits, axis=-1) - picked, 0.0).sum()

    def body(total: jax.Array, k: jax.Array) -> tuple[jax.Array, None]:
        part = [jax.lax.dynamic_slice_in_dim(x, k * width, width, axis=1) for x in (order, used)]
        nothing = jnp.zeros((), jnp.float32)
        value = jax.lax.cond(
            k * width < most, jax.checkpoint(column_sum), lambda *_: nothing, *part
        )
        return total + value, None

    return jax.lax.scan(body, jnp.zeros((), jnp.float32), jnp.arange(slices))[0]
