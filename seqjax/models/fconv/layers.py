"""Arithmetic of gated convolutional encoders and decoders: plain functions of parameters.

Weight normalisation keeps fairseq's two parameters, a direction `weight_v` and a length
`weight_g` per output. The decoder's `decode` is given the window that each convolution
sees, so that whole sequences and single positions share it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from seqjax.models.fconv.config import ConvSpec
from seqjax.models.parts.attention import MASKED
from seqjax.models.parts.layers import dropout, gated, linear
from seqjax.models.parts.module_model import PAD
from seqjax.models.parts.positions import position_ids
from seqjax.models.parts.windows import windows
from seqjax.models.protocol import Params

HALF = 0.5**0.5
"""Sums of two are scaled by this, which keeps their variance."""


def length(v: jax.Array) -> jax.Array:
    """[out]: the norm of everything that leads to an output."""
    return jnp.sqrt((v * v).sum(tuple(range(v.ndim - 1))))


def kernel(params: Params) -> jax.Array:
    """The weights [..., in, out] that a direction and a length stand for."""
    v = params["weight_v"]
    return v * (params["weight_g"] / length(v))


def folded(params: Params, dtype: Any) -> dict[str, jax.Array]:
    """{kernel [in, out], bias [out]}; of a convolution, `in` is its whole window."""
    both = kernel(params)
    return {"kernel": both.reshape(-1, both.shape[-1]).astype(dtype), "bias": params["bias"]}


def apply(weights: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """A linear map of `folded` parameters in the type of `x`."""
    return linear(x, weights["kernel"], weights["bias"], dtype=x.dtype)


@struct.dataclass
class StackWeights:
    """One side's parameters with lengths and directions multiplied out."""

    table: jax.Array
    """[V, E]."""
    positions: jax.Array | None
    """[PAD + 1 + positions, E], as fairseq's; None for a language model."""
    fc1: dict[str, jax.Array]
    convolutions: tuple[dict[str, jax.Array], ...]
    projections: tuple[dict[str, jax.Array] | None, ...]
    attention: tuple[dict[str, dict[str, jax.Array]] | None, ...]


def fold(params: Params, layers: int, *, dtype: Any) -> StackWeights:
    """One side's parameters as its arithmetic wants them; differentiable."""

    def optional(name: str) -> Any:
        if name not in params:
            return None
        if "weight_v" in params[name]:
            return folded(params[name], dtype)
        return {key: folded(value, dtype) for key, value in params[name].items()}

    positions = params.get("embed_positions")
    return StackWeights(
        table=params["embed_tokens"]["embedding"],
        positions=None if positions is None else positions["embedding"],
        fc1=folded(params["fc1"], dtype),
        convolutions=tuple(folded(params[f"convolutions_{i}"], dtype) for i in range(layers)),
        projections=tuple(optional(f"projections_{i}") for i in range(layers)),
        attention=tuple(optional(f"attention_{i}") for i in range(layers)),
    )


def position_rows(
    table: jax.Array | None, tokens: jax.Array, segments: jax.Array | None
) -> jax.Array | float:
    """[B, T, E] embedded positions; of those beyond the table, its last."""
    if table is None:
        return 0.0
    return jnp.take(table, position_ids(tokens, segments, pad=PAD), axis=0, mode="clip")


def checkpointed(function: Callable, remat: str) -> Callable:
    """`function`, of which the backward pass recomputes what `remat` says."""
    if remat == "none":
        return function
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    return jax.checkpoint(function, policy=policy if remat == "dots" else None)


