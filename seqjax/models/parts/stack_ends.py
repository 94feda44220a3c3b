"""What stands in front of a stack of layers and behind it: embedded tokens and positions in, the
first layer's input out; the last layer's output in, final states out.

Plain functions of parameters by fairseq's names, each of which is used where it is there; whole
rows and single steps share them. `Ends` is for modules that own such parameters.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import jax
from flax import linen as nn
from jax.typing import DTypeLike

from seqjax.models.parts.initializers import xavier_uniform
from seqjax.models.parts.keys import DropoutKeys
from seqjax.models.parts.layers import (
    EPS,
    Linear,
    dropout,
    dropout_key,
    linear,
    norm,
    norm_eps,
    project,
)
from seqjax.models.protocol import Params

ConfigT = TypeVar("ConfigT", bound=DropoutKeys)
NAMES = ("project_in_dim", "layernorm_embedding", "layer_norm", "project_out_dim")
"""All parameters that are used here."""


def enter(
    w: Params, x: jax.Array, positions: jax.Array | None, *, scale: float | None, dtype: DTypeLike,
    eps: float = EPS, rate: float = 0.0, key: jax.Array | None = None,
) -> jax.Array:
    """The first layer's input [..., D] in `dtype`.

    Args:
      x: [..., E] embedded tokens.
      positions: [..., D] or anything that is added to it; None without positions.
      scale: what embeddings are multiplied by (None: nothing).
      eps: of the norm.
      rate, key: dropout.
    """
    x = x if scale is None else x * scale
    if "project_in_dim" in w:
        x = linear(x, w["project_in_dim"]["kernel"], None, dtype=dtype)
    x = x if positions is None else x + positions
    if "layernorm_embedding" in w:
        x = norm(w["layernorm_embedding"], x, eps)
    return dropout(x, rate, key).astype(dtype)


def leave(w: Params, x: jax.Array, *, eps: float = EPS) -> jax.Array:
    """What the output layer reads [..., output_dim] of the last layer's output [..., D]."""
    if "layer_norm" in w:
        x = norm(w["layer_norm"], x, eps)
    return project(w["project_out_dim"], x) if "project_out_dim" in w else x


class Ends(nn.Module, Generic[ConfigT]):
    """An encoder or a decoder: its `setup` declares those of `NAMES` that it has, and
    `embed_positions` if it has positions."""

    config: ConfigT
    dtype: DTypeLike

    def bias_free(self, width: int, features: int) -> Linear:
        """A projection from one width to another."""
        return Linear(
            width, features, use_bias=False, kernel_init=xavier_uniform(), dtype=self.dtype
        )

    def enter(
        self, embedded: jax.Array, tokens: jax.Array, segments: jax.Array | None, *,
        scale: float | None,
    ) -> jax.Array:
        """The first layer's input [B, T, D] of `tokens` [B, T] and their rows of the embedding."""
        has_positions = hasattr(self, "embed_positions")
        positions = self.embed_positions(tokens, segments) if has_positions else None
        return enter(
            self._weights(), embedded, positions, scale=scale, dtype=self.dtype,
            eps=norm_eps(self.config), rate=self.config.dropout, key=dropout_key(self),
        )

    def leave(self, x: jax.Array) -> jax.Array:
        """See `leave` above."""
        return leave(self._weights(), x, eps=norm_eps(self.config))

    def _weights(self) -> Params:
        return {name: getattr(self, name).weights() for name in NAMES if hasattr(self, name)}
