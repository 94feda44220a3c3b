"""Batches in the order of a plan, made ahead of time, resumable from two integers.

    with open_batches(plan, dataset, batching=config.batching, state=DataState(),
                      transfer=put_on_devices) as batches:
        for batch in batches:               # endless: epoch after epoch
            step(batch.arrays)
            if batch.last: ...              # the epoch is over
            save(batch.state)               # continue from here, exactly

    for batch in epoch_batches(plan_or_epoch_plan, dataset): ...   # validation, decoding

It knows no tokens, no model and no TensorFlow (`tfdata` is its other back end).
"""

from __future__ import annotations

import dataclasses
import importlib.util
import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from seqjax.config import BatchingConfig
from seqjax.data.epoch_plan import EpochPlan, Shape, TrainPlan, Update

Transfer = Callable[[dict[str, np.ndarray]], dict[str, Any]]
"""Puts a batch's arrays on the devices; called in the background, one batch at a time."""


class Dataset(Protocol):
    """What a plan's sentence numbers mean; `pairs.PairDataset` is one."""

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
      RuntimeError: making it failed; names epoch, update and first sentences.
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
    try:
        arrays = dataset.materialise(
            ids, rows, Shape(groups * local.rows, shape.source, shape.target),
            packed=update.packed,
        )
    except Exception as error:
        raise RuntimeError(
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
    """A `Batch` with the host-side facts of an update."""
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


class Prefetcher:
    """Another iterator's batches, made in a thread ahead of their use.

    Args:
      batches: makes them; closed with this.
      size: batches kept ready.
      transfer: applied to their arrays in the thread, so that the copy to the devices
        is under way before the step asks for it.

    An exception in the thread is raised by `next` at the place where the batch would have
    been. After that, after the last batch, after `close`, and once nobody refers to this
    any more, the thread is gone.

    Attributes:
      state: where the batch after the last one handed out is.
    """

    def __init__(
        self, batches: Iterator[Batch], *, size: int = 2, transfer: Transfer | None = None,
    ):
        if size < 1:
            raise ValueError(f"batching.prefetch={size}: at least one batch must be made ahead")
        self.state: DataState | None = getattr(batches, "state", None)
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=size)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=_make_ahead, args=(batches, transfer, self._queue, self._stop),
            name="seqjax-batches", daemon=True,
        )
        self._finish = weakref.finalize(self, _finish, batches, self._thread, self._stop)
        self._thread.start()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._stop.is_set():
            raise StopIteration
        kind, value = self._queue.get()
        if kind == "batch":
            self.state = value.state
            return value
        self.close()
        if kind == "error":
            raise value
        raise StopIteration

    def close(self) -> None:
        """Stops the thread; batches made ahead are dropped. May be called twice."""
        self._finish()

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _make_ahead(
    batches: Iterator[Batch], transfer: Transfer | None, ready: queue.Queue, stop: threading.Event
) -> None:
    """The thread. It must not refer to its Prefetcher, which could then never be collected."""

    def put(kind: str, value: Any) -> bool:
        while not stop.is_set():
            try:
                ready.put((kind, value), timeout=0.05)
                return True
            except queue.Full:
                continue
        return False

    try:
        for batch in batches:
            if transfer is not None:
                batch = dataclasses.replace(batch, arrays=transfer(batch.arrays))
            if not put("batch", batch):
                return
            del batch
        put("end", None)
    except BaseException as error:  # noqa: BLE001 (raised again by next)
        put("error", error)


def _finish(batches: Iterator[Batch], thread: threading.Thread, stop: threading.Event) -> None:
    stop.set()
    if thread.is_alive() and thread is not threading.current_thread():
        thread.join()
    close = getattr(batches, "close", None)
    if close is not None:
        close()


def open_batches(
    plan: TrainPlan,
    dataset: Dataset,
    *,
    batching: BatchingConfig,
    state: DataState | None = None,
    shard: tuple[int, int] = (0, 1),
    transfer: Transfer | None = None,
) -> Prefetcher:
    """Training batches, assembled and transferred in the background.

    `batching.backend` says by whom: `tfdata`, `numpy`, or `auto`, which is tf.data if
    TensorFlow is installed. Both give the same batches, bit for bit. Close it, or use it
    as a context manager.

    Raises:
      ModuleNotFoundError: `tfdata` without TensorFlow.
    """
    backend = batching.backend
    if backend == "auto":
        backend = "tfdata" if importlib.util.find_spec("tensorflow") else "numpy"
    if backend == "tfdata":
        from seqjax.data.tfdata import TfDataIterator

        batches: Any = TfDataIterator(
            plan, dataset, state=state, shard=shard, prefetch=batching.prefetch
        )
    else:
        batches = TrainIterator(plan, dataset, state=state, shard=shard)
    return Prefetcher(batches, size=batching.prefetch, transfer=transfer)
