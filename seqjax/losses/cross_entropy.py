"""Cross entropy with and without label smoothing, from the log-sum-exp.

Log-probabilities are never built; with a large vocabulary the logits exist for a chunk
of tokens at a time, and are computed again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from seqjax.losses.base import LossOutput
from seqjax.losses.configs import CrossEntropyConfig, LabelSmoothedCrossEntropyConfig
from seqjax.losses.rows import sum_over_rows


@struct.dataclass
class _Sums:
    """Sums over tokens, float32 scalars."""

    loss: jax.Array
    nll: jax.Array
    correct: jax.Array


def cross_entropy(
    hidden: jax.Array,
    projection: Any,
    project: Callable[[Any, jax.Array], jax.Array],
    target: jax.Array,
    *,
    config: CrossEntropyConfig | LabelSmoothedCrossEntropyConfig,
    pad: int,
    positions: jax.Array | None = None,
    sentences: jax.Array | None = None,
) -> LossOutput:
    """fairseq's (label smoothed) cross entropy, summed.

    With V entries and e' = e / (V - 1):
    loss = (1 - e - e') nll + e' sum_v -log p_v, over all v, padding included.

    Args:
      hidden: [B, T, D] decoder states.
      projection, project: give float32 logits [..., V] from hidden states.
      target: [B, T]; `pad` is not scored.
      positions: [B, T] 0-based position in its sentence, needed with
        `ignore_prefix_size` when sentences share rows.
      sentences: float32 scalar, number of sentences (default: rows that hold a token).

    Returns:
      LossOutput whose weight is the number of scored tokens; metrics `loss`, `nll_loss`,
      `ntokens`, `nsentences`, and `accuracy` when asked for.
    """
    scored = target != pad
    ntokens = scored.sum(dtype=jnp.float32)
    if sentences is None:
        sentences = scored.any(axis=1).sum(dtype=jnp.float32)
    if config.ignored_prefix:
        index = jnp.arange(target.shape[1])[None] if positions is None else positions
        scored = scored & (index >= config.ignored_prefix)
    sums = chunked_sums(
        hidden, projection, project, target, scored, smoothing=config.smoothing,
        budget=config.logits_budget, accuracy=config.report_accuracy,
    )
    metrics = {
        "loss": (sums.loss, ntokens),
        "nll_loss": (sums.nll, ntokens),
        "ntokens": (ntokens, jnp.float32(1)),
        "nsentences": (sentences, jnp.float32(1)),
    }
    if config.report_accuracy:
        metrics["accuracy"] = (sums.correct, scored.sum(dtype=jnp.float32))
    return LossOutput(sum=sums.loss, weight=ntokens, metrics=metrics)


def chunked_sums(
    hidden: jax.Array, projection: Any, project: Callable, target: jax.Array,
    scored: jax.Array, *, smoothing: float, budget: int, accuracy: bool,
) -> _Sums:
    """Sums over tokens, in as few chunks as `budget` logits allow.

    Args:
      hidden: [B, T, D].
      projection, project: as for `cross_entropy`.
      target: [B, T] ids of outputs.
      scored: [B, T] bool.
      budget: elements of logits that may exist at once, on all devices together.

    Returns:
      Float32 scalars `loss`, `nll` and (0 unless `accuracy`) `correct`.
    """

    def sums(projection: Any, *tokens: jax.Array, budget: int) -> _Sums:
        hidden, target, scored = tokens
        return _flat_sums(
            hidden.reshape(-1, hidden.shape[-1]), projection, project, target.reshape(-1),
            scored.reshape(-1), smoothing=smoothing, budget=budget, accuracy=accuracy,
        )

    return sum_over_rows(sums, projection, hidden, target, scored, budget=budget)


def _flat_sums(
    hidden: jax.Array, projection: Any, project: Callable, target: jax.Array,
    scored: jax.Array, *, smoothing: float, budget: int, accuracy: bool,
) -> _Sums:
    """`chunked_sums` of tokens in one line: hidden [N, D], target and scored [N]."""
    tokens = hidden.shape[0]
    vocabulary = jax.eval_shape(project, projection, hidden[:1]).shape[-1]

    def sums(hidden: jax.Array, target: jax.Array, scored: jax.Array) -> _Sums:
        logits = project(projection, hidden)
        return _token_sums(logits, target, scored, smoothing=smoothing, accuracy=accuracy)

    chunks = -(-tokens * vocabulary // budget)
    if chunks <= 1:
        return sums(hidden, target, scored)
    size = -(-tokens // chunks)
    extra = chunks * size - tokens
    parts = (
        jnp.pad(hidden, ((0, extra), (0, 0))).reshape(chunks, size, -1),
        jnp.pad(target, (0, extra)).reshape(chunks, size),
        jnp.pad(scored, (0, extra)).reshape(chunks, size),
    )

    def body(total: _Sums, part: tuple) -> tuple[_Sums, None]:
        return jax.tree.map(jnp.add, total, jax.checkpoint(sums)(*part)), None

    zero = jnp.zeros((), jnp.float32)
    return jax.lax.scan(body, _Sums(loss=zero, nll=zero, correct=zero), parts)[0]


def _token_sums(
    logits: jax.Array, target: jax.Array, scored: jax.Array, *, smoothing: float, accuracy: bool
) -> _Sums:
    """Sums over tokens from logits [N, V] float32."""
    lse = jax.nn.logsumexp(logits, axis=-1)
    picked = jnp.take_along_axis(logits, target[:, None], axis=-1)[:, 0]
    nll = jnp.where(scored, lse - picked, 0.0).sum()
    loss = nll
    if smoothing:
        vocabulary = logits.shape[-1]
        each = smoothing / (vocabulary - 1)
        smooth = jnp.where(scored, vocabulary * lse - logits.sum(-1), 0.0).sum()
        loss = (1.0 - smoothing - each) * nll + each * smooth
    correct = jnp.zeros((), jnp.float32)
    if accuracy:
        correct = (scored & (logits.argmax(-1) == target)).sum(dtype=jnp.float32)
    return _Sums(loss=loss, nll=nll, correct=correct)
