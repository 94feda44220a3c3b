"""Values of a configuration that make no sense: refused, or said, before anything is computed.

`check` raises for what cannot be meant. `notes` are sentences about what can, but is rarely
wanted: a learning rate that never reaches its peak, keys that the chosen optimizer does not
read. Data and devices are not looked at here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from seqjax.config import Config, ConfigError
from seqjax.training import objective
from seqjax.training.schedules import Schedule

Rule = tuple[Callable[[Any], bool], str]


def at_least(least: float) -> Rule:
    """Of numbers, and of every number of a tuple."""
    return lambda x: x >= least, f"must be {least:g} or more"


def above(bound: float) -> Rule:
    return lambda x: x > bound, f"must be above {bound:g}"


def share(*, one: bool = False) -> Rule:
    """A number in [0, 1), or in [0, 1]."""
    return (lambda x: 0 <= x < 1 or one and x == 1), f"must be in [0, 1{']' if one else ')'}"


_RULES: dict[str, Rule] = {
    "seed": at_least(0),
    "train.max_update": at_least(0),
    "train.max_epoch": at_least(0),
    "train.stop_time_hours": at_least(0),
    "train.update_freq": at_least(1),
    "train.clip_norm": at_least(0),
    "train.nan_patience": at_least(0),
    "optimizer.adam_betas": share(),
    "optimizer.adam_eps": at_least(0),
    "optimizer.weight_decay": at_least(0),
    "optimizer.momentum": share(),
    "optimizer.adafactor_eps": at_least(0),
    "optimizer.clip_threshold": above(0),
    "optimizer.decay_rate": (lambda x: x <= 0, "must be 0 or below"),
    "optimizer.beta1": share(),
    "schedule.warmup_updates": at_least(0),
    "schedule.end_learning_rate": at_least(0),
    "schedule.power": above(0),
    "schedule.total_num_update": at_least(0),
    "schedule.force_anneal": at_least(0),
    "schedule.lr_shrink": (lambda x: 0 < x <= 1, "must be above 0 and at most 1"),
    "schedule.min_lr": at_least(0),
    "schedule.t_mult": at_least(1),
    "schedule.hold_steps": at_least(0),
    "schedule.decay_steps": at_least(0),
    "schedule.phase_ratio": share(one=True),
    "schedule.init_lr_scale": at_least(0),
    "schedule.final_lr_scale": above(0),
    "batching.max_tokens": at_least(1),
    "batching.max_sentences": at_least(1),
    "batching.required_batch_size_multiple": at_least(1),
    "batching.num_shapes": at_least(1),
    "batching.pack_length": at_least(2),
    "batching.length_multiple": at_least(1),
    "batching.prefetch": at_least(0),
    "checkpoint.keep_last": (
        lambda x: x >= 1, "must be 1 or more: a run goes on from its last checkpoint"),
    "checkpoint.keep_last_epochs": at_least(-1),
    "checkpoint.keep_interval_updates": at_least(-1),
    "log.interval_updates": at_least(1),
    "loss.ignore_prefix_size": at_least(0),
    "loss.logits_budget": at_least(1),
    "loss.alignment_lambda": at_least(0),
    "task.max_source_positions": at_least(1),
    "task.max_target_positions": at_least(1),
    "task.upsample_primary": at_least(1),
    "model.scan_unroll": at_least(0),
}
"""Key -> what each of its numbers must be; of other keys of valid, checkpoint and log: 0 or
more. None is no number."""

_MODEL_ENDS: dict[str, Rule] = {
    "dropout": share(), "dropout_in": share(), "dropout_out": share(), "layerdrop": share(),
    "_dim": at_least(1), "_heads": at_least(1), "_size": at_least(1), "_layers": at_least(0),
    "_positions": at_least(1),
}
"""End of a key of any model -> what its numbers must be."""

_READ: dict[str, dict[str, set[str]]] = {
    "optimizer": {
        "adam": {"adam_betas", "adam_eps", "weight_decay"},
        "nag": {"momentum", "weight_decay"},
        "sgd": {"momentum", "weight_decay"},
        "adafactor": {"adafactor_eps", "clip_threshold", "decay_rate", "beta1", "weight_decay",
                      "scale_parameter", "relative_step", "warmup_init"},
    },
    "schedule": {
        "inverse_sqrt": {"warmup_updates", "warmup_init_lr"},
        "polynomial_decay": {"warmup_updates", "end_learning_rate", "power", "total_num_update",
                             "force_anneal"},
        "fixed": {"warmup_updates", "force_anneal", "lr_shrink"},
        "cosine": {"warmup_updates", "warmup_init_lr", "lr_shrink", "min_lr",
                   "lr_period_updates", "t_mult"},
        "tri_stage": {"warmup_updates", "hold_steps", "decay_steps", "phase_ratio",
                      "init_lr_scale", "final_lr_scale"},
    },
}
"""Section -> name -> the keys that are read under that name."""


def check(config: Config) -> None:
    """Raises ConfigError for a value that cannot be meant, naming its key."""
    for key, value in _numbers(config):
        rule = _RULES.get(key) or _rule_of_kind(key)
        for x in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(x, float) and not math.isfinite(x):
                raise ConfigError(f"config.{key}: {x} is no number that can be used")
            if rule is not None and not rule[0](x):
                raise ConfigError(f"config.{key}: {_shown(value)}; it {rule[1]}")
    objective.check(config)
    _check_start(config)
    _check_rate(config)
    if config.batching.max_tokens is None and config.batching.max_sentences is None:
        raise ConfigError("config.batching.max_tokens, config.batching.max_sentences: give one, "
                          "or batches have no size")
    valid = config.valid
    if valid.patience and not (valid.enabled and (valid.every_epochs or valid.every_updates)):
        raise ConfigError(f"config.valid.patience: {valid.patience} validations, but there are "
                          "none: set valid.every_epochs or valid.every_updates, and valid.enabled")


def _check_start(config: Config) -> None:
    if config.init_from and config.resume_from:
        raise ConfigError(
            "config.init_from, config.resume_from: give one of them. init_from starts a new run "
            "from these weights, with a fresh optimizer; resume_from continues another run: "
            "weights, optimizer, schedule and place in the data")


def _check_rate(config: Config) -> None:
    low = [x for x in config.train.lr if not x > 0]
    if low and not config.train.allow_nonpositive_lr:
        raise ConfigError(
            f"config.train.lr: {_shown(config.train.lr)}; at 0 nothing is learned, and below it "
            "the loss is climbed. If that is wanted: config.train.allow_nonpositive_lr=true")


def _numbers(config: Config) -> Iterator[tuple[str, Any]]:
    """Dotted key -> value, of keys with a number or several. Not of those with their default: it
    can always be meant (a width of 0 that stands for another key's)."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name == "generation":
            continue  # checked where searches are made, for all who search
        inner = ({f.name: getattr(value, f.name) for f in dataclasses.fields(value)
                  if getattr(value, f.name) != f.default}
                 if dataclasses.is_dataclass(value) else {"": value})
        for name, x in inner.items():
            parts = x if isinstance(x, (tuple, list)) and x else (x,)
            if all(isinstance(p, (int, float)) and not isinstance(p, bool) for p in parts):
                yield f"{field.name}.{name}".rstrip("."), x


def _rule_of_kind(key: str) -> Rule | None:
    if key.startswith(("valid.", "checkpoint.", "log.")):
        return at_least(0)  # counts and times, all of them
    if not key.startswith("model."):
        return None
    return next((rule for end, rule in _MODEL_ENDS.items() if key.endswith(end)), None)


def _shown(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ", ".join(f"{x:g}" for x in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def notes(config: Config, schedule: Schedule) -> list[str]:
    """Sentences about what is probably not meant.

    Raises:
      ConfigError: the rate of every update is 0 or below.
    """
    return [*_unread(config), *_endless(config), *_course_of_rate(config, schedule)]


def _unread(config: Config) -> list[str]:
    found = []
    for section, names in _READ.items():
        values = getattr(config, section)
        read = names[values.name] | {"name"}
        keys = [f"config.{section}.{f.name}" for f in dataclasses.fields(values)
                if f.name not in read and getattr(values, f.name) != f.default]
        if keys:
            found.append(f"{', '.join(keys)}: {section}.name={values.name} does not read "
                         f"{'it' if len(keys) == 1 else 'them'}")
    return found


def _endless(config: Config) -> list[str]:
    train = config.train
    limits: Mapping[str, bool] = {
        "max_update": train.max_update > 0, "max_epoch": train.max_epoch > 0,
        "stop_time_hours": train.stop_time_hours > 0, "stop_min_lr": train.stop_min_lr >= 0,
        "patience": config.valid.patience > 0,
    }
    if any(limits.values()):
        return []
    return ["no limit is set (train.max_update, max_epoch, stop_time_hours, stop_min_lr, "
            "valid.patience): it trains until it is stopped; Ctrl-C saves"]


def _course_of_rate(config: Config, schedule: Schedule) -> list[str]:
    """The rate over the whole run, where its length is known."""
    length, peak = config.train.max_update, max(config.train.lr)
    if not length or peak <= 0 or len(config.train.lr) > 1:
        return []
    updates = np.unique(np.linspace(0, length - 1, 256).astype(np.int64))
    rates = np.asarray(jax.jit(schedule)(updates.astype(np.int32), 1))
    if not config.train.allow_nonpositive_lr and length > 1 and rates.max() <= 0:
        raise ConfigError(
            f"config.schedule: the learning rate is {rates.max():g} or below in all of the "
            f"{length} updates. If that is wanted: config.train.allow_nonpositive_lr=true")
    warmup = config.schedule.warmup_updates
    if warmup >= length > 1 and rates.max() < 0.999 * peak:
        return [f"train.max_update={length} ends inside the warm-up of {warmup} updates: the "
                f"learning rate reaches {rates.max():.3g} of {peak:.3g}"]
    dead = updates[rates <= 0]
    dead = dead[dead > updates[rates > 0].min()] if (rates > 0).any() else dead
    if len(dead) > 1:
        return [f"the learning rate is 0 from about update {dead.min()} of {length} on: the rest "
                "learns nothing (schedule.total_num_update)"]
    return []
