"""Masked language modelling: the negative log-likelihood of the tokens that were masked.

From states at every position and targets at some of them to one `LossOutput`. Only what was
masked is projected onto the vocabulary, as in fairseq, with shapes that are known before: each
row's masked positions are moved to its front, and as many columns are projected, an eighth, a
quarter, a half of the row or all of it, as hold those of the fullest row. A fixed number of
places would have to be either too large or too small for some batch; chunks that are skipped
would add up the gradient of the whole output layer once a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from seqjax.losses.base import Forward, LossOutput, Project, Projection
from seqjax.losses.configs import MaskedLMConfig
from seqjax.losses.cross_entropy import chunked_sums

_SHARES = (8, 4, 2, 1)
"""Of a row's positions, one in so many is projected."""


def compute(
    forward: Forward, batch: Mapping[str, jax.Array], config: MaskedLMConfig, *,
    update: jax.Array,
) -> LossOutput:
    """The loss of a forward pass over masked sentences (see `declarations.Loss.compute`).

    Raises:
      ValueError: the task gives no states, no target or not what was read.
    """
    del batch, update
    features, target = forward.tokens()
    if forward.encoded is None:
        raise ValueError("masked_lm counts the tokens that were read, and the task's forward pass "
                         "does not give what the encoder said")
    return masked_lm(
        features.hidden, features.projection, features.project, target, config=config,
        pad=forward.pad, read=forward.encoded.mask, sentences=forward.sentences)


def masked_lm(
    hidden: jax.Array, projection: Projection, project: Project,
    target: jax.Array, *, config: MaskedLMConfig, pad: int, read: jax.Array,
    sentences: jax.Array | None = None,
) -> LossOutput:
    """fairseq's `masked_lm`, summed.

    Args:
      hidden: [B, S, D] states in front of the output layer.
      projection, project: give float32 logits [..., V] from states.
      target: [B, S] what stood where a token was masked; `pad` elsewhere.
      read: [B, S] bool, tokens that the model read: padding is none.
      sentences: float32 scalar, number of sentences (default: rows that hold a token).

    Returns:
      LossOutput whose weight is the number of masked tokens (of a batch without any, sum and
      weight are 0); metrics `loss`, `ntokens`, `nsentences`.
    """
    masked = target != pad
    weight = masked.sum(dtype=jnp.float32)
    if sentences is None:
        sentences = read.any(axis=1).sum(dtype=jnp.float32)
    order = jnp.argsort(~masked, axis=1, stable=True)
    counts = masked.sum(axis=1)

    def first(columns: int) -> Callable[[], jax.Array]:
        """The sum where no row has more masked tokens than `columns`."""

        def total() -> jax.Array:
            taken = order[:, :columns]
            return chunked_sums(
                jnp.take_along_axis(hidden, taken[..., None], axis=1), projection, project,
                jnp.take_along_axis(target, taken, axis=1),
                jnp.arange(columns)[None] < counts[:, None],
                smoothing=0.0, budget=config.logits_budget, accuracy=False,
            ).loss

        return total

    widths = sorted({-(-target.shape[1] // share) for share in _SHARES})
    # None keeps its logits: what one keeps for the backward pass, all others would give as zeros.
    total = jax.lax.switch(
        jnp.searchsorted(jnp.asarray(widths), counts.max()),
        [jax.checkpoint(first(width)) for width in widths])
    metrics = {
        "loss": (total, weight),
        "ntokens": (read.sum(dtype=jnp.float32), jnp.float32(1)),
        "nsentences": (sentences, jnp.float32(1)),
    }
    return LossOutput(sum=total, weight=weight, metrics=metrics)
