"""The masked-unit loss: which class of labels is a frame's own?

The scores of classes come in, under the names that models of pretraining give them in
`Forward.aux`; sums go out.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from seqjax.losses.base import Forward, LossOutput
from seqjax.losses.masked_units_config import LISTS, MaskedUnitsConfig


def compute(
    forward: Forward, batch: Mapping[str, jax.Array], config: MaskedUnitsConfig, *,
    update: jax.Array,
) -> LossOutput:
    """fairseq's `hubert`, summed over frames (`Loss.compute`).

    Args:
      forward: with, in `aux`,
        logits: of each list of labels [B, T, 1 + V] scores, the own class's first.
        masked, unmasked: [B, T] bool, frames that count as one and as the other; either may be
          missing, of a model that skips them.
        features_pen: mean square of the features.

    Returns:
      LossOutput whose weight is the number of frames that the two weights let count. Metrics:
      `loss`; of list i `loss_m_i`, `correct_m_i` and `count_m_i` of masked frames, and with `u`
      of the others; `loss_features_pen`.

    Raises:
      ValueError: frames count that the model skips; more lists than metrics are declared for; as
        many weights as the model has no further losses for.
    """
    del batch, update
    aux = forward.aux
    logits = [x.astype(jnp.float32) for x in aux["logits"]]
    if len(logits) > LISTS:
        raise ValueError(f"{len(logits)} lists of labels, but the loss reports {LISTS} at most")
    loss, count = jnp.float32(0), jnp.float32(0)
    parts: dict[str, jax.Array] = {}
    metrics: dict[str, tuple[jax.Array, jax.Array]] = {}
    for letter, name, weight in (("m", "masked", config.pred_masked_weight),
                                 ("u", "unmasked", config.pred_nomask_weight)):
        frames = aux.get(name)
        if frames is None and weight > 0:
            raise ValueError(
                f"config.loss: {name} frames count {weight}, but the model skips them "
                "(config.model.skip_masked, skip_nomask)")
        if frames is None:
            continue
        number = frames.sum(dtype=jnp.float32)
        for i, scores in enumerate(logits):
            parts[f"loss_{letter}_{i}"] = _nll(scores, frames)
            metrics[f"correct_{letter}_{i}"] = (_correct(scores, frames), number)
            metrics[f"count_{letter}_{i}"] = (number, jnp.float32(1))
        if weight > 0:
            loss += weight * sum(parts[f"loss_{letter}_{i}"] for i in range(len(logits)))
            count += number
    penalty = _penalty(aux, config) * count
    if config.loss_weights is not None and config.loss_weights[0] != 0:
        loss += penalty
        parts["loss_features_pen"] = penalty
    sentences = forward.sentences
    if sentences is None:
        sentences = aux["real"].any(axis=1).sum(dtype=jnp.float32)
    one = jnp.float32(1)
    metrics |= {name: (total, count) for name, total in parts.items()}
    if "features_pen" in config.log_keys:
        metrics["features_pen"] = (jax.lax.stop_gradient(aux["features_pen"]), one)
    metrics |= {"loss": (loss, count), "ntokens": (count, one), "nsentences": (sentences, one)}
    return LossOutput(sum=loss, weight=count, metrics=metrics)


def _penalty(aux: Mapping[str, jax.Array], config: MaskedUnitsConfig) -> jax.Array:
    """The further loss, per frame."""
    weights = config.loss_weights or (0.0,)
    if len(weights) != 1:
        raise ValueError(f"config.loss.loss_weights: {len(weights)} numbers, but this model has "
                         "one further loss, features_pen")
    return weights[0] * aux["features_pen"]


def _nll(scores: jax.Array, frames: jax.Array) -> jax.Array:
    """Sum over `frames` [B, T] of the cross entropy of scores [B, T, 1 + V]."""
    each = jax.nn.logsumexp(scores, axis=-1) - scores[..., 0]
    return jnp.where(frames, each, 0).sum()


def _correct(scores: jax.Array, frames: jax.Array) -> jax.Array:
    """Frames whose own class has the highest score."""
    return (frames & (scores.argmax(axis=-1) == 0)).sum(dtype=jnp.float32)
