"""Sums over tokens where rows are split over devices: each device sums its own rows.

Chunks of logits must run over tokens that lie on one device, and what is summed for the
output layer's gradient must cross devices once, not once a chunk. Who compiles a step says
over what the rows are split (`split_rows`); losses ask for sums and know no axis by name.
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
    An output layer among them is gathered block by block instead, and the gradient of its use
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
    """How the arrays of an output layer lie where sums over rows are made."""

    axis: int
    """Of each, along which it has an entry for every word."""
    parts: int = 1
    """Equal parts of the words that lie on devices of their own."""
    split_over: str | None = None
    """Axis of the mesh over which arrays of two axes are split along the other one."""
    split: tuple[int | None, ...] = ()
    """That axis, of each array (None: it is whole)."""


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
    sums: Callable[..., Sums], shared: Any, *by_row: jax.Array, budget: int,
    vocabulary_axis: int | None = None,
) -> Sums:
    """`sums(shared, *by_row, budget=...)` over all rows, every device its own.

    Args:
      sums: gives a pytree of scalars that add up over rows.
      shared: pytree of arrays that all rows need, e.g. of the output layer; their gradient
        is added up over devices once.
      by_row: arrays [B, ...].
      budget: elements that may exist at once, over all devices; each gets its part.
      vocabulary_axis: `shared` are an output layer's arrays that have an entry for every word
        along this axis; `sums` is told as `layer` how they lie (`OutputLayer`), and gathers
        what it needs of them.
    """
    split = _SPLIT.get()
    rows = by_row[0].shape[0]
    whole = {} if vocabulary_axis is None else {"layer": OutputLayer(axis=vocabulary_axis)}
    if split is None or split.parts == 1 or rows % split.parts:
        return sums(shared, *by_row, budget=budget, **whole)
    specs: Any = PartitionSpec()
    if vocabulary_axis is not None:
        whole["layer"], shared, specs = _layer(shared, vocabulary_axis, split)

    def own(shared: Any, *by_row: jax.Array) -> Any:
        found = sums(shared, *by_row, budget=max(1, budget // split.parts), **whole)
        return jax.tree.map(lambda x: x[None], found)

    here = PartitionSpec(split.axes)
    parts = jax.shard_map(
        own, mesh=split.mesh, axis_names=set(split.axes), check_vma=False,
        in_specs=(specs, *[here] * len(by_row)), out_specs=here,
    )(shared, *by_row)
    return jax.tree.map(lambda x: x.sum(0), parts)


def _layer(shared: Any, axis: int, split: RowSplit) -> tuple[OutputLayer, Any, Any]:
    """How an output layer lies on the devices, its arrays, and the partition of each."""
    leaves, tree = jax.tree.flatten(shared)
    parts = split.size(split.vocabulary_axis)
    arrays, others, specs = [], [], []
    for x in leaves:
        stored, other = split.stored_for(x), 1 - axis % 2
        if stored is None or x.ndim != 2 or x.shape[other] % split.size(split.shared_axis):
            arrays.append(x), others.append(None), specs.append(PartitionSpec())
        else:
            arrays.append(stored), others.append(other)
            specs.append(PartitionSpec(*[None] * other, split.shared_axis))
    layer = OutputLayer(
        axis=axis, split_over=split.shared_axis, split=tuple(others),
        parts=1 if any(x.shape[axis] % parts for x in leaves) else parts,
    )
    return layer, tree.unflatten(arrays), tree.unflatten(specs)
