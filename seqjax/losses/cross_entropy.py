"""Cross entropy with and without label smoothing, from the log-sum-exp.

Log-probabilities are never built. With a large vocabulary the logits exist for a chunk of tokens at
a time, and their gradient is made with them; where the output layer cannot be taken apart, they
are computed again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from seqjax.losses.base import Forward, LossOutput, Project, Projection, WordProject
from seqjax.losses.configs import CrossEntropyConfig, LabelSmoothedCrossEntropyConfig
from seqjax.losses.rows import OutputLayer, project_rows, sum_over_rows
from seqjax.losses.token_chunks import Chunks, blocks_for, sums_of_tokens, token_sums
from seqjax.losses.vocabulary_blocks import words_of


@struct.dataclass
class _Sums:
    """Sums over tokens, float32 scalars."""

    loss: jax.Array
    nll: jax.Array
    correct: jax.Array


def compute(
    forward: Forward, batch: Mapping[str, jax.Array],
    config: CrossEntropyConfig | LabelSmoothedCrossEntropyConfig, *, update: jax.Array,
) -> LossOutput:
    """The loss of a forward pass over predicted tokens (see `declarations.Loss.compute`)."""
    del batch, update
    features, target = forward.tokens()
    return cross_entropy(
        features.hidden, features.projection, features.project, target, config=config,
        pad=forward.pad, positions=forward.positions, sentences=forward.sentences,
    )


def cross_entropy(
    hidden: jax.Array,
    projection: Projection,
    project: Project,
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
    hidden: jax.Array, projection: Projection, project: Project, target: jax.Array,
    scored: jax.Array, *, smoothing: float, budget: int, accuracy: bool,
) -> _Sums:
    """Sums over tokens, in as few chunks as `budget` logits allow.

    Args:
      hidden: [B, T, D].
      projection, project: as for `cross_entropy`; of one that has a `vocabulary_axis` no logits are
        made twice.
      target: [B, T] ids of outputs.
      scored: [B, T] bool.
      budget: elements of logits that may exist at once, on all devices together.

    Returns:
      Float32 scalars `loss`, `nll` and (0 unless `accuracy`) `correct`.
    """

    vocabulary = jax.eval_shape(project, projection, hidden[:1, :1]).shape[-1]
    how: Any = {"vocabulary": vocabulary, "smoothing": smoothing, "accuracy": accuracy}
    if isinstance(project, WordProject) and target.size * vocabulary > budget:
        return _sums_by_words(
            hidden, projection, project, target, scored, budget=budget, **how)

    def sums(projection: Projection, *tokens: jax.Array, budget: int) -> _Sums:
        hidden, target, scored = tokens
        return _sums_by_chunk(
            hidden.reshape(-1, hidden.shape[-1]), projection, project, target.reshape(-1),
            scored.reshape(-1), budget=budget, **how,
        )

    return sum_over_rows(sums, projection, hidden, target, scored, budget=budget)


def _sums_by_words(
    hidden: jax.Array, projection: Projection, project: WordProject, target: jax.Array,
    scored: jax.Array, *, budget: int, vocabulary: int, **how: Any,
) -> _Sums:
    """`chunked_sums` for an output layer that can be taken apart: see `token_chunks`. Devices that
    have parts of its words do their part of every token's."""

    def own(layer: OutputLayer, projection: Projection, *tokens: jax.Array) -> _Sums:
        hidden, target, scored = tokens
        projection = layer.gathered(projection)
        words = words_of(projection, layer.axis)
        chunks = Chunks(
            blocks=blocks_for(project, width=hidden.shape[-1]), vocabulary=vocabulary,
            tokens=max(1, budget // layer.devices // words), words_over=layer.words_over, **how)
        found = sums_of_tokens(
            chunks, projection, hidden.reshape(-1, hidden.shape[-1]),
            target.reshape(-1) - layer.part * words, scored.reshape(-1))
        return _Sums(*(x[None] for x in found))

    parts = project_rows(
        own, projection, hidden, target, scored, vocabulary_axis=project.vocabulary_axis)
    return jax.tree.map(jnp.sum, parts)


def _sums_by_chunk(
    hidden: jax.Array, projection: Projection, project: Project, target: jax.Array,
    scored: jax.Array,
    *, vocabulary: int, smoothing: float, budget: int, accuracy: bool,
) -> _Sums:
    """`chunked_sums` a chunk of tokens at a time, for an output layer of any kind.

    Args:
      hidden: [N, D]; target and scored: [N].
    """
    tokens = hidden.shape[0]

    def sums(hidden: jax.Array, target: jax.Array, scored: jax.Array) -> _Sums:
        found, _ = token_sums(
            project(projection, hidden), target, scored, vocabulary=vocabulary,
            smoothing=smoothing, accuracy=accuracy)
        return _Sums(*found)

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
