"""Batches in the order of a plan, made ahead of time, resumable from two integers.

    with open_batches(plan, dataset, batching=config.batching, state=DataState(),
                      transfer=put_on_devices) as batches:
        for batch in batches:               # endless: epoch after epoch
            step(batch.arrays)
            if batch.last: ...              # the epoch is over
            save(batch.state)               # continue from here, exactly

    for batch in epoch_batches(plan_or_epoch_plan, dataset): ...   # validation, decoding

It runs on threads of Python; `tfdata` is its other back end.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from seqjax.config import BatchingConfig
from seqjax.data.batches import (
    Batch,
    Dataset,
    DataState,
    TrainIterator,
    assemble,
    describe_batch,
    epoch_batches,
    places,
)
from seqjax.data.epoch_plan import TrainPlan
from seqjax.data.tfdata import TfDataIterator

__all__ = [
    "Batch", "DataState", "Dataset", "Prefetcher", "TrainIterator", "Transfer", "assemble",
    "describe_batch", "epoch_batches", "open_batches", "places",
]

Transfer = Callable[[dict[str, np.ndarray]], dict[str, Any]]
"""Puts a batch's arrays on the devices; called in the background, one batch at a time."""


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
        batches: Any = TfDataIterator(
            plan, dataset, state=state, shard=shard, prefetch=batching.prefetch
        )
    else:
        batches = TrainIterator(plan, dataset, state=state, shard=shard)
    return Prefetcher(batches, size=batching.prefetch, transfer=transfer)
