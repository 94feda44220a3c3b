"""Scores that are not numbers: what damaged or overflowing weights make, said by sentence.

Search treats a hypothesis without a finite score as dead, so a model that computes nothing
but NaN would end in empty outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.generation.hypothesis import Hypothesis
from seqjax.models.protocol import Params, Read, Stepper, Weights, encode_tokens


class ScoreError(ValueError):
    """A score that is not finite; the message names the sentence."""


WHY = ("the model computes values that are not finite; its weights are damaged, or overflow in "
       "this dtype (try float32)")


def check_scores(scores: np.ndarray, what: str) -> None:
    """Refuses log-probabilities that are not finite.

    Args:
      scores: any shape.
      what: whose they are: `source 3`.
    """
    if not np.isfinite(scores).all():
        raise ScoreError(f"{what}: its scores are not finite ({_first(scores)}): {WHY}")


def _first(scores: np.ndarray) -> float:
    flat = np.ravel(scores)
    return float(flat[~np.isfinite(flat)][0])


def is_nothing(hypotheses: Sequence[Hypothesis]) -> bool:
    """Whether search found nothing of finite score: -inf, and no NaN, and nothing else."""
    return all(h.score == -math.inf and not np.isnan(h.positional_scores).any()
               for h in hypotheses)


def check_hypotheses(hypotheses: Sequence[Hypothesis], what: str) -> None:
    """Refuses scores that no search can mean: NaN, and infinite ones but -inf."""
    for h in hypotheses:
        if math.isnan(h.score) or h.score == math.inf or np.isnan(h.positional_scores).any():
            raise ScoreError(f"{what}: its score is {h.score}: {WHY}")


class FirstStep:
    """Tells whether models have anything finite to say of a source, where search found
    nothing. It is rarely asked, so it is compiled then only."""

    def __init__(self, models: Sequence[Stepper]):
        self.models = tuple(models)
        self._compiled = jax.jit(self._finite)

    def is_finite(self, params: Sequence[Params], weights: Sequence[Weights], source: Read,
                  *, bos: int) -> bool:
        """Whether the log-probabilities of a first token are numbers.

        Args:
          source: of one row.
          bos: the token before the first.
        """
        return bool(self._compiled(tuple(params), tuple(weights), source, jnp.int32(bos)))

    def _finite(
        self, params: Params, weights: Weights, source: Read, bos: jax.Array
    ) -> jax.Array:
        good = jnp.bool_(True)
        for model, p, w in zip(self.models, params, weights, strict=True):
            cache = model.start(
                w, encode_tokens(model, p, source), rows=1, beam=1, capacity=1)
            features, _ = model.step(
                w, bos.reshape(1, 1), cache, position=jnp.zeros((), jnp.int32),
                ancestors=jnp.zeros((1, 1, 1), jnp.int32))
            good &= jnp.isfinite(features.logits()).all()
        return good
