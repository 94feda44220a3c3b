"""Where activations lie between the products of a layer.

Devices that split a layer's heads and features all hold what is between: each may take the
positions of its own instead. Who compiles a step says how (`positions_split`); layer norms,
which see every position by itself, ask for it, and attention and feed-forward say what they
need, so that nothing else is split otherwise than it was.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator

import jax


@dataclasses.dataclass(frozen=True, kw_only=True)
class PositionSplit:
    """Identities of arrays [..., T, D], but for where these lie."""

    part: Callable[[jax.Array], jax.Array]
    """Every device has positions of its own."""
    whole: Callable[[jax.Array], jax.Array]
    """Every device has all positions."""
    features: Callable[[jax.Array], jax.Array]
    """Every device has all positions and features of its own."""


_SPLIT: contextvars.ContextVar[PositionSplit | None] = contextvars.ContextVar(
    "positions", default=None)


@contextlib.contextmanager
def positions_split(split: PositionSplit | None) -> Iterator[None]:
    """What is traced inside has its positions split so (None: not)."""
    token = _SPLIT.set(split)
    try:
        yield
    finally:
        _SPLIT.reset(token)


def by_position(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """`function` of an array [..., T, D], which does the same at every position."""
    split = _SPLIT.get()
    return function(x) if split is None else split.whole(function(split.part(x)))


def into_products(x: jax.Array) -> jax.Array:
    """An array [..., T, D] as the first products of a layer read it: all positions."""
    split = _SPLIT.get()
    return x if split is None else split.whole(x)


def inside_layer(x: jax.Array) -> jax.Array:
    """Heads or hidden features [..., T, F] between a layer's first products and its last."""
    split = _SPLIT.get()
    return x if split is None else split.features(x)
