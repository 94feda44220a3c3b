"""Models both of whose passes, of whole rows and of single steps, are plain functions of prepared
weights: modules that own parameters in, a model's common methods out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
from flax import linen as nn

from seqjax.models.parts import adaptive
from seqjax.models.parts.adaptive import AdaptiveSoftmax
from seqjax.models.parts.attention import segment_mask
from seqjax.models.parts.module_model import SizedModel
from seqjax.models.parts.outputs import ADAPTIVE_FACTOR
from seqjax.models.protocol import Encoded, Features, Params, Project, Projection, Weights


def adaptive_softmax(width: int, ends: tuple[int, ...]) -> AdaptiveSoftmax:
    """The output layer of clusters of fairseq's recurrent and convolutional models."""
    return AdaptiveSoftmax(width, ends, ADAPTIVE_FACTOR, False, False, name="adaptive_softmax")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedModel(SizedModel):
    """`_prepared` makes of parameters what both passes read."""

    @property
    def _sides(self) -> Mapping[str, nn.Module]:
        """`decoder`, and `encoder` if there is one: modules that, called, make their parameters."""
        raise NotImplementedError

    def _prepared(self, params: Params, key: jax.Array | None) -> Weights:
        """`key` is for dropout inside an adaptive softmax (None: none)."""
        raise NotImplementedError

    def init(self, rng: jax.Array) -> Params:
        """See `protocol`."""
        sides = self._sides
        keys = jax.random.split(rng, len(sides))
        return {side: module.init({"params": key})["params"]
                for key, (side, module) in zip(keys, sides.items(), strict=True)}

    def prepare(self, params: Params) -> Weights:
        """See `protocol`."""
        return self._prepared(params, None)

    def _clusters(
        self, decoder: Params, key: jax.Array | None, *, dropout: float
    ) -> tuple[Projection, Project]:
        """The arrays of an adaptive softmax, and what computes with them."""
        assert self._output_ends is not None
        projection = adaptive.output_projection(
            decoder["adaptive_softmax"], None, ends=self._output_ends, key=key, dropout=dropout)
        return projection, adaptive.log_probs


def source_mask(encoded: Encoded, segments: jax.Array | None) -> jax.Array:
    """What may be seen of the source: [B, S], or by packed targets of `segments` [B, T, S].

    Raises:
      ValueError: sources that are not packed as the targets are.
    """
    if segments is None:
        return encoded.mask
    if encoded.segments is None:
        raise ValueError("packed targets need packed sources: encode with segments")
    return segment_mask(segments, encoded.segments)[:, 0]


def features_of(weights: Weights, hidden: jax.Array, attention: jax.Array | None) -> Features:
    """States [B, T, D] with their output layer and one attention for all layers and heads.

    Args:
      weights: prepared, with the output layer, `projection` and `project`.
      attention: [B, T, S] to the source, or None.
    """
    return Features(
        hidden=hidden, projection=weights.projection, project=weights.project,
        attention=None if attention is None else attention[None, :, None],
    )
