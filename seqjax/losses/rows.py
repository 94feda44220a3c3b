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

    @property
    def parts(self) -> int:
        return math.prod(self.mesh.shape[axis] for axis in self.axes)


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
    split = _SPLIT.get()
    rows = by_row[0].shape[0]
    if split is None or split.parts == 1 or rows % split.parts:
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
