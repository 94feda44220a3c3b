"""Parameters declared as data, for models whose arithmetic is plain functions.

A family whose whole-sequence and position-by-position passes share one function declares
its parameters as a nested dict of `Param` and needs no module to hold them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from seqjax.models.parts.layers import Initializer


@dataclasses.dataclass(frozen=True)
class Param:
    """One array: its shape and how it starts."""

    shape: tuple[int, ...]
    init: Initializer


def initialise(rng: jax.Array, declared: Any) -> Any:
    """Float32 arrays for a nested dict of `Param`; each gets its own key."""
    leaves, treedef = jax.tree.flatten(declared, is_leaf=lambda x: isinstance(x, Param))
    keys = jax.random.split(rng, len(leaves))
    arrays = [p.init(key, p.shape, jnp.float32) for key, p in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, arrays)


def uniform(bound: float) -> Initializer:
    """U(-bound, bound)."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def normal(std: float) -> Initializer:
    """N(0, std)."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return jax.random.normal(key, shape, dtype) * std

    return init


def constant(value: float) -> Initializer:
    """All `value`."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return jnp.full(shape, value, dtype)

    return init


def zero_row(init: Initializer, row: int) -> Initializer:
    """`init` with one row of zeros (the padding row of an embedding)."""

    def apply(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return init(key, shape, dtype).at[row].set(0.0)

    return apply
