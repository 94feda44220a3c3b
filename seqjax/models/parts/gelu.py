"""The exact GELU, with the error function: an array in, an array of its type out."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """`x` times the normal distribution's share below it, computed in float32.

    By `erf`, as torch does it: `jax.nn.gelu(approximate=False)` goes by `erfc`, which also takes an
    exponential and costs a CPU 2.6 times as much. The gradient keeps nothing but `x`.
    """
    wide = x.astype(jnp.float32)
    return (wide * _share_below(wide)).astype(x.dtype)


def _share_below(x: jax.Array) -> jax.Array:
    return 0.5 * (1.0 + jax.lax.erf(x * math.sqrt(0.5)))


def slope(x: jax.Array) -> jax.Array:
    """The derivative of `gelu` at float32 `x`."""
    return _share_below(x) + x * jnp.exp(-0.5 * x * x) * (2.0 * math.pi) ** -0.5


def _forward(x):
    return gelu(x), x


def _backward(x, dy):
    return ((dy.astype(jnp.float32) * slope(x.astype(jnp.float32))).astype(x.dtype),)


gelu.defvjp(_forward, _backward)
