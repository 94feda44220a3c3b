"""Validation: the loss over a held-out split, and real decoding scored by the task.

Batches come from the same kind of plan as training's, so their shapes are known, and
compiled, before the first step.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from seqjax import models
from seqjax.config import Config, ConfigError
from seqjax.data.batches import Dataset
from seqjax.data.epoch_plan import Shape
from seqjax.data.pipeline import epoch_batches
from seqjax.data.planning import make_plan
from seqjax.losses import Loss, Metric
from seqjax.models.protocol import ModelT, Params
from seqjax.tasks import entry_of
from seqjax.tasks.evaluator import Evaluator
from seqjax.tasks.protocol import Task
from seqjax.training import sharding
from seqjax.training.compilation import Job
from seqjax.training.metrics import add_sums, averages
from seqjax.training.state import TrainState
from seqjax.training.train_step import LossFn, make_eval_step


def batch_spec(
    dataset: Dataset, shape: Shape, mesh: Mesh, *, packed: bool, groups: int | None = None
) -> dict[str, jax.ShapeDtypeStruct]:
    """Abstract arrays of a batch of `shape`, over all processes, as they are placed.

    Args:
      groups: micro-batches of an update (None: no leading axis).
    """
    none = np.zeros(0, np.int64)
    arrays = dataset.materialise(none, none.astype(np.int32), shape, packed=packed)
    lead = () if groups is None else (groups,)
    place = sharding.batch_sharding(mesh, rows_axis=len(lead))
    return {name: jax.ShapeDtypeStruct((*lead, *x.shape), x.dtype, sharding=place)
            for name, x in arrays.items()}


class Validator:
    """One split, its plan and its compiled evaluation."""

    def __init__(
        self, config: Config, task: Task[ModelT], model: ModelT, mesh: Mesh, loss_fn: LossFn,
        *, loss: Loss, max_positions: tuple[int | None, int | None],
    ) -> None:
        """
        Args:
          loss: what `loss_fn` computes.

        Raises:
          FileNotFoundError: there is no such split.
          ConfigError: a sentence over a limit.
        """
        self._config, self._mesh = config, mesh
        self.dataset = task.dataset(config.valid.subset)
        try:
            self.plan = make_plan(
                self.dataset.lengths, config.batching, seed=config.seed, train=False,
                row_multiple=sharding.rows_multiple(mesh),
                max_source_positions=max_positions[0], max_target_positions=max_positions[1],
            )
        except ValueError as e:
            raise ConfigError(f"split {config.valid.subset!r}: {e}") from None
        self._epoch = self.plan.epoch(1)
        own_rules = sharding.own_rules(models.family(config.model.name).partition)
        self._step = jax.jit(own_rules(make_eval_step(loss_fn)))
        self._compiled: dict[Hashable, jax.stages.Compiled] = {}
        self._evaluator: Evaluator | None = None
        decodes = entry_of(config.task.name).decodes
        if config.valid.decode or not decodes:
            self._evaluator = task.evaluator(
                model, self.dataset, generation=config.generation,
                limit=config.valid.decode_sentences if decodes else 0, **decoding_places(mesh),
            )
        beside = {} if self._evaluator is None else self._evaluator.metrics
        self.metrics: dict[str, Metric] = {**loss.metrics, **beside}
        """What is declared of every metric that a validation may give."""

    def check_metric(self, state: TrainState) -> None:
        """Raises ConfigError if `valid.metric` is not what a validation gives.

        Args:
          state: may be abstract.
        """
        shape = self.plan.shapes[0][1]
        spec = batch_spec(self.dataset, shape, self._mesh, packed=self._epoch.packed)
        sums = jax.eval_shape(self._step, state.params, state.extra, spec, state.step)
        names = [*averages({name: (1.0, 1.0) for name in sums}, self.metrics),
                 *(self._evaluator.metrics if self._evaluator else ())]
        valid = self._config.valid
        entry = entry_of(self._config.task.name)
        if not valid.decode and entry.decodes and valid.metric in entry.metrics:
            raise ConfigError(f"config.valid.metric: {valid.metric!r} needs "
                              "config.valid.decode=True")
        if valid.metric not in names:
            silent = valid.decode or not entry.decodes
            more = "" if silent else "; what outputs are measured by needs valid.decode=True"
            raise ConfigError(f"config.valid.metric: {valid.metric!r} is not one of "
                              + ", ".join(names) + more)

    def jobs(self, state: TrainState) -> dict[Hashable, Job]:
        """What is to be compiled, for an abstract state."""
        specs = {
            shape: batch_spec(self.dataset, shape, self._mesh, packed=self._epoch.packed)
            for _, shape in self.plan.shapes
        }
        return {("valid", shape): Job(function=self._step, size=shape.tokens,
                                      arguments=(state.params, state.extra, spec, state.step))
                for shape, spec in specs.items()}

    def take(self, compiled: dict[Hashable, jax.stages.Compiled]) -> None:
        """The programs that `jobs` asked for."""
        self._compiled = compiled

    def __call__(
        self, state: TrainState
    ) -> tuple[dict[str, float], Sequence[tuple[str, str, str]]]:
        """Metrics by name, and samples of (source, output, reference)."""
        shard = (jax.process_index(), jax.process_count())
        batches = epoch_batches(self._epoch, self.dataset, shard=shard)
        limit = self._config.valid.max_batches or None
        found = []
        for batch in itertools.islice(batches, limit):
            step = self._compiled.get(("valid", batch.shape), self._step)
            arrays = sharding.place(batch.arrays, self._mesh, rows=batch.shape.rows)
            found.append(step(state.params, state.extra, arrays, state.step))
        sums: dict[str, tuple[float, float]] = {}
        for metrics in jax.device_get(found):
            add_sums(sums, metrics)
        values: dict[str, float] = averages(sums, self.metrics)
        samples: Sequence[tuple[str, str, str]] = ()
        if self._evaluator is not None:
            measured = self._evaluator(for_decoding(state.params, self._mesh))
            values |= {name: float(measured.values[name]) for name in self._evaluator.metrics}
            samples = measured.samples
        return values, samples[: self._config.valid.samples]


def decoding_places(mesh: Mesh) -> dict[str, Any]:
    """How decoding lies on the devices: rows on all of them. Several processes decode alike,
    each on its first device."""
    if mesh.size == 1 or jax.process_count() > 1:
        return {}
    rows = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    return {"sharding": rows, "row_multiple": mesh.size}


def for_decoding(params: Params, mesh: Mesh) -> Params:
    """Parameters where decoding wants them: whole."""
    if mesh.size == 1:
        return params
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        params = multihost_utils.process_allgather(params, tiled=True)
        return jax.device_put(params, jax.local_devices()[0])
    return jax.device_put(params, sharding.replicated(mesh))
