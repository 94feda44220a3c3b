"""Several sentence pairs a row: one compiled shape, hardly any padding.

Lengths go in, rows of sentence numbers come out: best-fit-decreasing into rows with room on
both sides, done for all sentences of one target length at a time, so that 100,000 pairs take
a fraction of a second in NumPy.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from seqjax.data.epoch_plan import (
    EpochPlan,
    Lengths,
    Shape,
    epoch_rng,
    group_in_order,
    rows_within,
    skip_updates,
)

_BLOCK = 1 << 17
"""Sentences that are packed together; bounds memory and keeps time linear."""


def pack(source: np.ndarray, target: np.ndarray, *, capacity: int) -> np.ndarray:
    """Row of each pair, so that no row exceeds `capacity` tokens on either side.

    Args:
      source, target: [n] tokens, none over `capacity`; ties are broken in the order given.

    Returns:
      [n] int32 row numbers 0 .. R - 1, every row in use.
    """
    size = np.maximum(source, target)
    if len(size) and size.max() > capacity:
        i = int(size.argmax())
        raise ValueError(f"pair {i} is {size[i]} tokens long: more than pack_length={capacity}")
    # Long pairs are few: sizes that differ by less than a sixteenth are placed together.
    step = 1 << np.maximum(0, np.frexp(size)[1] - 5)
    group = -(-size // step) * step
    order = np.argsort(-group, kind="stable")
    groups = group[order]
    cuts = np.concatenate([[0], np.flatnonzero(np.diff(groups)) + 1, [len(groups)]])
    row = np.empty(len(size), np.int32)
    open_rows = _Rows(capacity=capacity, limit=len(size))
    for a, b in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        if a < b:
            ids = order[a:b]
            row[ids] = open_rows.place(source[ids], target[ids])
    return row


class _Rows:
    """The rows opened so far and the room left on both sides of each."""

    def __init__(self, *, capacity: int, limit: int):
        self.capacity = capacity
        self.source = np.empty(limit, np.int32)
        self.target = np.empty(limit, np.int32)
        self.count = 0

    def place(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Rows of pairs of like size, [n]: tightest open rows first, then new ones."""
        row = np.empty(len(source), np.int32)
        # Sorted by how much longer the source is; rows are taken in the same order below,
        # so that both sides of a row fill up together.
        left = np.argsort(source - target, kind="stable")
        left = self._where_any_fits(source, target, left, row)
        left = self._one_a_row(source, target, left, row)
        if len(left):
            each = max(1, self.capacity // int(np.maximum(source[left], target[left]).max()))
            new = np.arange(self.count, self.count + -(-len(left) // each))
            self.source[new] = self.target[new] = self.capacity
            self.count += len(new)
            # Strided, so that a row gets pairs of all proportions.
            self._take(source, target, left, np.tile(new, each)[:len(left)], row)
        return row

    def _where_any_fits(self, source, target, left, row) -> np.ndarray:
        """Fills rows that have room for any of the pairs, with as many as they hold."""
        size = int(np.maximum(source[left], target[left]).max())
        room = np.minimum(self.source[:self.count], self.target[:self.count])
        fits = np.flatnonzero(room >= size)
        if not len(fits):
            return left
        holds = room[fits] // size
        if int(holds.sum()) > len(left):
            fits = fits[np.argsort(room[fits], kind="stable")]
            holds = room[fits] // size
            last = int(np.searchsorted(np.cumsum(holds), len(left)))
            fits, holds = fits[:last + 1], holds[:last + 1]
        slots = np.repeat(fits, holds)[:len(left)]
        slots = slots[np.argsort(self.source[slots] - self.target[slots], kind="stable")]
        # An even choice from all proportions if not all have a place.
        chosen = np.arange(len(slots)) * len(left) // len(slots)
        self._take(source, target, left[chosen], slots, row)
        keep = np.ones(len(left), bool)
        keep[chosen] = False
        return left[keep]

    def _one_a_row(self, source, target, left, row) -> np.ndarray:
        """Rows with room for some of the pairs get one if it happens to fit."""
        for _ in range(2):
            if not len(left):
                break
            rs, rt = self.source[:self.count], self.target[:self.count]
            fits = np.flatnonzero((rs >= source[left].min()) & (rt >= target[left].min()))
            if not len(fits):
                break
            fits = fits[np.argsort(np.minimum(rs[fits], rt[fits]), kind="stable")[:len(left)]]
            fits = fits[np.argsort(rs[fits] - rt[fits], kind="stable")]
            chosen = np.arange(len(fits)) * len(left) // len(fits)
            pick = left[chosen]
            ok = (rs[fits] >= source[pick]) & (rt[fits] >= target[pick])
            if not ok.any():
                break
            self._take(source, target, pick[ok], fits[ok], row)
            keep = np.ones(len(left), bool)
            keep[chosen[ok]] = False
            left = left[keep]
        return left

    def _take(self, source, target, pairs, slots, row) -> None:
        row[pairs] = slots
        n = self.count
        self.source[:n] -= np.bincount(slots, source[pairs], minlength=n).astype(np.int32)
        self.target[:n] -= np.bincount(slots, target[pairs], minlength=n).astype(np.int32)


def pack_blocks(
    source: np.ndarray, target: np.ndarray, *, capacity: int
) -> tuple[np.ndarray, int]:
    """`pack` of consecutive blocks of the sequence; returns rows [n] and their number."""
    row = np.empty(len(source), np.int32)
    count = 0
    for a in range(0, len(source), _BLOCK):
        block = pack(source[a:a + _BLOCK], target[a:a + _BLOCK], capacity=capacity)
        row[a:a + _BLOCK] = block + count
        count += int(block.max()) + 1
    return row, count


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PackedPlan:
    """Epochs of packed rows, all of one shape; see `planning.make_plan`.

    Every sentence is in every epoch once; which ones share a row changes with the epoch.
    """

    lengths: Lengths
    ids: np.ndarray
    """[n] usable sentences."""
    shape: Shape
    update_freq: tuple[int, ...]
    seed: int
    shuffle: bool = True

    @classmethod
    def create(
        cls, lengths: Lengths, ids: np.ndarray, *, pack_length: int, max_tokens: int | None,
        max_sentences: int | None, multiple: int, hard_multiple: int,
        update_freq: tuple[int, ...], seed: int, shuffle: bool,
    ) -> PackedPlan:
        """Chooses the shape; the arguments are `planning.make_plan`'s."""
        rows = rows_within(
            pack_length, max_tokens=max_tokens, max_sentences=max_sentences,
            multiple=multiple, hard_multiple=hard_multiple,
        )
        sides = (lengths.source, lengths.target)
        shape = Shape(rows, *(0 if side is None else pack_length for side in sides))
        return cls(
            lengths=lengths, ids=ids, shape=shape, update_freq=update_freq, seed=seed,
            shuffle=shuffle,
        )

    @property
    def shapes(self) -> tuple[tuple[int, Shape], ...]:
        return tuple((g, self.shape) for g in sorted(set(self.update_freq)))

    @property
    def packed(self) -> bool:
        return True

    def epoch(self, epoch: int, *, start: int = 0) -> EpochPlan:
        groups = self.update_freq[min(epoch, len(self.update_freq)) - 1]
        rng = epoch_rng(self.seed, epoch)
        ids = self.ids
        if self.shuffle:
            ids = ids[rng.permutation(len(ids))]
        capacity = max(self.shape.source, self.shape.target)
        row, count = pack_blocks(
            self.lengths.side("source")[ids], self.lengths.side("target")[ids],
            capacity=capacity,
        )
        if self.shuffle:
            row = rng.permutation(count)[row]
        order = np.argsort(row, kind="stable")
        row = row[order]
        batches = -(-count // self.shape.rows)
        bounds = np.searchsorted(row, np.arange(batches + 1) * self.shape.rows)
        updates, start = skip_updates(group_in_order(batches, groups), start)
        return EpochPlan(
            epoch=epoch, lengths=self.lengths,
            shapes=np.tile(np.array([self.shape], np.int32), (batches, 1)),
            bounds=bounds, ids=ids[order], rows=(row % self.shape.rows).astype(np.int32),
            updates=updates, packed=True, start=start,
        )

    def describe(self) -> str:
        sample = dataclasses.replace(self, ids=self.ids[:_BLOCK], update_freq=(1,)).epoch(1)
        rows = len(sample) * self.shape.rows * len(self.ids) / len(sample.ids)
        return (
            f"packed: {len(self.ids)} sentences in about {rows:.0f} rows, "
            f"{sample.efficiency:.1%} of the positions hold tokens, one shape "
            f"(rows x source x target): "
            f"{self.shape.rows}x{self.shape.source}x{self.shape.target}"
        )
