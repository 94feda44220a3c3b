"""What every loss returns. Sums and weights travel together; division happens once."""

from __future__ import annotations

import dataclasses

import jax
from flax import struct


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """How a number is said that training or validation gives."""

    base2: bool = False
    """It is in natural logarithm, and people read it in base 2."""
    percent: bool = False
    """It is a share, and people read it in percent."""
    maximize: bool = False
    """More is better."""
    format: str = "{:.3f}"
    """As it is printed."""


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
