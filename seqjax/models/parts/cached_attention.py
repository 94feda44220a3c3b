"""Attention of single steps: queries of every hypothesis and a cache's keys and values in,
what was found out.

Keys and values of the source are made once per sentence, those of all layers together, and are
never copied per hypothesis.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import DTypeLike

from seqjax.models.parts.attention import MASKED
from seqjax.models.protocol import Params

Seen = tuple[Any, Any, Any]
"""Keys [B, H, K, N], values [B, H, N, K] and what is added to their scores [B, 1, W or 1, N].
Keys stand the other way round because products of few queries read them as they lie: with [N, K] a
CPU turns all keys round in every step, which costs 1.4 to 1.8 times as much."""


@struct.dataclass
class SourceProjection:
    """Makes a source's keys and values for every layer."""

    kernel: jax.Array
    """[L, 2, D_source, D]."""
    bias: jax.Array | None
    """[L, 2, D]."""


@struct.dataclass
class SourceCache:
    """A source's keys and values, one entry a layer."""

    keys: tuple[jax.Array, ...]
    """[B, H, K, S]."""
    values: tuple[jax.Array, ...]
    """[B, H, S, K]."""
    bias: jax.Array
    """[B, 1, 1, S] float32: 0, or a large negative number on padding."""

    def seen(self, layer: int) -> Seen:
        """What a layer sees of the source."""
        return self.keys[layer], self.values[layer], self.bias


def source_projection(attention: Params, *, dtype: DTypeLike) -> SourceProjection:
    """Both projections of the stacked layers' `attention`."""
    parts = (attention["k_proj"], attention["v_proj"])
    stacked = {name: jnp.stack([p[name] for p in parts], axis=1).astype(dtype)
               for name in parts[0]}
    return SourceProjection(kernel=stacked["kernel"], bias=stacked.get("bias"))


def project_source(
    projection: SourceProjection, out: jax.Array, mask: jax.Array, *, heads: int
) -> SourceCache:
    """Keys and values of each layer for sources [B, S, D_source], real where `mask` [B, S] is."""
    both = jnp.einsum("bsd,lcde->lcbse", out.astype(projection.kernel.dtype), projection.kernel)
    if projection.bias is not None:
        both = both + projection.bias[:, :, None, None, :]
    both = both.reshape(*both.shape[:-1], heads, both.shape[-1] // heads).swapaxes(3, 4)
    layers = range(both.shape[0])
    return SourceCache(
        keys=tuple(both[i, 0].swapaxes(2, 3) for i in layers),
        values=tuple(both[i, 1] for i in layers),
        bias=jnp.where(mask, 0.0, MASKED)[:, None, None, :],
    )


def split_heads(y: jax.Array, heads: int) -> jax.Array:
    """[B, W, D] -> [B, H, W, K]."""
    return y.reshape(*y.shape[:2], heads, y.shape[-1] // heads).swapaxes(1, 2)


def attend(q: jax.Array, seen: Sequence[Seen]) -> jax.Array:
    """Queries [B, H, W, K] over everything that is seen, under one softmax: [B, W, D]."""
    q = q * q.shape[-1] ** -0.5
    scores = [
        jnp.einsum("bhwk,bhkn->bhwn", q, k, preferred_element_type=jnp.float32) + bias
        for k, _, bias in seen
    ]
    probs = jax.nn.softmax(jnp.concatenate(scores, axis=-1), axis=-1)
    ends = np.cumsum([v.shape[2] for _, v, _ in seen])[:-1]
    found = [
        jnp.einsum("bhwn,bhnk->bhwk", part.astype(v.dtype), v)
        for part, (_, v, _) in zip(jnp.split(probs, ends, axis=-1), seen, strict=True)
    ]
    y = functools.reduce(jnp.add, found).swapaxes(1, 2)
    return y.reshape(*y.shape[:2], -1)
