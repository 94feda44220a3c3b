"""The contrastive loss of masked frames: which of some candidates is a frame's true target?

The scores of candidates come in, under the names that models of pretraining give them in
`Forward.aux`; sums go out.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from seqjax.losses.base import Forward, LossOutput
from seqjax.losses.wav2vec_config import Wav2VecConfig


def compute(
    forward: Forward, batch: Mapping[str, jax.Array], config: Wav2VecConfig, *,
    update: jax.Array,
) -> LossOutput:
    """fairseq's `wav2vec` with `infonce`, summed over masked frames (`Loss.compute`).

    Args:
      forward: with, in `aux`,
        logits: [B, M, 1 + K] scores, the true target's first.
        masked: [B, M] bool, which of these frames count.
        features_pen: mean square of the features.
        prob_perplexity, num_vars: of a model with a codebook, how many of how many entries
          are in use.
        and what `config.log_keys` name.

    Returns:
      LossOutput whose weight is the number of masked frames. Metrics: `loss`; `loss_0` and on,
      the terms of it, if there are several; `accuracy`; those of `log_keys`.

    Raises:
      ValueError: as many weights as the model has no further losses for, or a log key that it
        does not have.
    """
    del batch, update
    aux = forward.aux
    logits, masked = aux["logits"].astype(jnp.float32), aux["masked"]
    count = masked.sum(dtype=jnp.float32)
    each = jax.nn.logsumexp(logits, axis=-1) - logits[..., 0]
    terms = [jnp.where(masked, each, 0).sum()]
    terms += [term * count for term in _weighted(aux, config.loss_weights)]
    loss = sum(terms[1:], start=terms[0])
    metrics = {"loss": (loss, count)}
    if len(terms) > 1:
        metrics |= {f"loss_{i}": (term, count) for i, term in enumerate(terms)}
    metrics["accuracy"] = (_correct(logits, masked), count)
    one = jnp.float32(1)
    for key in config.log_keys:
        if key not in aux:
            raise ValueError(f"config.loss.log_keys: this model says no {key}")
        metrics[key] = (jax.lax.stop_gradient(aux[key]).astype(jnp.float32), one)
    sentences = forward.sentences
    if sentences is None:
        sentences = masked.any(axis=1).sum(dtype=jnp.float32)
    metrics |= {"ntokens": (count, one), "nsentences": (sentences, one)}
    return LossOutput(sum=loss, weight=count, metrics=metrics)


def _weighted(
    aux: Mapping[str, jax.Array], weights: tuple[float, ...] | None
) -> list[jax.Array]:
    """The further losses, per masked frame; those with a weight of 0 are left out, as fairseq
    does, and with them their number in the report."""
    if weights is None:
        return []
    extra = []
    if "prob_perplexity" in aux:
        entries = aux["num_vars"]
        extra.append((entries - aux["prob_perplexity"]) / entries)
    extra.append(aux["features_pen"])
    if len(weights) == 1:
        weights = weights * len(extra)
    if len(weights) != len(extra):
        raise ValueError(
            f"config.loss.loss_weights: {len(weights)} numbers, but this model has "
            f"{len(extra)} further losses")
    return [w * term for w, term in zip(weights, extra, strict=True) if w != 0]


def _correct(logits: jax.Array, masked: jax.Array) -> jax.Array:
    """Frames whose true target has the highest score; not where all scores are the same."""
    best, worst = logits.argmax(axis=-1) == 0, logits.argmin(axis=-1) == 0
    return (masked & best & ~worst).sum(dtype=jnp.float32)
