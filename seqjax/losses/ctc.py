"""The loss over alignments (CTC, Graves et al. 2006): how likely are the symbols of a row, whatever
frames say them?

Scores of symbols at every frame and target symbols come in, sums go out.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from seqjax.losses.base import Forward, LossOutput
from seqjax.losses.ctc_config import CtcConfig

BLANK = 0
"""fairseq's: `<s>`."""
EOS = 2
NOTHING = -1e30
"""Stands for the logarithm of 0. optax's own, -1e5, is the cost of an unlikely long row."""


def compute(
    forward: Forward, batch: Mapping[str, jax.Array], config: CtcConfig, *, update: jax.Array,
) -> LossOutput:
    """fairseq's `ctc`, summed over rows (`Loss.compute`).

    Args:
      forward: with `features` of every frame, `encoded.mask` [B, T], which frames are real, and
        `target` [B, L], whose padding and eos are no symbols.

    Returns:
      LossOutput whose weight is the number of target symbols. Metrics: `loss`, `nll_loss`.
    """
    del batch, update
    states, target = forward.tokens()
    logits = states.project(states.projection, states.hidden)
    symbols = (target != forward.pad) & (target != EOS)
    target, symbols = _in_front(target, symbols)
    each = row_losses(logits, forward.encoded.mask, target, symbols,
                      zero_infinity=config.zero_infinity)
    loss, count = each.sum(), symbols.sum(dtype=jnp.float32)
    sentences = forward.sentences
    if sentences is None:
        sentences = forward.encoded.mask.any(axis=1).sum(dtype=jnp.float32)
    one = jnp.float32(1)
    return LossOutput(sum=loss, weight=count, metrics={
        "loss": (loss, count), "nll_loss": (loss, count),
        "ntokens": (count, one), "nsentences": (sentences, one)})


def row_losses(
    logits: jax.Array, frames: jax.Array, target: jax.Array, symbols: jax.Array, *,
    zero_infinity: bool, blank: int = BLANK,
) -> jax.Array:
    """-log p of each row's symbols, float32 [B].

    Args:
      logits: [B, T, V].
      frames: [B, T] bool, real ones, in front of padding.
      target: [B, L] ids, no blanks among the symbols.
      symbols: [B, L] bool, which of these are there, in front of padding.
      zero_infinity: impossible rows cost 0 and have no gradient; else theirs is infinite and
        their gradient NaN, as torch's.
    """
    possible = _needed(target, symbols) <= frames.sum(axis=1)
    # Real rows alone are computed with: what an impossible one gives is large, but finite.
    target = jnp.where(symbols, target, blank)
    seen = frames & (possible[:, None] | (jnp.arange(frames.shape[1]) == 0))
    kept = symbols & possible[:, None]
    each = optax.ctc_loss(
        logits.astype(jnp.float32), (~seen).astype(jnp.float32), target,
        (~kept).astype(jnp.float32), blank_id=blank, log_epsilon=NOTHING)
    # A row that is all padding has no frame that could cost anything.
    each = jnp.where(possible & frames.any(axis=1), each, 0)
    if zero_infinity:
        return each
    # Infinite, with a gradient that is no number: the update is refused, as fairseq's.
    return each + jnp.where(possible, 0.0, jnp.inf) * (1 + 0 * logits.sum(axis=(1, 2)))


def _needed(target: jax.Array, symbols: jax.Array) -> jax.Array:
    """[B] frames that a row of symbols needs at least: one for each, and one for the blank
    between two that are the same."""
    repeated = (target[:, 1:] == target[:, :-1]) & symbols[:, 1:]
    return symbols.sum(axis=1) + repeated.sum(axis=1)


def _in_front(target: jax.Array, symbols: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The same symbols in their order, none of what is no symbol between them."""
    order = jnp.argsort(~symbols, axis=1, stable=True)
    return (jnp.take_along_axis(target, order, axis=1),
            jnp.take_along_axis(symbols, order, axis=1))


def frame_log_probs(logits: jax.Array, frames: jax.Array, *, blank: int = BLANK) -> jax.Array:
    """Natural log-probabilities float32 [B, T, V]; a padded frame says blank, with certainty, as
    fairseq's `wav2vec_ctc` has it, in the loss as in decoding."""
    lprobs = jax.nn.log_softmax(logits.astype(jnp.float32))
    padded = jnp.where(jnp.arange(logits.shape[-1]) == blank, 0.0, -jnp.inf)
    return jnp.where(frames[..., None], lprobs, padded)
