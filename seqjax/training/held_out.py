"""From a trained model and a split to its loss there, outside of a run: fairseq-validate."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Mapping

import jax
import numpy as np

from seqjax.config import BatchingConfig, ConfigError, LossSection
from seqjax.data.batches import Dataset
from seqjax.data.epoch_plan import Shape
from seqjax.data.pipeline import epoch_batches
from seqjax.data.planning import make_plan
from seqjax.models.protocol import ModelT, Params, Settling, Stateful
from seqjax.tasks.protocol import Task, with_model
from seqjax.training import objective
from seqjax.training.compilation import Job, compile_all
from seqjax.training.metrics import add_sums, averages, shown
from seqjax.training.train_step import make_eval_step


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What the loss of a split is."""

    values: Mapping[str, float]
    """Metrics by name, losses in base 2."""
    shown: Mapping[str, str]
    """The same as people see them."""
    tokens: int
    """Target tokens."""


def held_out(
    task: Task[ModelT], model: ModelT, params: Params, subset: str, *, loss: LossSection,
    max_tokens: int, batch_size: int | None = None, sentence_avg: bool = False,
    skip_too_long: bool = False,
) -> HeldOut:
    """The loss of a split outside of training, on one device (fairseq-validate).

    Args:
      loss: the loss section of the configuration.
      max_tokens, batch_size: size of a batch.
      sentence_avg: the loss is per sentence instead of per token.
      skip_too_long: leave out sentences over the model's limit, with a count.

    Raises:
      ConfigError: a sentence over the model's limit, unless `skip_too_long`; the model has a
        state beside its parameters, which these do not have in them (`protocol.Settling`).
    """
    if isinstance(model, Stateful) and not isinstance(model, Settling):
        raise ConfigError(
            f"config.model.name: {model.config.name} has a state beside its parameters "
            "(init_extra), which is not read outside of training: see the validations of the run")
    task = with_model(task, model)
    extra = objective.initial_extra(model, params)
    dataset, limits = task.dataset(subset), task.max_positions(model)
    loss_fn = objective.loss_function(task, model, loss, sentence_avg=sentence_avg)
    try:
        plan = make_plan(
            dataset.lengths, BatchingConfig(
                max_tokens=max_tokens, max_sentences=batch_size, required_batch_size_multiple=1,
                skip_invalid_size_inputs_valid_test=skip_too_long),
            seed=1, train=False, max_source_positions=limits[0], max_target_positions=limits[1],
        )
    except ValueError as e:
        raise ConfigError(f"split {subset!r}: {e}") from None
    step, update = jax.jit(make_eval_step(loss_fn)), np.int32(0)
    jobs: dict[Hashable, Job] = {
        shape: Job(function=step, size=shape.tokens,
                   arguments=(params, extra, _abstract(dataset, shape), update))
        for _, shape in plan.shapes}
    programs = compile_all(jobs)
    found = [programs.get(batch.shape, step)(params, extra, batch.arrays, update)
             for batch in epoch_batches(plan, dataset)]
    sums: dict[str, tuple[float, float]] = {}
    for metrics in jax.device_get(found):
        add_sums(sums, metrics)
    declared = objective.loss_of(loss).metrics
    values = averages(sums, declared)
    values = {name: values[name] for name in declared if name in values}
    if not math.isfinite(values["loss"]):
        raise ConfigError(f"split {subset!r}: its loss is {values['loss']}: the model computes "
                          "values that are not finite; its weights are damaged, or overflow in "
                          "this dtype (try float32)")
    return HeldOut(values=values, shown=shown(values, declared), tokens=int(sums["ntokens"][0]))


def _abstract(dataset: Dataset, shape: Shape) -> dict[str, jax.ShapeDtypeStruct]:
    """Arrays of a batch of `shape` on one device."""
    none = np.zeros(0, np.int64)
    arrays = dataset.materialise(none, none.astype(np.int32), shape, packed=False)
    return {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in arrays.items()}