def encode(
    weights: StackWeights, layers: Sequence[ConvSpec], x: jax.Array, real: jax.Array, *,
    segments: jax.Array | None, rate: float, keys: Sequence[jax.Array | None], remat: str,
) -> jax.Array:
    """The encoder's convolutions.

    Args:
      x: [B, S, E] embedded tokens.
      real: [B, S] bool; padding is zeros to its neighbours.
      keys: per layer, for dropout.

    Returns:
      [B, S, channels of the last layer].
    """

    def convolve(w: dict, x: jax.Array, key: jax.Array | None, *, layer: ConvSpec) -> jax.Array:
        x = dropout(jnp.where(real[..., None], x, 0), rate, key)
        seen = windows(x, layer.width, (layer.width - 1) // 2, segments)
        return gated(apply(w, seen.reshape(*x.shape[:2], -1)))

    x = apply(weights.fc1, x)
    states = [x]
    for i, layer in enumerate(layers):
        turn = checkpointed(functools.partial(convolve, layer=layer), remat)
        y = turn(weights.convolutions[i], x, keys[i])
        x = _with_residual(y, states, layer, weights.projections[i])
        states.append(x)
    return x


def _with_residual(
    y: jax.Array, states: list[jax.Array], layer: ConvSpec, projection: Any
) -> jax.Array:
    if not layer.residual:
        return y
    residual = states[-layer.residual]
    return (y + (residual if projection is None else apply(projection, residual))) * HALF


@struct.dataclass
class Memory:
    """The source as attention reads it."""

    keys: jax.Array
    """[B, S, E]."""
    values: jax.Array
    """[B, S, E]: keys plus embedded tokens."""
    mask: jax.Array
    """[B, 1, S] bool (packed: [B, T, S]): what may be seen."""


def attend(
    weights: dict, x: jax.Array, embedded: jax.Array, memory: Memory
) -> tuple[jax.Array, jax.Array]:
    """Attention of one layer: x [B, T, C] -> [B, T, C], probabilities [B, T, S]."""
    query = (apply(weights["in_projection"], x) + embedded) * HALF
    scores = jnp.einsum("bte,bse->bts", query, memory.keys, preferred_element_type=jnp.float32)
    probs = jax.nn.softmax(jnp.where(memory.mask, scores, MASKED), axis=-1)
    context = jnp.einsum("bts,bse->bte", probs.astype(x.dtype), memory.values)
    # The mean of n vectors is sqrt(n) smaller than each: undone as if attention were flat.
    seen = memory.mask.sum(-1, keepdims=True).astype(jnp.float32)
    context = context * jnp.sqrt(seen).astype(x.dtype)
    return (apply(weights["out_projection"], context) + x) * HALF, probs


def decode(
    weights: StackWeights, layers: Sequence[ConvSpec], embedded: jax.Array,
    memory: Memory | None, *, window: Callable[[int, jax.Array], jax.Array],
    rate: float, keys: Sequence[jax.Array | None], remat: str,
) -> tuple[jax.Array, jax.Array | None]:
    """The decoder's convolutions with their attention.

    Args:
      embedded: [B, T, E] embedded tokens (or W hypotheses at one position).
      window: (layer, [B, T, C]) -> [B, T, width, C], what the convolution sees.
      keys: per layer, for dropout.

    Returns:
      [B, T, channels of the last layer] and the attention [B, T, S]: fairseq's sum over
      layers divided by how many there are, those without attention counted.
    """

    def convolve(
        w: tuple[dict, Any], x: jax.Array, key: jax.Array | None, index: int
    ) -> tuple[jax.Array, jax.Array | None]:
        seen = window(index, dropout(x, rate, key))
        y = gated(apply(w[0], seen.reshape(*x.shape[:2], -1)))
        if w[1] is None:
            return y, None
        assert memory is not None
        return attend(w[1], y, embedded, memory)

    x = apply(weights.fc1, embedded)
    states, total = [x], None
    for i, layer in enumerate(layers):
        turn = checkpointed(functools.partial(convolve, index=i), remat)
        y, probs = turn((weights.convolutions[i], weights.attention[i]), x, keys[i])
        if probs is not None:
            total = probs if total is None else total + probs
        x = _with_residual(y, states, layer, weights.projections[i])
        states.append(x)
    return x, None if total is None else total / len(layers)
