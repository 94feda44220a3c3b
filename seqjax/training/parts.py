"""What a run is made of: what is learned, from what, how, and on which devices."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.sharding import Mesh

from seqjax import models, tasks
from seqjax.config import Config, ConfigError
from seqjax.data.batches import Dataset
from seqjax.data.epoch_plan import TrainPlan
from seqjax.data.planning import make_plan
from seqjax.losses import Loss
from seqjax.models.protocol import Model, ModelT, Params
from seqjax.tasks.protocol import Task, check_model, with_model
from seqjax.training import initial_weights, objective, sharding
from seqjax.training.metrics import Declared
from seqjax.training.optimizers import Optimizer, make_optimizer
from seqjax.training.schedules import Schedule, make_schedule
from seqjax.training.state import TrainState, new_state
from seqjax.training.train_step import make_train_step
from seqjax.training.validation import Validator


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """Everything about a run that its configuration decides and no update changes."""

    config: Config
    """With what the task found in its data: the languages."""
    mesh: Mesh
    task: Task
    model: Model
    loss: Loss
    dataset: Dataset
    """The training split."""
    plan: TrainPlan
    """Its batches, of every epoch."""
    optimizer: Optimizer
    schedule: Schedule
    step_fn: Callable[..., Any]
    """The update, to be compiled (`train_step.make_train_step`)."""
    validator: Validator | None
    """None without validation."""
    partition: sharding.Rules = ()
    """The family's own rules of where its parameters live."""

    @property
    def metrics(self) -> Declared:
        """What is declared of the metrics of the loss and of validations."""
        return self.loss.metrics if self.validator is None else self.validator.metrics

    @functools.cached_property
    def fresh_state(self) -> Callable[[], TrainState]:
        """Makes a state that knows nothing yet. One function, so that it is traced once."""
        key = jax.random.key(self.config.seed, impl="threefry2x32")

        def initial_state() -> TrainState:
            return self.state_of(self.model.init(key))

        return initial_state

    def state_of(self, params: Params) -> TrainState:
        """A state of these parameters with a fresh optimizer, and whatever else the model
        begins with. Works under jit."""
        return new_state(params, self.optimizer,
                         extra=objective.initial_extra(self.model, params))

    def describe(self, params: Params) -> list[str]:
        """Lines on the model, the devices and the data.

        Args:
          params: parameters, maybe abstract.
        """
        config = self.config
        lines = [
            f"{config.model.name}: {sum(x.size for x in jax.tree.leaves(params)):,} "
            f"parameters, {models.compute_dtype(config.train.compute_dtype).name} compute, mesh "
            + " x ".join(f"{k}={v}" for k, v in self.mesh.shape.items())
            + f" on {jax.devices()[0].device_kind}",
            f"train: {self.plan.describe()}",
        ]
        if self.validator is not None:
            lines.append(f"{config.valid.subset}: {self.validator.plan.describe()}")
        return lines


def prepare(config: Config, *, composition_epoch: int = 1) -> Parts:
    """Reads the data's vocabularies and lengths, and makes everything that follows from them.

    Args:
      config: resolved.
      composition_epoch: see `planning.make_plan`.

    Raises:
      FileNotFoundError, ConfigError: the data, the devices and the configuration do not fit
        each other; the message names the key or the file.
    """
    mesh = sharding.make_mesh(config.mesh)
    task = tasks.setup(config)
    config = dataclasses.replace(config, task=task.config)  # languages are known now
    initial_weights.check_joined(config, task)
    dtype = models.compute_dtype(config.train.compute_dtype)
    model = models.build(config.model, **task.vocab_sizes, compute_dtype=dtype)
    check_model(task, model)
    task = with_model(task, model)
    optimizer = make_optimizer(config.optimizer)
    schedule = make_schedule(config.schedule, lr=config.train.lr,
                             max_update=config.train.max_update)
    dataset, limits = task.train_dataset(), task.max_positions(model)
    with _advised(task, model):
        plan = make_plan(
            dataset.lengths, config.batching, seed=config.seed,
            update_freq=config.train.update_freq, row_multiple=sharding.rows_multiple(mesh),
            max_source_positions=limits[0], max_target_positions=limits[1],
            composition_epoch=composition_epoch, mixture=getattr(dataset, "mixture", None),
        )
    loss = objective.loss_of(config.loss)
    loss_fn = objective.loss_function(task, model, config.loss,
                                      sentence_avg=config.train.sentence_avg)
    validator = None
    if config.valid.enabled:
        validator = Validator(config, task, model, mesh, loss_fn, loss=loss, max_positions=limits)
    partition = models.family(config.model.name).partition
    step_fn = sharding.own_rules(partition)(make_train_step(
        loss_fn, optimizer, schedule, seed=config.seed, clip_norm=config.train.clip_norm,
        settled=getattr(model, "settled", None)))
    return Parts(config=config, mesh=mesh, task=task, model=model, loss=loss, dataset=dataset,
                 plan=plan, optimizer=optimizer, schedule=schedule, step_fn=step_fn,
                 validator=validator, partition=partition)


@contextlib.contextmanager
def _advised(task: Task[ModelT], model: ModelT) -> Iterator[None]:
    """Data that do not fit the model, where the task knows why."""
    try:
        yield
    except ValueError as error:
        advice = task.too_long_advice(model)
        if not advice:
            raise
        raise ConfigError(f"{error}. {advice}") from None
