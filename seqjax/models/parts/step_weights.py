"""A decoder's parameters as single steps read them: stacked parameters in, one entry a layer and
what surrounds the layers out (docs/decisions/0002)."""

from __future__ import annotations

from typing import Any

import jax
from flax import struct
from jax.typing import DTypeLike

from seqjax.models.parts import adaptive, normformer, stack_ends
from seqjax.models.parts.cached_attention import (
    SourceCache,
    SourceProjection,
    attend,
    source_projection,
    split_heads,
)
from seqjax.models.parts.decoder_layer import Read
from seqjax.models.parts.keys import PositionKeys
from seqjax.models.parts.layers import embed, norm_eps, project
from seqjax.models.parts.positions import step_positions
from seqjax.models.protocol import Features, Params, Project, Projection


@struct.dataclass
class StepWeights:
    """A decoder's parameters, one entry a layer, matrices in the type of products."""

    table: Any
    """[V, input_dim], or the bands of an adaptive input."""
    positions: jax.Array | None
    """[max_target_positions, D]; None without positions."""
    layers: tuple[dict[str, Any], ...]
    """What `decoder_layer.layer` reads, memory_q and memory_out with attention to a source, and
    its family's own."""
    memory: SourceProjection | None
    """Makes keys and values for attention to the source; None without."""
    rest: dict[str, Any]
    """Those of `stack_ends.NAMES` that there are."""
    projection: Projection
    project: Project = struct.field(pytree_node=False)
    eps: float = struct.field(pytree_node=False)
    """Of the norms."""

    @property
    def dtype(self) -> Any:
        """Type of matrix products."""
        return self.layers[0]["fc1"]["kernel"].dtype

    def enter(
        self, tokens: jax.Array, position: jax.Array, *, scale: float | None
    ) -> jax.Array:
        """The first layer's input [B, W, D] for `tokens` [B, W] at one position."""
        if isinstance(self.table, adaptive.AdaptiveTable):
            x = adaptive.look_up(self.table, tokens)
        else:
            x = embed(self.table, tokens, pad=None)
        row = self.positions
        if row is not None:
            row = jax.lax.dynamic_index_in_dim(row, position, keepdims=False)
        return stack_ends.enter(
            self.rest, x, row, scale=scale, dtype=self.dtype, eps=self.eps)

    def reading(self, memory: SourceCache | None, layer: int, *, heads: int) -> Read | None:
        """A layer's attention to the source; None without one. It tells of no probabilities,
        which nobody reads while decoding."""
        if memory is None:
            return None
        w, seen = self.layers[layer], memory.seen(layer)

        def read(y: jax.Array) -> tuple[jax.Array, None]:
            found = attend(split_heads(project(w["memory_q"], y), heads), [seen])
            return project(w["memory_out"], found), None

        return read

    def features(self, x: jax.Array) -> Features:
        """Of the last layer's output [B, W, D]."""
        return Features(
            hidden=stack_ends.leave(self.rest, x, eps=self.eps),
            projection=self.projection, project=self.project,
        )


def surroundings(
    cfg: PositionKeys, decoder: Params, *, width: int, table: Any,
    projection: tuple[Projection, Project], dtype: DTypeLike, pad: int,
) -> dict[str, Any]:
    """The fields of `StepWeights` but for `layers`.

    Args:
      decoder: parameters with `layers` stacked.
      width: D.
      table: see `StepWeights`.
      projection: (arrays, function) of the output layer.
      pad: id of padding, which positions are counted from.
    """
    attention = decoder["layers"].get("encoder_attn")
    return dict(
        table=table, positions=step_positions(cfg, decoder, dim=width, pad=pad),
        memory=None if attention is None else source_projection(attention, dtype=dtype),
        rest={name: decoder[name] for name in stack_ends.NAMES if name in decoder},
        projection=cast(projection[0], dtype), project=projection[1], eps=norm_eps(cfg),
    )


def separated(stacked: Params, index: int, *, dtype: DTypeLike) -> dict[str, Any]:
    """One of stacked layers, its matrices in `dtype`. Of attention to the source it has what
    queries need; what makes keys and values is in `StepWeights.memory`."""
    layer = jax.tree.map(lambda a: a[index], stacked)
    attention = layer.pop("encoder_attn", None)
    layer = {
        name: w if name.endswith("norm") or name in normformer.NAMES else cast(w, dtype)
        for name, w in layer.items()
    }
    if attention is not None:
        layer["memory_q"] = cast(attention["q_proj"], dtype)
        layer["memory_out"] = cast(attention["out_proj"], dtype)
    return layer


def cast(tree: Params, dtype: DTypeLike) -> Params:
    """Every array in another type."""
    return jax.tree.map(lambda a: a.astype(dtype), tree)
