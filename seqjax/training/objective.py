"""What a run minimises: the forward pass of a task, and a loss of what it gives.

From a configuration's loss section to a `train_step.LossFn`. Whether the loss fits the model
and the task is checked before anything is computed (`check`).
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping

import jax

from seqjax.config import Config, ConfigError, LossSection, check_needs, import_object
from seqjax.losses import LOSSES, Loss, Metric
from seqjax.losses.base import LossOutput
from seqjax.models.protocol import Extra, Model, ModelT, Params, Stateful
from seqjax.tasks.protocol import Task
from seqjax.training.train_step import Arrays, LossFn, sentence_average


def loss_of(section: LossSection) -> Loss:
    """The loss that a configuration's loss section chooses.

    A name that is not registered is `package.module:Object`: a `Loss`, or an object with
    `Config`, `METRICS`, `compute` and, where it has any, `NEEDS`.

    Raises:
      ConfigError: there is no such object, or it is no loss.
    """
    if section.name in LOSSES:
        return LOSSES[section.name]
    key, name = "config.loss.name", section.name
    found = import_object(name, key)
    if isinstance(found, Loss):
        return dataclasses.replace(found, name=name)
    missing = [part for part in ("Config", "METRICS", "compute") if not hasattr(found, part)]
    if missing:
        raise ConfigError(f"{key}: {name!r} has no {', '.join(missing)}: a loss is a "
                          "seqjax.losses.Loss, or an object with Config, METRICS, compute and "
                          "maybe NEEDS (docs/extending.md)")
    metrics, needs = found.METRICS, getattr(found, "NEEDS", ())
    if not isinstance(metrics, Mapping) or not all(
            isinstance(metric, Metric) for metric in metrics.values()):
        raise ConfigError(f"{key}: the METRICS of {name!r} are no dict of seqjax.losses.Metric")
    if isinstance(needs, str):
        raise ConfigError(f"{key}: the NEEDS of {name!r} are the text {needs!r}; give a set of "
                          "names")
    try:
        return Loss(name=name, config=found.Config, compute=found.compute, metrics=dict(metrics),
                    needs=frozenset(needs))
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from None


def check(config: Config) -> None:
    """Refuses a loss that needs what the model and the task do not give.

    Raises:
      ConfigError: naming both keys, and what to do.
    """
    known = {name: loss.needs for name, loss in LOSSES.items()}
    check_needs(config, loss_of(config.loss).needs, known=known)


def initial_extra(model: Model, params: Params) -> Extra:
    """What a model keeps beside these parameters when training begins; {} of most."""
    return model.init_extra(params) if isinstance(model, Stateful) else {}


def loss_function(
    task: Task[ModelT], model: ModelT, section: LossSection, *, sentence_avg: bool = False
) -> LossFn:
    """The loss as a pure function, to be differentiated.

    Args:
      section: of the loss, in the configuration.
      sentence_avg: normalised by sentences instead of target tokens.

    Raises:
      ConfigError: there is no such loss; the model has a state beside its parameters that the
        task does not hand on.
    """
    loss, stateful = loss_of(section), isinstance(model, Stateful)
    if stateful and "extra" not in inspect.signature(task.forward).parameters:
        raise ConfigError(
            f"config.task.name: the forward pass of {task.config.name} takes no `extra`, but the "
            f"model {model.config.name} has a state beside its parameters (init_extra)")

    def loss_fn(
        params: Params, extra: Extra, batch: Arrays, rng: jax.Array | None, update: jax.Array
    ) -> tuple[LossOutput, Extra]:
        given = {"extra": extra} if stateful else {}
        forward = task.forward(model, params, batch, rng, update, **given)
        output = loss.function(forward, batch, section, update=update)
        _check_metrics(loss, output)
        return output, extra if forward.extra is None else forward.extra

    return sentence_average(loss_fn, loss.metrics) if sentence_avg else loss_fn


def _check_metrics(loss: Loss, output: LossOutput) -> None:
    """Refuses metrics that the loss does not declare, and a loss without those of every one."""
    unknown = output.metrics.keys() - loss.computed
    missing = {"loss", "ntokens", "nsentences"} - output.metrics.keys()
    if unknown or missing:
        what = [f"computes {', '.join(sorted(unknown))}, which its metrics do not declare"
                ] * bool(unknown)
        what += [f"does not compute {', '.join(sorted(missing))}"] * bool(missing)
        raise ConfigError(f"config.loss.name: {loss.name} {' and '.join(what)}")
