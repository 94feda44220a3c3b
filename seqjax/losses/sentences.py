"""Losses of whole sentences: logits of classes or of candidates, and labels, in; a sum over the
sentences out, whose weight is their number (fairseq's `sentence_prediction` and
`sentence_ranking`)."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from seqjax.losses.base import Forward, LossOutput
from seqjax.losses.sentences_config import SentencePredictionLossConfig, SentenceRankingLossConfig


def prediction(
    forward: Forward, batch: Mapping[str, jax.Array], config: SentencePredictionLossConfig, *,
    update: jax.Array,
) -> LossOutput:
    """Cross entropy of the classes, or the squared error of a regression's values.

    Raises:
      ValueError: the task gives no logits of sentences, or the batch no labels.
    """
    del update
    logits, real, tokens = _parts(forward)
    labels = _labels(batch)
    if not config.regression_target:
        return classified(logits, labels, real=real, tokens=tokens)
    error = jnp.where(real[:, None], jnp.square(logits - labels.astype(jnp.float32)), 0.0).sum()
    count = real.sum(dtype=jnp.float32) * logits.shape[1]
    return LossOutput(sum=error, weight=count, metrics=_metrics(error, count, tokens))


def ranking(
    forward: Forward, batch: Mapping[str, jax.Array], config: SentenceRankingLossConfig, *,
    update: jax.Array,
) -> LossOutput:
    """Cross entropy of the right candidate among all, by their scores.

    Raises:
      ValueError: the task gives no scores, or the batch no labels.
    """
    del update, config
    logits, real, tokens = _parts(forward)
    return classified(logits, _labels(batch), real=real, tokens=tokens)


def classified(
    logits: jax.Array, labels: jax.Array, *, real: jax.Array, tokens: jax.Array
) -> LossOutput:
    """Cross entropy, summed.

    Args:
      logits: [B, C] float32.
      labels: [B] int32.
      real: [B] bool, rows that hold a sentence.
      tokens: float32 scalar, those that were read.
    """
    lprobs = jax.nn.log_softmax(logits)
    nll = -jnp.take_along_axis(lprobs, labels[:, None], axis=1)[:, 0]
    nll = jnp.where(real, nll, 0.0).sum()
    count = real.sum(dtype=jnp.float32)
    correct = (real & (logits.argmax(axis=1) == labels)).sum(dtype=jnp.float32)
    return LossOutput(sum=nll, weight=count, metrics={
        **_metrics(nll, count, tokens), "accuracy": (correct, count)})


def _metrics(
    total: jax.Array, count: jax.Array, tokens: jax.Array
) -> dict[str, tuple[jax.Array, jax.Array]]:
    one = jnp.float32(1)
    return {"loss": (total, count), "nll_loss": (total, tokens), "ntokens": (tokens, one),
            "nsentences": (count, one)}


def _parts(forward: Forward) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logits [B, C], which rows hold a sentence [B], and the number of tokens."""
    if not {"logits", "real", "tokens"} <= forward.aux.keys():
        raise ValueError("this loss is about whole sentences, and the task's forward pass gives no "
                         "logits of them")
    return forward.aux["logits"], forward.aux["real"], forward.aux["tokens"]


def _labels(batch: Mapping[str, jax.Array]) -> jax.Array:
    if "labels" not in batch:
        raise ValueError("the data have no labels to compare with")
    return batch["labels"]
