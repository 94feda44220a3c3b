"""Token-budget batches on a small menu of static shapes: one sentence a row.

Lengths go in, an `EpochPlan` comes out. The menu is chosen from the lengths alone, before the
first epoch, so that every shape that will ever be compiled is known.
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
    round_up,
    rows_within,
    skip_updates,
)

_EDGES = 32
"""Candidate padded lengths of each side; the search is exact on this grid."""


def choose_lengths(
    source: np.ndarray, target: np.ndarray, *, num_shapes: int, length_multiple: int,
) -> list[tuple[int, int]]:
    """At most `num_shapes` padded (source, target) lengths with the least padding.

    The lengths grow together, each entry holding all that the one before holds; a
    sentence goes to the first entry that holds it. Dynamic programming over chains of
    candidate pairs, where an entry costs its new sentences times its positions.

    Args:
      source, target: [n] tokens; zeros where a side is absent.

    Returns:
      (S, T) in growing order; the last one holds every sentence.
    """
    if num_shapes < 1:
        raise ValueError(f"num_shapes={num_shapes}: at least one shape is needed")
    s_edges = _candidates(source, length_multiple)
    t_edges = _candidates(target, length_multiple)
    histogram = np.zeros((len(s_edges), len(t_edges)), np.int64)
    np.add.at(
        histogram, (np.searchsorted(s_edges, source), np.searchsorted(t_edges, target)), 1
    )
    held = histogram.cumsum(axis=0).cumsum(axis=1).ravel().astype(np.float64)
    s_of = np.repeat(s_edges, len(t_edges))
    t_of = np.tile(t_edges, len(s_edges))
    width = (s_of + t_of).astype(np.float64)
    before = (s_of[:, None] <= s_of[None, :]) & (t_of[:, None] <= t_of[None, :])
    step = np.where(before, (held[None, :] - held[:, None]) * width[None, :], np.inf)
    best = held * width
    parents: list[np.ndarray] = []
    for _ in range(num_shapes - 1):
        total = best[:, None] + step
        parent = total.argmin(axis=0)
        parents.append(parent)
        best = total[parent, np.arange(len(best))]
    node = len(best) - 1
    chain = [node]
    for parent in reversed(parents):
        if parent[node] != node:
            node = int(parent[node])
            chain.append(node)
    pairs = [(int(s_of[i]), int(t_of[i])) for i in reversed(chain)]
    return _without_unused(pairs, source, target)


def _candidates(lengths: np.ndarray, multiple: int) -> np.ndarray:
    """Growing padded lengths, the last one holding all: every multiple, or quantiles."""
    padded = np.unique(-(-lengths // multiple) * multiple)
    if len(padded) > _EDGES:
        # Quantiles of the tokens, not of the sentences: long sentences are where padding
        # is dear. Half of the edges are spread evenly, so that the tail has some too.
        order = np.sort(lengths)
        mass = np.cumsum(order, dtype=np.float64)
        wanted = np.searchsorted(mass, mass[-1] * np.linspace(0, 1, _EDGES * 3 // 4 + 1)[1:])
        quantiles = -(-order[np.minimum(wanted, len(order) - 1)] // multiple) * multiple
        even = padded[np.linspace(0, len(padded) - 1, _EDGES // 4).astype(int)]
        padded = np.unique(np.concatenate([quantiles, even, padded[-1:]]))
    return padded.astype(np.int64)


def assign(
    source: np.ndarray, target: np.ndarray, pairs: list[tuple[int, int]]
) -> np.ndarray:
    """[n]: the first entry of `pairs` that holds each sentence."""
    s_entry = np.searchsorted([s for s, _ in pairs], source)
    t_entry = np.searchsorted([t for _, t in pairs], target)
    return np.maximum(s_entry, t_entry).astype(np.int16)


def _without_unused(pairs, source, target) -> list[tuple[int, int]]:
    counts = np.bincount(assign(source, target, pairs), minlength=len(pairs))
    return [p for p, n in zip(pairs, counts, strict=True) if n]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class BucketedPlan:
    """Epochs of batches on a menu of shapes; see `planning.make_plan`.

    Every sentence is in every epoch once. Rows per batch are the same for all batches of
    a shape, as many as the budget allows, evened out so that no batch is left half empty;
    all micro-batches of an update have one shape.
    """

    lengths: Lengths
    ids: np.ndarray
    """[n] usable sentences."""
    bucket: np.ndarray
    """[n] int16: entry of `pairs` of each."""
    pairs: tuple[tuple[int, int], ...]
    max_rows: tuple[int, ...]
    """Rows that the budget allows, per entry."""
    row_multiple: int
    update_freq: tuple[int, ...]
    seed: int
    shuffle: bool = True
    even: bool = True
    """Whether rows are evened out over the batches of an entry, for which an epoch's sentences
    must always be the same."""

    @classmethod
    def create(
        cls, lengths: Lengths, ids: np.ndarray, *, max_tokens: int | None,
        max_sentences: int | None, num_shapes: int, length_multiple: int,
        multiple: int, hard_multiple: int, update_freq: tuple[int, ...], seed: int,
        shuffle: bool,
    ) -> BucketedPlan:
        """Chooses the menu; the arguments are `planning.make_plan`'s."""
        source, target = lengths.side("source")[ids], lengths.side("target")[ids]
        pairs = choose_lengths(
            source, target, num_shapes=num_shapes, length_multiple=length_multiple
        )
        # The last entry may be rounded up past what the budget or the model allows.
        limit = (int(source.max()), int(target.max()))
        longest = int(ids[lengths.longest[ids].argmax()])
        rows = []
        for k, (s, t) in enumerate(pairs):
            fits = max_tokens is None or max(s, t) * hard_multiple <= max_tokens
            if k == len(pairs) - 1 and not fits:
                pairs[k] = s, t = limit
            rows.append(rows_within(
                max(s, t), max_tokens=max_tokens, max_sentences=max_sentences,
                multiple=multiple, hard_multiple=hard_multiple, sentence=longest,
            ))
        return cls(
            lengths=lengths, ids=ids, bucket=assign(source, target, pairs),
            pairs=tuple(pairs), max_rows=tuple(rows),
            row_multiple=int(np.lcm(multiple, hard_multiple)), update_freq=update_freq,
            seed=seed, shuffle=shuffle,
        )

    def _batches(self, count: int, entry: int, groups: int) -> tuple[int, int]:
        """Micro-batches of an entry with `count` sentences, and the rows of each."""
        limit = self.max_rows[entry]
        if not self.even:
            return groups * -(-count // (groups * limit)), limit
        batches = groups * -(-count // (groups * limit))
        rows = -(-count // batches)
        return batches, min(limit, round_up(rows, self.row_multiple))

    def menu(self, groups: int) -> tuple[Shape, ...]:
        """The shapes of micro-batches when an update has `groups` of them."""
        counts = np.bincount(self.bucket, minlength=len(self.pairs))
        return tuple(
            Shape(self._batches(int(n), k, groups)[1], *self.pairs[k])
            for k, n in enumerate(counts)
        )

    @property
    def shapes(self) -> tuple[tuple[int, Shape], ...]:
        return tuple(
            (g, shape) for g in sorted(set(self.update_freq)) for shape in self.menu(g)
        )

    @property
    def packed(self) -> bool:
        return False

    def epoch(self, epoch: int, *, start: int = 0) -> EpochPlan:
        groups = self.update_freq[min(epoch, len(self.update_freq)) - 1]
        rng = epoch_rng(self.seed, epoch)
        order = rng.permutation(len(self.ids)) if self.shuffle else np.arange(len(self.ids))
        order = order[np.argsort(self.bucket[order], kind="stable")]
        counts = np.bincount(self.bucket, minlength=len(self.pairs))
        shapes, sizes = [], []
        for k, count in enumerate(counts.tolist()):
            batches, rows = self._batches(count, k, groups)
            shapes.append(np.tile(np.array([[rows, *self.pairs[k]]], np.int32), (batches, 1)))
            sizes.append((count + np.arange(batches)) // max(batches, 1))
        size = np.concatenate(sizes)
        bounds = np.concatenate([[0], np.cumsum(size)])
        updates = group_in_order(len(size), groups)
        # A micro-batch without sentences only comes with a tiny corpus and a large G.
        updates = np.where(size[updates] > 0, updates, -1)
        if self.shuffle:
            updates = updates[rng.permutation(len(updates))]
        updates, start = skip_updates(updates, start)
        return EpochPlan(
            epoch=epoch, lengths=self.lengths, shapes=np.concatenate(shapes), bounds=bounds,
            ids=self.ids[order],
            rows=(np.arange(len(order)) - np.repeat(bounds[:-1], size)).astype(np.int32),
            updates=updates, start=start,
        )

    def describe(self) -> str:
        plan = self.epoch(1)
        menu = ", ".join(f"{s.rows}x{s.source}x{s.target}" for _, s in self.shapes)
        return (
            f"bucketed: {len(self.ids)} sentences, {len(plan)} updates an epoch, "
            f"{plan.efficiency:.1%} of the positions hold tokens, "
            f"{len(self.shapes)} shapes (rows x source x target): {menu}"
        )
