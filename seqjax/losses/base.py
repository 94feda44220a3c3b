"""What a loss is given and what it returns. Sums and weights travel together; division
happens once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
from flax import struct

from seqjax.losses.declarations import COUNTS, Loss, Metric

__all__ = ["COUNTS", "Forward", "Loss", "LossOutput", "Metric", "States", "add"]

Projection = Any
"""Pytree of an output layer's arrays."""
Project = Callable[[Projection, jax.Array], jax.Array]
"""(projection, [..., D]) -> float32 logits [..., V]."""


@runtime_checkable
class WordProject(Protocol):
    """A `Project` whose every array has an entry for each word, on one axis, so that it can be
    taken in blocks of words (`models.protocol.WordProjection`)."""

    @property
    def vocabulary_axis(self) -> int:
        """Which axis that is."""
        ...

    def __call__(self, projection: Projection, hidden: jax.Array, /) -> jax.Array:
        """See `Project`."""
        ...


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


class States(Protocol):
    """The last hidden states of a model that predicts tokens, and how to get logits from any
    of them (`models.protocol.Features`)."""

    @property
    def hidden(self) -> jax.Array:
        """[B, T, D]."""
        ...

    @property
    def projection(self) -> Projection:
        """Pytree of the output layer's arrays; of an adaptive softmax, its `Clusters`."""
        ...

    @property
    def project(self) -> Project:
        """(projection, [..., D]) -> float32 logits [..., V]."""
        ...


@struct.dataclass
class Forward:
    """What the forward pass of a task gives its loss. A field that the task or its model has
    nothing for is None, and a loss that cannot do without says so in its `needs`."""

    features: States | None = None
    """Of a model that predicts tokens."""
    encoded: Any = None
    """What the encoder said, of a task whose loss is about that."""
    target: jax.Array | None = None
    """[B, T] int32, right-padded: what is to be predicted."""
    pad: int = struct.field(pytree_node=False, default=1)
    """The id in `target` that is not scored."""
    positions: jax.Array | None = None
    """[B, T] 0-based place of each token in its sentence; None: its place in the row."""
    sentences: jax.Array | None = None
    """Float32 scalar, their number; None: rows that hold a token."""
    attention: jax.Array | None = None
    """[B, T, S] float32: how much each target position looks at each source position."""
    aux: Mapping[str, Any] = struct.field(default_factory=dict)
    """Whatever else a model of pretraining says, by name: arrays, or pytrees of them."""
    extra: Any = None
    """The model's state beside its parameters, after this pass (None: as it was before)."""

    def tokens(self) -> tuple[States, jax.Array]:
        """`features` and `target`.

        Raises:
          ValueError: the task gives none.
        """
        if self.features is None or self.target is None:
            raise ValueError("this loss is about predicted tokens, and the task's forward pass "
                             "gives no decoder states or no target")
        return self.features, self.target
