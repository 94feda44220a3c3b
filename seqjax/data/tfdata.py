"""Training batches assembled by tf.data: the only module that imports TensorFlow.

Elements are whole batches: a stream of places in the plan, mapped in parallel to arrays.
(Element-wise tf.data pipelines are a hundred times slower.) TensorFlow is imported when
the first batch is asked for, so in the background if a `Prefetcher` asks, and never sees
an accelerator. The batches are those of `TrainIterator`, bit for bit.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from seqjax.data.batches import Batch, Dataset, DataState, assemble, describe_batch, places
from seqjax.data.epoch_plan import EpochPlan, TrainPlan, Update


@functools.cache
def tensorflow() -> Any:
    """The TensorFlow module, told to leave all accelerators alone."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # only to keep its notice off the screen
    import tensorflow as tf

    for kind in ("GPU", "TPU"):
        try:
            tf.config.set_visible_devices([], kind)
        except (RuntimeError, ValueError):
            # Somebody in this process has used TensorFlow before; what it sees is settled.
            pass
    return tf


class TfDataIterator:
    """Batches of epoch after epoch; arguments and state as `batches.TrainIterator`'s.

    Args:
      parallel: batches that are made at the same time.
      prefetch: batches that are kept ready inside tf.data.
    """

    def __init__(
        self, plan: TrainPlan, dataset: Dataset, *, state: DataState | None = None,
        shard: tuple[int, int] = (0, 1), parallel: int = 1, prefetch: int = 2,
    ):
        if importlib.util.find_spec("tensorflow") is None:
            raise ModuleNotFoundError(
                "batching.backend=tfdata needs TensorFlow: pip install tensorflow-cpu, "
                "or set batching.backend=numpy"
            )
        self.plan, self.dataset, self.shard = plan, dataset, shard
        self.state = state if state is not None else DataState()
        self._parallel, self._prefetch = parallel, prefetch
        self._places = places(plan, self.state)
        self._lock = threading.Lock()
        # Places that were looked up and not yet handed out, by number since the start.
        self._known: dict[int, tuple[EpochPlan, int, Update]] = {}
        self._next_place = self._next_batch = 0
        self._error: BaseException | None = None
        self._elements: Iterator[Any] | None = None
        self._closed = False

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._closed:
            raise StopIteration
        elements = self._elements
        if elements is None:
            elements = self._elements = self._dataset().as_numpy_iterator()
        try:
            *values, ids = next(elements)
        except tensorflow().errors.OpError:
            error, self._error = self._error, None
            self.close()
            if error is not None:
                # The message names the sentences; TensorFlow's has a stack in it.
                raise error from None
            raise
        with self._lock:
            epoch_plan, index, update = self._known.pop(self._next_batch)
        self._next_batch += 1
        arrays = dict(zip(self._keys, values, strict=True))
        batch = describe_batch(epoch_plan, index, update, arrays, ids)
        self.state = batch.state
        return batch

    def close(self) -> None:
        """Stops tf.data's threads."""
        self._closed = True
        self._elements = None
        with self._lock:
            self._known.clear()

    def __enter__(self) -> TfDataIterator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _place(self, number: int) -> Update:
        """Update `number` since the start; tf.data's threads may ask in any order."""
        with self._lock:
            while self._next_place <= number:
                epoch_plan, index = next(self._places)
                self._known[self._next_place] = epoch_plan, index, epoch_plan.update(index)
                self._next_place += 1
            return self._known[number][2]

    def _make(self, number: np.ndarray) -> list[np.ndarray]:
        try:
            arrays, ids = assemble(self._place(int(number)), self.dataset, shard=self.shard)
            return [*(arrays[k] for k in self._keys), ids]
        except Exception as error:
            self._error = error
            raise

    def _dataset(self) -> Any:
        """Builds the pipeline."""
        tf = tensorflow()
        # The first batch is made here once, to learn which arrays there are.
        first, _ = assemble(self._place(0), self.dataset, shard=self.shard)
        self._keys = tuple(first)
        types = [*(tf.as_dtype(first[k].dtype) for k in self._keys), tf.int64]
        dataset = tf.data.Dataset.range(np.iinfo(np.int64).max).map(
            lambda number: tf.numpy_function(self._make, [number], types),
            # One at a time needs no parallel map, whose hops between threads cost as much
            # again as TensorFlow's call into Python (0.25 ms).
            num_parallel_calls=self._parallel if self._parallel > 1 else None,
            deterministic=True if self._parallel > 1 else None,
        ).prefetch(self._prefetch)
        options = tf.data.Options()
        options.deterministic = True
        # A pool of its own, so that neither XLA's threads nor other pipelines are crowded.
        options.threading.private_threadpool_size = self._parallel
        options.threading.max_intra_op_parallelism = 1
        options.autotune.enabled = False
        return dataset.with_options(options)
