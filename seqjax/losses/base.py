"""What every loss returns. Sums and weights travel together; division happens once."""

from __future__ import annotations

import jax
from flax import struct


@struct.dataclass
class LossOutput:
    """A loss over some tokens or sentences, not yet normalised.

    Fields are scalars, so that micro-batches and devices add up exactly.
    """

    sum: jax.Array
    """Sum of the loss, natural logarithm."""
    weight: jax.Array
    """fairseq's sample_size: what the gradient is divided by."""
    metrics: dict[str, tuple[jax.Array, jax.Array]]
    """Name -> (sum, weight); e.g. nll_loss, accuracy, ntokens."""


def add(a: LossOutput, b: LossOutput) -> LossOutput:
    """The loss of both parts together."""
    return jax.tree.map(lambda x, y: x + y, a, b)
