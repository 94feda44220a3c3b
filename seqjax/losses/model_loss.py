"""The loss of models that say their losses themselves.

Sums by name come in, in `Forward.aux`; their weighted sum goes out.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from seqjax.losses.base import Forward, LossOutput
from seqjax.losses.model_config import ModelLossConfig


def compute(
    forward: Forward, batch: Mapping[str, jax.Array], config: ModelLossConfig, *,
    update: jax.Array,
) -> LossOutput:
    """fairseq's `model` (`Loss.compute`).

    Args:
      forward: with, in `aux`,
        losses: sums by name.
        sample_size: what they are divided by.
        and what `config.log_keys` name.

    Returns:
      LossOutput whose weight is `sample_size`. Metrics: `loss`, in natural logarithm as it is, and
      those of `log_keys`.

    Raises:
      ValueError: a weight for a loss that the model has not, or a log key that it does not say.
    """
    del batch, update
    aux = forward.aux
    losses = aux["losses"]
    weights = dict(config.loss_weights)
    strange = sorted(weights.keys() - losses.keys())
    if strange:
        raise ValueError(f"config.loss.loss_weights: this model has no {', '.join(strange)}; its "
                         f"losses are {', '.join(losses)}")
    total = jnp.float32(0)
    for name, value in losses.items():
        total += weights.get(name, 1.0) * value
    size, one = aux["sample_size"], jnp.float32(1)
    metrics = {"loss": (total, size)}
    for key in config.log_keys:
        if key not in aux:
            raise ValueError(f"config.loss.log_keys: this model says no {key}")
        metrics[key] = (jax.lax.stop_gradient(aux[key]).astype(jnp.float32), one)
    sentences = forward.sentences
    if sentences is None:
        sentences = aux["real"].any(axis=1).sum(dtype=jnp.float32)
    metrics |= {"ntokens": (size, one), "nsentences": (sentences, one)}
    return LossOutput(sum=total, weight=size, metrics=metrics)
