"""How probable given targets are: teacher-forced log-probabilities per token.

Knows models by their protocol; sources and targets are id sequences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.generation.finite import check_scores
from seqjax.generation.hypothesis import Hypothesis, Ids
from seqjax.generation.processors import log_sum_exp, mean_log_probs
from seqjax.generation.teacher_forcing import pair_batches, previous_tokens
from seqjax.models.protocol import EncoderDecoder, Features, Params, encode_tokens

LOGITS_BUDGET = 16 * 2**20
"""Elements of logits that exist at a time."""


def token_log_probs(
    features: Features, targets: jax.Array, *, budget: int = LOGITS_BUDGET,
) -> jax.Array:
    """Log-probabilities [B, T] float32 of `targets` [B, T], without log-probabilities of
    the whole vocabulary; at most about `budget` elements of logits exist at a time, on all
    devices together."""
    b, t, d = features.hidden.shape
    vocabulary = jax.eval_shape(features.logits).shape[-1]
    if jax.typeof(features.hidden).sharding.mesh.size > 1:
        return _by_columns(features, targets, width=max(1, budget // (b * vocabulary)))
    pieces = max(1, min(b * t, math.ceil(b * t * vocabulary / budget)))
    rows = math.ceil(b * t / pieces)
    missing = rows * pieces - b * t
    hidden = jnp.pad(features.hidden.reshape(b * t, d), ((0, missing), (0, 0)))
    wanted = jnp.pad(targets.reshape(b * t), (0, missing))

    found = jax.lax.map(lambda x: _chosen(features, *x),
                        (hidden.reshape(pieces, rows, d), wanted.reshape(pieces, rows)))
    return found.reshape(-1)[:b * t].reshape(b, t)


def _by_columns(features: Features, targets: jax.Array, *, width: int) -> jax.Array:
    """As `token_log_probs`, `width` positions of all rows at a time: rows, which may be split
    over devices, stay where they are."""
    b, t, d = features.hidden.shape
    pieces = math.ceil(t / width)
    width = math.ceil(t / pieces)
    extra = (0, pieces * width - t)
    hidden = jnp.pad(features.hidden, ((0, 0), extra, (0, 0))).reshape(b, pieces, width, d)
    wanted = jnp.pad(targets, ((0, 0), extra)).reshape(b, pieces, width)
    found = jax.lax.map(lambda x: _chosen(features, *x),
                        (hidden.swapaxes(0, 1), wanted.swapaxes(0, 1)))
    return found.swapaxes(0, 1).reshape(b, -1)[:, :t]


def _chosen(features: Features, hidden: jax.Array, targets: jax.Array) -> jax.Array:
    """Log-probabilities [...] of `targets` [...] after states `hidden` [..., D]."""
    logits = features.project(features.projection, hidden)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return chosen - log_sum_exp(logits, logits.max(-1))


class Scorer:
    """Scores pairs with one model, or with several whose probabilities are averaged
    (fairseq's `SequenceScorer`)."""

    def __init__(self, model: EncoderDecoder | Sequence[EncoderDecoder], *,
                 max_tokens: int = 12000, batch_size: int = 64):
        """
        Args:
          model: one model or several of the same vocabularies.
          max_tokens: tokens of a batch on its longer side, padding included.
          batch_size: pairs of a batch at most.
        """
        self.models = tuple(model) if isinstance(model, Sequence) else (model,)
        self.max_tokens, self.batch_size = max_tokens, batch_size
        self._log_probs = jax.jit(self._batch)

    def score(
        self, params: Params | Sequence[Params], sources: Sequence[Ids], targets: Sequence[Ids],
        *, starts: Sequence[int] | None = None,
    ) -> list[Hypothesis]:
        """A `Hypothesis` per pair, in order: `positional_scores` are the log-probabilities of
        the target's tokens, `score` is their mean.

        Args:
          params: of the model, or a sequence of one per model.
          sources: id sequences with their final eos.
          targets: id sequences with their final eos.
          starts: what decoding of each target begins with (None: the model's eos).

        Raises:
          ValueError: an empty or over-long side of a pair, by its number from 0.
          finite.ScoreError: a model that computes NaN or infinite values.
        """
        params = tuple(params) if isinstance(params, (list, tuple)) else (params,)
        sources = [np.asarray(s, np.int32) for s in sources]
        targets = [np.asarray(t, np.int32) for t in targets]
        out: list[Hypothesis | None] = [None] * len(sources)
        for batch in pair_batches(self.models, sources, targets, max_tokens=self.max_tokens,
                                  batch_size=self.batch_size, starts=starts):
            found = self._log_probs(params, batch.source, batch.target, batch.start)
            for i, scores in zip(batch.indices, np.asarray(found), strict=False):
                kept = scores[:len(targets[i])]
                check_scores(kept, f"pair {i}")
                out[i] = Hypothesis(
                    tokens=targets[i], score=float(kept.mean(dtype=np.float64)),
                    positional_scores=kept.copy())
        return [h for h in out if h is not None]

    def _batch(
        self, params: Sequence[Params], source: jax.Array, target: jax.Array, start: jax.Array,
    ) -> jax.Array:
        """[B, T] float32."""
        previous = previous_tokens(target, pad=self.models[0].pad, start=start)
        return mean_log_probs([
            token_log_probs(model.features(p, previous, encode_tokens(model, p, source)), target)
            for model, p in zip(self.models, params, strict=True)])
