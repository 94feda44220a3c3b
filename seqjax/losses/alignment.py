"""How far attention is from given word alignments (Garg et al. 2019).

Alignments are pairs of positions, padded with -1 to a static number a row; attention is
whatever the model calls its alignment.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from seqjax.losses import cross_entropy
from seqjax.losses.base import Forward, LossOutput
from seqjax.losses.configs import AlignmentLossConfig
from seqjax.losses.rows import sum_over_rows


def compute(
    forward: Forward, batch: Mapping[str, jax.Array], config: AlignmentLossConfig, *,
    update: jax.Array,
) -> LossOutput:
    """The label smoothed cross entropy of a forward pass, with the alignment loss where the
    batch has alignments (see `declarations.Loss.compute`).

    Raises:
      ValueError: it has, but the model gives no attention to the source.
    """
    output = cross_entropy.compute(forward, batch, config, update=update)
    if "aligned_source" not in batch:
        return output
    if forward.attention is None:
        raise ValueError(
            f"{config.name}: this model has no attention to the source to be taught (of a "
            "transformer_align, config.model.alignment_layer must be one of its layers)")
    return with_alignment(output, forward.attention, batch["aligned_source"],
                          batch["aligned_target"], config=config)


def alignment_loss(
    attention: jax.Array, aligned_source: jax.Array, aligned_target: jax.Array
) -> jax.Array:
    """fairseq's alignment loss, summed: for every aligned target position the mean of
    -log p over the source positions that it is aligned with.

    Args:
      attention: [B, T, S] float32; rows sum to 1.
      aligned_source, aligned_target: [B, A] positions of each pair, -1 where there is none.
    """
    return sum_over_rows(_row_sums, (), attention, aligned_source, aligned_target, budget=1)


def _row_sums(
    shared: tuple, attention: jax.Array, aligned_source: jax.Array, aligned_target: jax.Array, *,
    budget: int,
) -> jax.Array:
    del shared, budget  # Nothing here grows with the vocabulary.
    known = aligned_target >= 0
    row = jnp.arange(attention.shape[0])[:, None]
    target, source = jnp.maximum(aligned_target, 0), jnp.maximum(aligned_source, 0)
    counts = jnp.zeros(attention.shape[:2]).at[row, target].add(known.astype(jnp.float32))
    # Probabilities that are no more than rounding must not make the loss infinite.
    tiny = jnp.finfo(jnp.float32).tiny
    probs = jnp.where(known, jnp.maximum(attention[row, target, source], tiny), 1.0)
    return -(jnp.log(probs) / jnp.maximum(counts[row, target], 1.0)).sum()


def with_alignment(
    output: LossOutput, attention: jax.Array, aligned_source: jax.Array,
    aligned_target: jax.Array, *, config: AlignmentLossConfig,
) -> LossOutput:
    """`output` of the cross entropy with the alignment loss added to what is minimised.

    As in fairseq the metric `loss` stays the cross entropy's; `alignment_loss` is its own.

    Args:
      attention, aligned_source, aligned_target: as for `alignment_loss`.
    """
    value = alignment_loss(attention, aligned_source, aligned_target)
    metrics = {**output.metrics, "alignment_loss": (value, output.metrics["loss"][1])}
    return dataclasses.replace(
        output, sum=output.sum + config.alignment_lambda * value, metrics=metrics)
