"""How parameters begin, as in fairseq: a key and a shape in, an array out. What is not here is in
`flax.linen.initializers`."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

Initializer = Callable[..., jax.Array]


def uniform(bound: float) -> Initializer:
    """U(-bound, bound)."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def fan_in_uniform(fan_in: int) -> Initializer:
    """torch's default for `nn.Linear`, kernel and bias alike: U(-1/sqrt(in), 1/sqrt(in))."""
    return uniform(fan_in**-0.5)


def xavier_uniform(gain: float = 1.0) -> Initializer:
    """torch's `xavier_uniform_` for a kernel [in, out]."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return uniform(gain * (6.0 / (shape[-2] + shape[-1])) ** 0.5)(key, shape, dtype)

    return init


def embedding_init(dim: int, pad: int | None) -> Initializer:
    """N(0, dim**-0.5) with a zero row for padding."""
    return zero_row(nn.initializers.normal(dim**-0.5), pad)


def zero_row(init: Initializer, row: int | None) -> Initializer:
    """`init` with one row of zeros (None: with none), that of padding in an embedding."""

    def apply(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
        table = init(key, shape, dtype)
        return table if row is None else table.at[row].set(0.0)

    return apply


def transposed(init: Initializer) -> Initializer:
    """`init` for a kernel that fairseq keeps, and starts, the other way round."""

    def apply(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return init(key, shape[::-1], dtype).T

    return apply
