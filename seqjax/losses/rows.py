"""Sums over tokens where rows are split over devices: each device sums its own rows.

Chunks of logits must run over tokens that lie on one device, and what is summed for the
output layer's gradient must cross devices once, not once a chunk. Who compiles a step says
over what mesh axes the rows are split (`split_rows`); losses ask for sums.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
from jax.sharding import AbstractMesh, Mesh, PartitionSpec

from seqjax.losses.base import Projection

Sums = TypeVar("Sums")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowSplit:
    """Axis 0 of every [B, ...] array lies on the devices in equal parts."""

    mesh: Mesh | AbstractMesh
    axes: tuple[str, ...]
    """Of the mesh, over which rows are split; arrays are whole along them otherwise."""
    shared_axis: str | None = None
    """That of `axes` over which an output layer may be split until it is used."""
    vocabulary_axis: str | None = None
    """Of the mesh, over which the words of an output layer may be split; not of `axes`."""
    stored: tuple[tuple[jax.Array, jax.Array], ...] = ()
    """Arrays that were gathered, each with what it was gathered from: split over `shared_axis`.
    An output layer among them is gathered where it is used instead, and the gradient of its use
    goes to the array that is split."""

    @property
    def parts(self) -> int:
        return math.prod(self.mesh.shape[axis] for axis in self.axes)

    def size(self, axis: str | None) -> int:
        return 1 if axis is None else self.mesh.shape[axis]

    def stored_for(self, x: jax.Array) -> jax.Array | None:
        """What `x` itself, not a copy or a part of it, was gathered from."""
        return next((stored for used, stored in self.stored if used is x), None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputLayer:
    """How a device has the arrays of an output layer while it computes with its rows."""

    axis: int
    """Of each, along which it has an entry for every word, or for every word of a part."""
    devices: int = 1
    """That compute at once, each with rows or words of its own."""
    part: Any = 0
    """int32 scalar: which part of the words, of equal size."""
    split_over: str | None = None
    """Axis of the mesh over which arrays of two axes are split along the other one."""
    split: tuple[int | None, ...] = ()
    """That axis, of each array (None: it is whole)."""
    words_over: str | None = None
    """Axis of the mesh over which words are split (None: the device has all of them)."""

    def gathered(self, projection: Projection) -> Projection:
        """The arrays, whole but for the words of other parts. Their gradient is split again."""
        if self.split_over is None:
            return projection
        leaves, tree = jax.tree.flatten(projection)
        return tree.unflatten([
            x if axis is None else jax.lax.all_gather(x, self.split_over, axis=axis, tiled=True)
            for x, axis in zip(leaves, self.split, strict=True)])


_SPLIT: contextvars.ContextVar[RowSplit | None] = contextvars.ContextVar("rows", default=None)


@contextlib.contextmanager
def split_rows(split: RowSplit | None) -> Iterator[None]:
    """What is traced inside has its rows split so (None: on one device)."""
    token = _SPLIT.set(split)
    try:
        yield
    finally:
        _SPLIT.reset(token)


def sum_over_rows(
    sums: Callable[..., Sums], shared: Any, *by_row: jax.Array, budget: int
) -> Sums:
    """`sums(shared, *by_row, budget=...)` over all rows, every device its own.

    Args:
      sums: gives a pytree of scalars that add up over rows.
      shared: pytree of arrays that all rows need, e.g. of the output layer; their gradient
        is added up over devices once.
      by_row: arrays [B, ...].
      budget: elements that may exist at once, over all devices; each gets its part.
    """
    split = _split_of(by_row)
    if split is None:
        return sums(shared, *by_row, budget=budget)

    def own(shared: Any, *by_row: jax.Array) -> Any:
        found = sums(shared, *by_row, budget=max(1, budget // split.parts))
        return jax.tree.map(lambda x: x[None], found)

    here = PartitionSpec(split.axes)
    parts = jax.shard_map(
        own, mesh=split.mesh, axis_names=set(split.axes), check_vma=False,
        in_specs=(PartitionSpec(), *[here] * len(by_row)), out_specs=here,
    )(shared, *by_row)
    return jax.tree.map(lambda x: x.sum(0), parts)


def project_rows(
    function: Callable[..., Any], projection: Projection, *by_row: jax.Array, vocabulary_axis: int
) -> Any:
    """`function(layer, projection, *by_row)` of every device's own rows and words.

    Args:
      function: gives a pytree of arrays [B, ...] about the rows and the words that it is given
        (`layer`: an `OutputLayer`).
      projection: arrays of an output layer, with an entry for every word along
        `vocabulary_axis`. The gradient is added up over devices once.
      by_row: arrays [B, ...].

    Returns:
      The pytree with arrays [P, B, ...]: of each of P equal parts of the words.
    """
    split = _split_of(by_row)
    if split is None:
        found = function(OutputLayer(axis=vocabulary_axis), projection, *by_row)
        return jax.tree.map(lambda x: x[None], found)
    leaves, tree = jax.tree.flatten(projection)
    over, parts = split.vocabulary_axis, split.size(split.vocabulary_axis)
    if any(x.shape[vocabulary_axis] % parts for x in leaves):
        over, parts = None, 1
    arrays, others, specs = [], [], []
    for x in leaves:
        axis, stored = vocabulary_axis % x.ndim, split.stored_for(x)
        spec: list[str | None] = [None] * x.ndim
        spec[axis] = over
        other = 1 - axis
        if stored is None or x.ndim != 2 or x.shape[other] % split.size(split.shared_axis):
            stored, other = x, None
        else:
            spec[other] = split.shared_axis
        arrays.append(stored)
        others.append(other)
        specs.append(PartitionSpec(*spec))

    def own(projection: Projection, *by_row: jax.Array) -> Any:
        layer = OutputLayer(
            axis=vocabulary_axis, devices=split.parts * parts, split_over=split.shared_axis,
            split=tuple(others), part=0 if over is None else jax.lax.axis_index(over),
            words_over=over,
        )
        return jax.tree.map(lambda x: x[None], function(layer, projection, *by_row))

    return jax.shard_map(
        own, mesh=split.mesh, check_vma=False,
        in_specs=(tree.unflatten(specs), *[PartitionSpec(split.axes)] * len(by_row)),
        out_specs=PartitionSpec(over, split.axes),
    )(tree.unflatten(arrays), *by_row)


def _split_of(by_row: tuple[jax.Array, ...]) -> RowSplit | None:
    """How these rows are split (None: not at all, or they do not divide)."""
    split = _SPLIT.get()
    whole = split is None or split.parts == 1 or by_row[0].shape[0] % split.parts
    return None if whole else split
