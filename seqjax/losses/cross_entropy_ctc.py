"""The label smoothed cross entropy of a decoder, and beside it the CTC loss of its encoder.

Decoder states, scores of words at every frame and the target come in, sums go out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from seqjax.losses import cross_entropy
from seqjax.losses.base import Forward, LossOutput
from seqjax.losses.configs import CtcBesideConfig
from seqjax.losses.ctc import row_losses


def compute(
    forward: Forward, batch: Mapping[str, jax.Array], config: CtcBesideConfig, *,
    update: jax.Array,
) -> LossOutput:
    """Both, the second times `ctc_weight` (see `declarations.Loss.compute`).

    fairseq's targets of CTC have the final eos, and rows that no frames can say cost nothing.

    Args:
      forward: with `aux["ctc_logits"]` [B, T, V] and `encoded.mask` [B, T].

    Raises:
      ValueError: the model projects no states of its encoder to words.
    """
    output = cross_entropy.compute(forward, batch, config, update=update)
    value = jnp.float32(0)
    if config.ctc_weight > 0:
        if "ctc_logits" not in forward.aux:
            raise ValueError(f"{config.name}: this model has no CTC projection: set "
                             "config.model.ctc_weight")
        assert forward.target is not None
        value = config.ctc_weight * row_losses(
            forward.aux["ctc_logits"], forward.encoded.mask, forward.target,
            forward.target != forward.pad, zero_infinity=True).sum()
    loss, weight = output.metrics["loss"]
    metrics = {**output.metrics, "loss": (loss + value, weight), "ctc_loss": (value, weight)}
    return dataclasses.replace(output, sum=output.sum + value, metrics=metrics)
