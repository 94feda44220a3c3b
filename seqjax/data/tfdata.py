"""The batches of `pipeline`, assembled by tf.data: the only module that imports TensorFlow.

Elements are whole batches: a stream of places in the plan, mapped in parallel to arrays.
(Element-wise tf.data pipelines are a hundred times slower.) TensorFlow is imported when
the first batch is asked for, so in the background if a `Prefetcher` asks, and never sees
an accelerator. The batches are those of `TrainIterator`, bit for bit.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from seqjax.data.epoch_plan import EpochPlan, TrainPlan, Update
from seqjax.data.pipeline import Batch, Dataset, DataState, assemble, describe_batch, places


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
    """Batches of epoch after epoch; arguments and state as `pipeline.TrainIterator`'s.

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
        self._plans: dict[int, EpochPlan] = {}
        self._made: dict[tuple[int, int], Update] = {}
        self._error: BaseException | None = None
        self._elements: Iterator[Any] | None = None
        self._closed = False

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._closed:
            raise StopIteration
        if self._elements is None:
            self._elements = iter(self._dataset())
        try:
            element = next(self._elements)
        except tensorflow().errors.OpError:
            error, self._error = self._error, None
            self.close()
            if error is not None:
                # The message names the sentences; TensorFlow's has a stack in it.
                raise error from None
            raise
        values = [tensor.numpy() for tensor in element]
        epoch, index = int(values[0]), int(values[1])
        epoch_plan = self._plans[epoch]
        batch = describe_batch(
            epoch_plan, index, self._made.pop((epoch, index)),
            dict(zip(self._keys, values[2:-1], strict=True)), values[-1],
        )
        if batch.last:
            del self._plans[epoch]
        self.state = batch.state
        return batch

    def close(self) -> None:
        """Stops tf.data's threads."""
        self._closed = True
        self._elements = None
        self._plans.clear()
        self._made.clear()

    def __enter__(self) -> TfDataIterator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _numbers(self, stream: Iterable[tuple[EpochPlan, int]]) -> Iterator[tuple[int, int]]:
        try:
            for epoch_plan, index in stream:
                self._plans[epoch_plan.epoch] = epoch_plan
                yield epoch_plan.epoch, index
        except Exception as error:
            self._error = error
            raise

    def _make(self, epoch: np.ndarray, index: np.ndarray) -> list[np.ndarray]:
        try:
            key = int(epoch), int(index)
            update = self._plans[key[0]].update(key[1])
            arrays, ids = assemble(update, self.dataset, shard=self.shard)
            self._made[key] = update
            return [epoch, index, *(arrays[k] for k in self._keys), ids]
        except Exception as error:
            self._error = error
            raise

    def _dataset(self) -> Any:
        """Builds the pipeline."""
        tf = tensorflow()
        # The first place is looked at here, to learn which arrays a batch has.
        stream = places(self.plan, self.state)
        first = next(stream)
        self._keys = tuple(assemble(first[0].update(first[1]), self.dataset, shard=self.shard)[0])
        spec = tf.TensorSpec((), tf.int64)
        dataset = tf.data.Dataset.from_generator(
            lambda: self._numbers(itertools.chain([first], stream)), output_signature=(spec, spec)
        )
        types = [tf.int64, tf.int64, *[tf.int32] * len(self._keys), tf.int64]
        dataset = dataset.map(
            lambda epoch, index: tf.numpy_function(self._make, [epoch, index], types),
            num_parallel_calls=self._parallel, deterministic=True,
        ).prefetch(self._prefetch)
        options = tf.data.Options()
        options.deterministic = True
        # A pool of its own, so that neither XLA's threads nor other pipelines are crowded.
        options.threading.private_threadpool_size = self._parallel + 1
        options.threading.max_intra_op_parallelism = 1
        options.autotune.enabled = False
        return dataset.with_options(options)
