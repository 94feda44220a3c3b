"""Batches in the order of a plan, one after the other, resumable from two integers.

A plan and a dataset go in; `Batch`es of NumPy arrays come out. `pipeline` makes the same
batches ahead of time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from seqjax.data.audio.reading import AudioError
from seqjax.data.epoch_plan import EpochPlan, Lengths, Shape, TrainPlan, Update


class Dataset(Protocol):
    """What a plan's sentence numbers mean; `pairs.PairDataset` is one.

    One whose samples are drawn anew every epoch has `at_epoch(epoch)` as well, which gives the
    data of that epoch (`noised_blocks.NoisedBlocks`). One of which an epoch has not every sample
    once has a `mixture`, which draws them (`resampling.Resampling`).
    """

    def __len__(self) -> int: ...

    @property
    def lengths(self) -> Lengths: ...

    def materialise(
        self, ids: np.ndarray, rows: np.ndarray, shape: Shape, *, packed: bool = False
    ) -> dict[str, np.ndarray]: ...


@dataclasses.dataclass(frozen=True)
class DataState:
    """A place in the data: all that a checkpoint holds of it."""

    epoch: int = 1
    """1-based."""
    batch: int = 0
    """Micro-batches of that epoch already consumed (fairseq's `iterations_in_epoch`)."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """One update's arrays and what the host knows of it."""

    arrays: dict[str, Any]
    """int32 [G, B, ...]; [B, ...] from `epoch_batches`. As `transfer` returned them."""
    ids: np.ndarray
    """int64 [G, B], or [B]: the sentence in each row, -1 for none. Packed: a last axis
    over the sentences of a row. This process's rows only."""
    epoch: int
    step: int
    """0-based update of the epoch."""
    updates: int
    """Updates of the whole epoch."""
    last: bool
    """The epoch ends with this batch."""
    state: DataState
    """Where to continue after this batch."""
    groups: int
    shape: Shape
    """Of each micro-batch, over all processes."""
    nsentences: int
    """Over all processes, as are the token counts."""
    ntokens: int
    """Target tokens (source tokens where there is no target)."""
    source_tokens: int
    padding: float
    """Share of positions that are padding."""


def assemble(
    update: Update, dataset: Dataset, *, shard: tuple[int, int] = (0, 1), stacked: bool = True,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Arrays and ids of one update.

    Args:
      shard: (index, count) of processes: only its contiguous part of the rows of every
        micro-batch is made.
      stacked: keep the leading axis G; else G must be 1.

    Raises:
      RuntimeError: making it failed; names epoch, update and first sentences. Of a recording that
        cannot be used, a ValueError.
    """
    index, count = shard
    groups, shape = update.groups, update.shape
    if shape.rows % count:
        raise ValueError(f"{shape.rows} rows cannot be shared by {count} processes")
    ids, rows = update.ids, update.rows
    local = Shape(shape.rows // count, shape.source, shape.target)
    if count > 1:
        group, row = np.divmod(rows, shape.rows)
        mine = row // local.rows == index
        ids = ids[mine]
        rows = group[mine] * local.rows + row[mine] - index * local.rows
    at_epoch = getattr(dataset, "at_epoch", None)
    try:
        arrays = (dataset if at_epoch is None else at_epoch(update.epoch)).materialise(
            ids, rows, Shape(groups * local.rows, shape.source, shape.target),
            packed=update.packed,
        )
    except Exception as error:
        # What is wrong with a recording is the input's fault, which is told without a traceback.
        kind = ValueError if isinstance(error, AudioError) else RuntimeError
        raise kind(
            f"epoch {update.epoch}, update {update.index}: cannot make the batch of sentences "
            f"{_few(ids)}: {error}"
        ) from error
    lead = (groups, local.rows) if stacked else (local.rows,)
    if not stacked and groups != 1:
        raise ValueError(f"an update of {groups} micro-batches must be stacked")
    arrays = {k: v.reshape(*lead, *v.shape[1:]) for k, v in arrays.items()}
    return arrays, _ids_by_row(ids, rows, groups * local.rows, packed=update.packed).reshape(
        *lead, *(() if not update.packed else (-1,))
    )


def _ids_by_row(ids: np.ndarray, rows: np.ndarray, count: int, *, packed: bool) -> np.ndarray:
    if not packed:
        out = np.full(count, -1, np.int64)
        out[rows] = ids
        return out
    sizes = np.bincount(rows, minlength=count)
    out = np.full((count, max(1, int(sizes.max(initial=0)))), -1, np.int64)
    out[np.arange(out.shape[1]) < sizes[:, None]] = ids
    return out


def _few(ids: np.ndarray) -> str:
    return f"{ids[:8].tolist()}" + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")


class TrainIterator:
    """Batches of epoch after epoch, made when asked for.

    Args:
      plan: `planning.make_plan`'s.
      dataset: what its sentence numbers mean.
      state: where to begin; `TrainIterator(state=batch.state)` continues after `batch`
        with the very batches an uninterrupted run would have seen.
      shard: (index, count) of processes.

    Attributes:
      state: where the next batch is.
    """

    def __init__(
        self, plan: TrainPlan, dataset: Dataset, *, state: DataState | None = None,
        shard: tuple[int, int] = (0, 1),
    ):
        self.plan, self.dataset, self.shard = plan, dataset, shard
        self.state = state if state is not None else DataState()
        self._places = places(plan, self.state)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        epoch_plan, index = next(self._places)
        update = epoch_plan.update(index)
        arrays, ids = assemble(update, self.dataset, shard=self.shard)
        batch = describe_batch(epoch_plan, index, update, arrays, ids)
        self.state = batch.state
        return batch

    def close(self) -> None:
        """Nothing runs in the background; here so that all iterators are used alike."""

    def __enter__(self) -> TrainIterator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def places(plan: TrainPlan, state: DataState) -> Iterator[tuple[EpochPlan, int]]:
    """(epoch plan, index of the update in it) from `state` on, without end."""
    epoch, start = state.epoch, state.batch
    while True:
        epoch_plan = plan.epoch(epoch, start=start)
        if not len(epoch_plan) and not start:
            raise ValueError(f"epoch {epoch} has no batches")
        for index in range(len(epoch_plan)):
            yield epoch_plan, index
        epoch, start = epoch + 1, 0


def describe_batch(
    epoch_plan: EpochPlan, index: int, update: Update, arrays: dict[str, Any], ids: np.ndarray,
) -> Batch:
    """A `Batch` with what the host knows of an update."""
    last = index == len(epoch_plan) - 1
    return Batch(
        arrays=arrays, ids=ids, epoch=update.epoch, step=update.index,
        updates=update.index + len(epoch_plan) - index, last=last,
        state=DataState(update.epoch + 1, 0) if last else DataState(update.epoch, update.consumed),
        groups=update.groups, shape=update.shape, nsentences=update.nsentences,
        ntokens=update.ntokens, source_tokens=update.source_tokens, padding=update.padding,
    )


def epoch_batches(
    plan: TrainPlan | EpochPlan, dataset: Dataset, *, shard: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """One pass without update grouping (validation, decoding): arrays are [B, ...]."""
    epoch_plan = plan if isinstance(plan, EpochPlan) else plan.epoch(1)
    for index in range(len(epoch_plan)):
        update = epoch_plan.update(index)
        arrays, ids = assemble(update, dataset, shard=shard, stacked=False)
        yield describe_batch(epoch_plan, index, update, arrays, ids)
