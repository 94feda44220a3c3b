"""fairseq's own batches in fairseq's own order, for those who reproduce a run.

Order, filter, `batch_by_size`, the frozen composition, the per-epoch shuffle of batches,
the grouping into updates and the sharing between workers follow fairseq (its
`LanguagePairDataset`, `batch_by_size` and `EpochBatchIterator`), checked against recorded
runs. Lengths go in, an `EpochPlan` comes out. Batches are padded to a bounded menu of shapes,
which changes no number: padding has no weight.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from seqjax.data.epoch_plan import (
    EpochPlan,
    Lengths,
    Shape,
    group_in_order,
)

_MENU_CANDIDATES = 768


def ordered_ids(lengths: Lengths, *, seed: int, shuffle: bool = True) -> np.ndarray:
    """[N] int64: fairseq's `ordered_indices` under `numpy_seed(seed)`.

    Pairs: a permutation, then stable sorts by target and by source length
    (`LanguagePairDataset`). Targets alone: by length, ties by what the permutation holds at
    their index (`MonolingualDataset`). Where the data have an order of their own: that. Where they
    say how ties are ordered: by length and that.
    """
    if lengths.order is not None:
        return lengths.order.astype(np.int64)
    n = len(lengths)
    if lengths.ties is not None:
        size = lengths.side("source" if lengths.target is None else "target")
        return np.lexsort((lengths.ties, size)).astype(np.int64)
    order = np.random.RandomState(seed).permutation(n) if shuffle else np.arange(n)
    if lengths.source is None:
        return np.lexsort((order, lengths.side("target"))).astype(np.int64)
    for side in (lengths.target, lengths.source):
        if side is not None:
            order = order[np.argsort(side[order], kind="stable")]
    return order.astype(np.int64)


def batch_by_size(
    num_tokens: np.ndarray, *, max_tokens: int | None, max_sentences: int | None,
    multiple: int,
) -> np.ndarray:
    """Where fairseq cuts a sequence of sentences into batches.

    A batch holds less than `multiple` sentences or a multiple of it, and sentences times
    longest sentence is at most `max_tokens`. A batch is closed when the next sentence
    would overflow it; what is beyond its last allowed size opens the next one, or, if
    already too big together with that sentence, is a batch of its own.

    Args:
      num_tokens: [n] in fairseq's order.

    Returns:
      [M + 1] int64 bounds; the last batch may have any size (fairseq's training drops it
      then, see `FairseqPlan`).

    Raises:
      ValueError: a sentence over `max_tokens`, by its place in `num_tokens`.
    """
    n = len(num_tokens)
    tokens = num_tokens.astype(np.int64)
    if max_tokens and n and tokens.max() > max_tokens:
        place = int(tokens.argmax())
        raise ValueError(f"place {place}: {tokens[place]} tokens exceed max_tokens={max_tokens}")
    bounds, start = [0], 0
    while start < n:
        fits = _fitting(tokens, start, max_tokens, max_sentences)
        allowed = fits if fits < multiple else fits // multiple * multiple
        end, over = start + allowed, start + fits
        bounds.append(end)
        if over < n and over > end and max_tokens:
            if (over + 1 - end) * tokens[end:over + 1].max() > max_tokens:
                bounds.append(over)
                end = over
        elif over == n and over > end:
            bounds.append(over)
            end = over
        start = end
    return np.array(bounds, np.int64)


def _fitting(
    tokens: np.ndarray, start: int, max_tokens: int | None, max_sentences: int | None
) -> int:
    """How many sentences from `start` on fit the budgets (at least one)."""
    limit = len(tokens) - start
    if max_sentences:
        limit = min(limit, max_sentences)
    if not max_tokens:
        return limit
    # The first sentence bounds the count: the longest is at least as long as it.
    limit = max(1, min(limit, max_tokens // max(1, int(tokens[start]))))
    longest = np.maximum.accumulate(tokens[start:start + limit])
    over = longest * np.arange(1, limit + 1) > max_tokens
    return int(over.argmax()) if over.any() else limit


def shuffled(batches: int, *, seed: int) -> np.ndarray:
    """[M]: the order into which fairseq shuffles a list of batches under `numpy_seed(seed)`."""
    order = np.arange(batches)
    np.random.RandomState(seed).shuffle(order)
    return order


def shape_menu(
    rows: np.ndarray, source: np.ndarray, target: np.ndarray, *, num_shapes: int,
    chain: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """At most `num_shapes` shapes, each holding a run of batches, with the least area.

    Batches in order of length have falling row counts, so runs of that order lose little.

    Args:
      rows, source, target: [M] what each batch needs, already rounded up.
      chain: make lengths grow and rows fall along the menu, so that the maximum of any
        entries is the maximum of the first and the last of them (updates of several
        batches then need at most K (K + 1) / 2 shapes).

    Returns:
      shapes [K, 3] int32 and the shape of each batch, [M].
    """
    needs, inverse, counts = np.unique(
        np.stack([np.maximum(source, target), rows, source, target], axis=1),
        axis=0, return_inverse=True, return_counts=True,
    )
    cuts = _best_cuts(needs[:, 1:], counts, num_shapes)
    shapes = np.maximum.reduceat(needs[:, 1:], cuts[:-1]).astype(np.int32)
    if chain:
        shapes[:, 1:] = np.maximum.accumulate(shapes[:, 1:])
        shapes[:, 0] = np.maximum.accumulate(shapes[::-1, 0])[::-1]
    run_of = np.repeat(np.arange(len(shapes)), np.diff(cuts))
    return shapes, run_of[inverse.reshape(-1)]


def _best_cuts(needs: np.ndarray, counts: np.ndarray, num_shapes: int) -> np.ndarray:
    """[K + 1] bounds of at most `num_shapes` runs with the least padded area in all."""
    n = len(needs)
    if n <= num_shapes:
        return np.arange(n + 1)
    # Dynamic programming is quadratic: beyond this many, neighbours are joined first.
    edges = np.unique(np.linspace(0, n, min(n, _MENU_CANDIDATES) + 1).astype(int))
    needs = np.maximum.reduceat(needs, edges[:-1]).astype(np.float64)
    total = np.concatenate([[0], np.cumsum(np.add.reduceat(counts, edges[:-1]))])
    n = len(needs)
    cost = np.full((n, n + 1), np.inf)
    for a in range(n):
        r, s, t = np.maximum.accumulate(needs[a:], axis=0).T
        cost[a, a + 1:] = r * (s + t) * (total[a + 1:] - total[a])
    best, parents = cost[0], []
    for _ in range(num_shapes - 1):
        through = best[:-1, None] + cost
        parents.append(through.argmin(axis=0))
        best = through.min(axis=0)
    cuts = [n]
    for parent in reversed(parents):
        cuts.append(int(parent[cuts[-1]]))
    return edges[[0, *reversed(cuts)]]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FairseqPlan:
    """fairseq's epochs; see `planning.make_plan`.

    The composition is made once, under seed + `composition_epoch`; each epoch shuffles
    whole batches under seed + epoch. With several workers, worker r gets batches
    r, r + W, ..., so that one update is W * update_freq batches in a row.
    """

    lengths: Lengths
    ids: np.ndarray
    """[n] all batches, one after the other; rows of a batch by falling source length, ties in
    fairseq's order of sentences (torch's sort leaves ties of a large batch in another)."""
    bounds: np.ndarray
    """[M + 1]."""
    batch_shapes: np.ndarray
    """[M, 3]: the menu entry of each batch."""
    update_freq: tuple[int, ...]
    workers: int
    seed: int
    shuffle: bool
    dropped: int
    """Sentences of the final batch that fairseq's training leaves out."""

    @classmethod
    def create(
        cls, lengths: Lengths, *, max_source: int | None, max_target: int | None,
        max_tokens: int | None, max_sentences: int | None, multiple: int,
        hard_multiple: int, length_multiple: int, num_shapes: int,
        update_freq: tuple[int, ...], seed: int, train: bool, composition_epoch: int,
        workers: int, shuffle_ties: bool,
    ) -> FairseqPlan:
        """Composes the batches; the arguments are `planning.make_plan`'s."""
        if not max_tokens and not max_sentences:
            raise ValueError(
                "set batching.max_tokens or batching.max_sentences: batches have no limit"
            )
        ids = ordered_ids(lengths, seed=seed + composition_epoch, shuffle=shuffle_ties)
        keep = np.ones(len(ids), bool)
        for side, limit in ((lengths.source, max_source), (lengths.target, max_target)):
            if side is not None:
                keep &= side[ids] > 0
                if limit is not None:
                    keep &= side[ids] <= limit
        ids = ids[keep]
        longest = lengths.longest[ids]
        if max_tokens and longest.max() > max_tokens:
            i = int(longest.argmax())
            raise ValueError(
                f"sentence {int(ids[i])} has {int(longest[i])} tokens, which is more than "
                f"batching.max_tokens={max_tokens}; set it higher, or limit lengths"
            )
        bounds = batch_by_size(
            longest, max_tokens=max_tokens, max_sentences=max_sentences, multiple=multiple
        )
        dropped = int(bounds[-1] - bounds[-2])
        if train and multiple > 1 and dropped % multiple:
            if len(bounds) == 2:
                raise ValueError(
                    f"the data has {dropped} usable sentences, and fairseq drops a final batch "
                    f"whose size is not a multiple of required_batch_size_multiple={multiple}: "
                    f"nothing is left; set batching.required_batch_size_multiple=1"
                )
            bounds = bounds[:-1]
        else:
            dropped = 0
        ids = ids[:bounds[-1]]
        batch = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        ids = ids[np.lexsort((np.arange(len(ids)), -lengths.side("source")[ids], batch))]
        return cls(
            lengths=lengths, ids=ids, bounds=bounds,
            batch_shapes=_padded_shapes(
                lengths, ids, bounds, multiple=multiple, hard_multiple=hard_multiple,
                length_multiple=length_multiple, num_shapes=num_shapes,
                chain=max(update_freq) * workers > 1,
            ),
            update_freq=update_freq, workers=workers, seed=seed, shuffle=train, dropped=dropped,
        )

    @property
    def packed(self) -> bool:
        return False

    def epoch(self, epoch: int, *, start: int = 0) -> EpochPlan:
        freq = self.update_freq[min(epoch, len(self.update_freq)) - 1]
        batches = len(self.bounds) - 1
        order = shuffled(batches, seed=self.seed + epoch) if self.shuffle else np.arange(batches)
        left = order[start:]
        grouped = group_in_order(len(left), freq * self.workers)
        updates = np.where(grouped >= 0, np.append(left, -1)[grouped], -1).astype(np.int32)
        rows = np.arange(len(self.ids)) - np.repeat(self.bounds[:-1], np.diff(self.bounds))
        return EpochPlan(
            epoch=epoch, lengths=self.lengths, shapes=self.batch_shapes, bounds=self.bounds,
            ids=self.ids, rows=rows.astype(np.int32), updates=updates, start=start,
        )

    @property
    def shapes(self) -> tuple[tuple[int, Shape], ...]:
        """With G > 1 an update is padded to the maximum of its batches: the menu is then
        a chain, and these are the maxima of any two of its entries."""
        menu = np.unique(self.batch_shapes, axis=0)
        found: set[tuple[int, Shape]] = set()
        for freq in set(self.update_freq):
            groups = freq * self.workers
            entries = menu
            if groups > 1:
                entries = np.maximum(menu[:, None], menu[None]).reshape(-1, 3)
            found |= {(groups, Shape(*map(int, s))) for s in entries}
        return tuple(sorted(found))

    def describe(self) -> str:
        plan = self.epoch(1)
        return (
            f"fairseq: {len(self.bounds) - 1} batches of {len(self.ids)} sentences in "
            f"{len(plan)} updates an epoch, {plan.efficiency:.1%} of the positions hold tokens, "
            f"{len(np.unique(self.batch_shapes, axis=0))} shapes of batches, "
            f"{len(plan.update_shapes())} of updates in epoch 1; {self.dropped} sentences are in "
            f"the final batch that fairseq drops"
        )


def _padded_shapes(
    lengths: Lengths, ids: np.ndarray, bounds: np.ndarray, *, multiple: int,
    hard_multiple: int, length_multiple: int, num_shapes: int, chain: bool,
) -> np.ndarray:
    """[M, 3]: every batch's shape, rounded up and then put on the menu."""
    rows = np.diff(bounds)
    both = int(np.lcm(multiple, hard_multiple))
    rows = -(-rows // both) * both
    sides = []
    for name in ("source", "target"):
        longest = np.maximum.reduceat(lengths.side(name)[ids], bounds[:-1])
        sides.append(-(-longest // length_multiple) * length_multiple)
    shapes, entry = shape_menu(rows, *sides, num_shapes=num_shapes, chain=chain)
    return shapes[entry]
