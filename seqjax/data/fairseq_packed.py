"""fairseq's updates, each packed into rows: the same sentences in every update, in a few shapes.

fairseq sums over the batches of an update, so how they are laid out changes no sum. Padding
them to one shape would waste most of it, since short and long batches meet in an update.
Lengths and fairseq's updates go in, rows of sentences come out.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from seqjax.data.epoch_plan import EpochPlan, Shape, Update, round_up
from seqjax.data.fairseq_order import FairseqPlan
from seqjax.data.packing import pack


def allowed_groups(groups: int) -> tuple[int, ...]:
    """Numbers of micro-batches that a packed update may have: few, to compile few steps."""
    return tuple(sorted({math.ceil(groups * k) for k in (1, 1.25, 1.5, 2)}))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PackedUpdates(EpochPlan):
    """An epoch of fairseq's updates that are packed when they are asked for."""

    row_shape: Shape
    """Of every micro-batch."""
    wanted_groups: int
    """Micro-batches of an update, if its sentences fit into so many."""

    def update(self, index: int) -> Update:
        plain = super().update(index)
        capacity = max(self.row_shape.source, self.row_shape.target)
        sides = (self.lengths.side(name)[plain.ids] for name in ("source", "target"))
        row = pack(*sides, capacity=capacity)
        order = np.argsort(row, kind="stable")
        needed = -(-(int(row.max()) + 1) // self.row_shape.rows)
        # Rows that hold one sentence of a little over half their length each can need more
        # than twice the tokens' room; then whole multiples are used.
        groups = next(
            (g for g in allowed_groups(self.wanted_groups) if g >= needed),
            round_up(needed, self.wanted_groups),
        )
        return dataclasses.replace(
            plain, ids=plain.ids[order], rows=row[order], groups=groups, shape=self.row_shape,
            micro_batches=needed, packed=True,
        )

    @functools.cached_property
    def _sizes(self) -> list[int]:
        return [self.update(i).groups for i in range(len(self))]

    def update_shapes(self) -> set[tuple[int, Shape]]:
        return {(groups, self.row_shape) for groups in self._sizes}

    @functools.cached_property
    def efficiency(self) -> float:
        ids = np.concatenate([super(PackedUpdates, self).update(i).ids for i in range(len(self))])
        tokens = self._tokens("source", ids) + self._tokens("target", ids)
        return tokens / (sum(self._sizes) * self.row_shape.tokens)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FairseqPackedPlan:
    """fairseq's epochs in packed rows; see `planning.make_plan`."""

    order: FairseqPlan
    shape: Shape
    """Of every micro-batch: as many rows as the largest batches of all workers need."""

    @classmethod
    def create(
        cls, order: FairseqPlan, *, pack_length: int, length_multiple: int, row_multiple: int,
    ) -> FairseqPackedPlan:
        """Chooses the shape; rows are longer than `pack_length` if a sentence is."""
        longest = order.lengths.longest[order.ids]
        length = max(pack_length, round_up(int(longest.max()), length_multiple))
        padded = np.maximum.reduceat(longest, order.bounds[:-1]) * np.diff(order.bounds)
        rows = -(-int(padded.max()) * order.workers // length)
        sides = (order.lengths.source, order.lengths.target)
        return cls(order=order, shape=Shape(
            round_up(rows, row_multiple), *(0 if side is None else length for side in sides)
        ))

    @property
    def shapes(self) -> tuple[tuple[int, Shape], ...]:
        found = {g for freq in self.order.update_freq for g in allowed_groups(freq)}
        return tuple((g, self.shape) for g in sorted(found))

    @property
    def packed(self) -> bool:
        return True

    def epoch(self, epoch: int, *, start: int = 0) -> EpochPlan:
        plain = self.order.epoch(epoch, start=start)
        fields = {f.name: getattr(plain, f.name) for f in dataclasses.fields(EpochPlan)}
        return PackedUpdates(
            **{**fields, "packed": True},
            row_shape=self.shape, wanted_groups=plain.groups // self.order.workers,
        )

    def describe(self) -> str:
        plan = self.epoch(1)
        return (
            f"fairseq, packed: {len(self.order.bounds) - 1} batches of {len(self.order.ids)} "
            f"sentences in {len(plan)} updates an epoch, {plan.efficiency:.1%} of the positions "
            f"hold tokens, shapes (micro-batches of rows x source x target): "
            + ", ".join(
                f"{g} of {s.rows}x{s.source}x{s.target}" for g, s in sorted(plan.update_shapes())
            )
            + f"; {self.order.dropped} sentences are in the final batch that fairseq drops"
        )
