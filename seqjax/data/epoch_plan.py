"""What a plan of an epoch is made of: lengths in, micro-batches and updates out.

Pure NumPy over sentence lengths. The modes
(`bucketing`, `packing`, `fairseq_order`) fill an `EpochPlan`; `pipeline` walks over it.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from typing import NamedTuple, Protocol

import numpy as np

logger = logging.getLogger(__name__)


class Shape(NamedTuple):
    """The static shape of one micro-batch. A side of length 0 is absent."""

    rows: int
    source: int
    target: int

    @property
    def tokens(self) -> int:
        """Positions on both sides, padding included."""
        return self.rows * (self.source + self.target)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Lengths:
    """Tokens of every sentence, final eos included: all that planning ever sees."""

    source: np.ndarray | None = None
    """[N] int32, or None where there is no source (language models)."""
    target: np.ndarray | None = None
    """[N] int32, or None where there is no target (decoding)."""
    order: np.ndarray | None = None
    """[N]: the sentences in the order in which fairseq cuts them into batches
    (`batching.mode=fairseq`), of data that it does not sort by length; None: it does."""
    ties: np.ndarray | None = None
    """[N]: fairseq's order of sentences that are as long (`batching.mode=fairseq`), lower ones
    first; None: what its datasets of sentences have."""

    def __post_init__(self) -> None:
        if self.source is None and self.target is None:
            raise ValueError("Lengths needs a source or a target")
        if self.source is not None and self.target is not None:
            if len(self.source) != len(self.target):
                raise ValueError(
                    f"{len(self.source)} source sentences but {len(self.target)} target sentences"
                )

    def __len__(self) -> int:
        side = self.source if self.source is not None else self.target
        assert side is not None
        return len(side)

    @functools.cached_property
    def longest(self) -> np.ndarray:
        """[N]: the longer side, what token budgets count (fairseq's `num_tokens`)."""
        if self.source is None or self.target is None:
            side = self.source if self.source is not None else self.target
            assert side is not None
            return side
        return np.maximum(self.source, self.target)

    def side(self, name: str) -> np.ndarray:
        """[N]: lengths of `source` or `target`; zeros where the side is absent."""
        values = self.source if name == "source" else self.target
        return np.zeros(len(self), np.int32) if values is None else values


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Update:
    """One update: G micro-batches of one shape, seen as one array of G * rows rows."""

    epoch: int
    index: int
    """0-based number of the update in its epoch."""
    consumed: int
    """Micro-batches of the epoch consumed once this update is done."""
    groups: int
    """G."""
    shape: Shape
    """Of each micro-batch."""
    ids: np.ndarray
    """[n] int64: the sentences, in row order."""
    rows: np.ndarray
    """[n] int32, not decreasing: the row of each, 0 .. G * shape.rows - 1."""
    packed: bool
    micro_batches: int
    """Micro-batches that hold sentences; the other G - micro_batches are all padding."""
    source_tokens: int
    target_tokens: int

    @property
    def nsentences(self) -> int:
        return len(self.ids)

    @property
    def ntokens(self) -> int:
        """Target tokens, or source tokens where there is no target (fairseq's `ntokens`)."""
        return self.target_tokens if self.shape.target else self.source_tokens

    @property
    def padding(self) -> float:
        """Share of the positions, both sides together, that are padding."""
        return 1.0 - (self.source_tokens + self.target_tokens) / (
            self.groups * self.shape.tokens
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class EpochPlan:
    """Every micro-batch of one epoch and how they form updates.

    M micro-batches, U updates, n planned sentences.
    """

    epoch: int
    """1-based."""
    lengths: Lengths
    shapes: np.ndarray
    """[M, 3] int32: rows, source length, target length."""
    bounds: np.ndarray
    """[M + 1] int64: micro-batch m holds `ids[bounds[m]:bounds[m + 1]]`."""
    ids: np.ndarray
    """[n] int64, in row order within a micro-batch."""
    rows: np.ndarray
    """[n] int32: row within the micro-batch; several sentences a row if `packed`."""
    updates: np.ndarray
    """[U, G] int32: micro-batches of each update; -1 is a micro-batch of padding."""
    packed: bool = False
    start: int = 0
    """Micro-batches of the epoch that were consumed before the first of these updates."""

    def __len__(self) -> int:
        return len(self.updates)

    @property
    def groups(self) -> int:
        """G: micro-batches of an update."""
        return self.updates.shape[1]

    def update(self, index: int) -> Update:
        """Update `index` (0-based) of those left; micro-batches are padded to one shape."""
        micro = self.updates[index]
        real = micro[micro >= 0].tolist()
        if len(real) == 1:
            a, b = self.bounds[real[0]], self.bounds[real[0] + 1]
            shape = Shape(*self.shapes[real[0]].tolist())
            ids, rows = self.ids[a:b], self.rows[a:b]
        else:
            shape = Shape(*self.shapes[real].max(axis=0).tolist())
            spans = [slice(self.bounds[m], self.bounds[m + 1]) for m in real]
            ids = np.concatenate([self.ids[span] for span in spans])
            rows = np.concatenate(
                [self.rows[span] + g * shape.rows for g, span in enumerate(spans)]
            )
        return Update(
            epoch=self.epoch, index=-(-self.start // self.groups) + index,
            consumed=self.start + (index + 1) * self.groups,
            groups=len(micro), shape=shape, ids=ids,
            rows=rows.astype(np.int32, copy=False),
            packed=self.packed, micro_batches=len(real),
            source_tokens=self._tokens("source", ids), target_tokens=self._tokens("target", ids),
        )

    def _tokens(self, name: str, ids: np.ndarray) -> int:
        values = getattr(self.lengths, name)
        return 0 if values is None else int(values[ids].sum(dtype=np.int64))

    def update_shapes(self) -> set[tuple[int, Shape]]:
        """The distinct (G, shape): as many compiled steps as an epoch needs."""
        padded = np.where(
            (self.updates >= 0)[..., None], self.shapes[self.updates], 0
        ).max(axis=1)
        return {(self.groups, Shape(*map(int, s))) for s in np.unique(padded, axis=0)}

    @functools.cached_property
    def efficiency(self) -> float:
        """Real tokens of both sides over all positions of all updates."""
        padded = np.where((self.updates >= 0)[..., None], self.shapes[self.updates], 0)
        padded = padded.max(axis=1).astype(np.int64)
        positions = self.groups * (padded[:, 0] * (padded[:, 1] + padded[:, 2])).sum()
        tokens = self._tokens("source", self.ids) + self._tokens("target", self.ids)
        return float(tokens / positions)


class TrainPlan(Protocol):
    """All epochs of a run: what `planning.make_plan` returns."""

    @property
    def shapes(self) -> tuple[tuple[int, Shape], ...]:
        """(G, shape) of every update that any epoch can hold: what must be compiled."""
        ...

    @property
    def packed(self) -> bool:
        """Several sentences share a row, and batches have `*_segments`."""
        ...

    def epoch(self, epoch: int, *, start: int = 0) -> EpochPlan:
        """The plan of a 1-based epoch, a pure function of its arguments; the updates
        left after its first `start` micro-batches (a multiple of G where nothing else
        is said)."""
        ...

    def describe(self) -> str:
        """One line for the log: mode, sentences, shapes, efficiency."""
        ...


def epoch_rng(seed: int, epoch: int) -> np.random.RandomState:
    """Random numbers of one epoch. `RandomState` because its streams are frozen for good."""
    return np.random.RandomState(np.array([seed & 0xFFFFFFFF, epoch], np.uint32))


def group_in_order(micro_batches: int, groups: int) -> np.ndarray:
    """[U, G]: consecutive micro-batches, the last update filled up with -1."""
    updates = -(-micro_batches // groups)
    order = np.full(updates * groups, -1, np.int32)
    order[:micro_batches] = np.arange(micro_batches)
    return order.reshape(updates, groups)


def skip_updates(updates: np.ndarray, start: int) -> tuple[np.ndarray, int]:
    """Updates [U', G] left after `start` consumed micro-batches, and where they begin.

    Only whole updates can be skipped: a `start` within one (update_freq was changed
    between two runs) counts as its end, as fairseq does.
    """
    groups = updates.shape[1]
    skipped = -(-start // groups)
    return updates[skipped:], skipped * groups


def round_up(value: int, multiple: int) -> int:
    """The least multiple of `multiple` that is not less than `value`."""
    return -(-value // multiple) * multiple


def usable_ids(
    lengths: Lengths,
    *,
    max_source: int | None,
    max_target: int | None,
    drop: bool,
    reason: str = "max_positions",
    hint: str = ("set batching.skip_invalid_size_inputs_valid_test=True to skip such sentences, or "
                 "cut them, where the task can: config.task.shorten_method=truncate"),
) -> np.ndarray:
    """[n] int64, ascending: sentences within the limits and not empty.

    Args:
      drop: drop the others with one warning (fairseq's training); else raise
        (fairseq's validation and test).
      reason: the name of the limit, for the message.
      hint: what to do, for the error.

    Raises:
      ValueError: naming the first sentence over a limit and its lengths, or that
        nothing is left.
    """
    bad = np.zeros(len(lengths), bool)
    for side, limit in ((lengths.source, max_source), (lengths.target, max_target)):
        if side is not None:
            bad |= side < 1
            if limit is not None:
                bad |= side > limit
    if bad.any():
        first = np.flatnonzero(bad)[:10]
        limits = f"(source {max_source}, target {max_target})"
        if not drop:
            i = int(first[0])
            raise ValueError(
                f"sentence {i} has {_sizes(lengths, i)}, which is not within "
                f"{reason} {limits}; {hint}"
            )
        logger.warning(
            "%d of %d sentences are not within %s %s and are skipped; the first are %s",
            int(bad.sum()), len(bad), reason, limits, first.tolist(),
        )
    ids = np.flatnonzero(~bad).astype(np.int64)
    if not len(ids):
        raise ValueError(
            "the data holds no sentence" if not len(lengths)
            else f"no sentence of {len(lengths)} is within {reason} "
            f"(source {max_source}, target {max_target})"
        )
    return ids


def _sizes(lengths: Lengths, i: int) -> str:
    parts = [
        f"{int(side[i])} {name} tokens"
        for name, side in (("source", lengths.source), ("target", lengths.target))
        if side is not None
    ]
    return " and ".join(parts)


def rows_within(
    longest: int, *, max_tokens: int | None, max_sentences: int | None,
    multiple: int, hard_multiple: int, sentence: int | None = None,
) -> int:
    """Rows of a batch whose longest side is `longest` tokens.

    As many as the budgets allow, a multiple of `multiple` where they hold that many, and
    always of `hard_multiple` (what the mesh or the processes divide).

    Raises:
      ValueError: the budget does not hold `hard_multiple` rows; names `sentence`.
    """
    rows = min(
        max_sentences if max_sentences else 1 << 30,
        max_tokens // longest if max_tokens else 1 << 30,
    )
    if rows == 1 << 30:
        raise ValueError("set batching.max_tokens or batching.max_sentences: batches have no limit")
    both = int(np.lcm(multiple, hard_multiple))
    rows = rows // both * both if rows >= both else rows // hard_multiple * hard_multiple
    if rows < 1:
        name = "a sentence" if sentence is None else f"sentence {sentence}"
        if max_tokens and max_tokens // longest < hard_multiple:
            raise ValueError(
                f"{name} is {longest} tokens long (padded), and batching.max_tokens={max_tokens} "
                f"does not hold {hard_multiple} row(s) of it, which the devices need; set "
                f"batching.max_tokens to {longest * hard_multiple} or more, or limit lengths"
            )
        raise ValueError(
            f"batching.max_sentences={max_sentences} does not hold the {hard_multiple} rows "
            f"that the devices need"
        )
    return rows
