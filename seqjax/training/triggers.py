"""When a validation, a checkpoint and the end are due: fairseq's rules and ours."""

from __future__ import annotations

import math

import jax
import numpy as np

from seqjax.config import Config
from seqjax.data.pipeline import Batch
from seqjax.training.run_progress import Progress
from seqjax.training.schedules import Schedule


def validation(config: Config, *, step: int, batch: Batch, last: bool) -> bool:
    """Whether to validate after this update.

    Args:
      step: updates done.
      batch: the update's.
      last: whether the run ends with it.
    """
    valid = config.valid
    if step < valid.after_updates:
        return False
    at_epoch = batch.last and valid.every_epochs > 0 and batch.epoch % valid.every_epochs == 0
    at_save = valid.at_checkpoints and not batch.last and _saves_by_updates(config, step)
    return last or at_epoch or at_save or (
        valid.every_updates > 0 and step % valid.every_updates == 0)


def saving(config: Config, *, step: int, batch: Batch, validated: bool) -> bool:
    """Whether to save after this update, which is not the run's last.

    Args:
      step: updates done.
      batch: the update's.
      validated: whether a validation was made after it.
    """
    every = config.checkpoint.every_epochs
    if every:
        at_epoch = batch.last and batch.epoch % every == 0
    else:
        at_epoch = validated or (batch.last and not config.valid.enabled)
    return at_epoch or _saves_by_updates(config, step)


def _saves_by_updates(config: Config, step: int) -> bool:
    every = config.checkpoint.every_updates
    return every > 0 and step % every == 0 and step >= config.valid.after_updates


def finished(config: Config, progress: Progress, *, schedule: Schedule, seconds: float) -> str:
    """Why the run is over, or nothing.

    Args:
      schedule: (update, epoch) -> learning rate.
      seconds: of training so far.
    """
    limits = config.train
    if 0 < limits.max_update <= progress.step:
        return f"train.max_update={limits.max_update}"
    if 0 < limits.max_epoch < progress.data.epoch:
        return f"train.max_epoch={limits.max_epoch}"
    if _agreed(0 < limits.stop_time_hours <= seconds / 3600, progress.step):
        return f"train.stop_time_hours={limits.stop_time_hours}"
    if 0 < config.valid.patience <= progress.bad_validations:
        return f"no better {config.valid.metric} in {progress.bad_validations} validations"
    if limits.stop_min_lr >= 0 and progress.step > 0 and progress.data.batch == 0:  # between epochs
        lr = float(schedule(progress.step, progress.data.epoch))
        if lr <= limits.stop_min_lr:
            return f"learning rate {lr:.3g} <= train.stop_min_lr={limits.stop_min_lr}"
    return ""


def _agreed(flag: bool, step: int) -> bool:
    """The first process's answer, for all (asked at every 100th update only)."""
    if jax.process_count() == 1:
        return flag
    if step % 100:
        return False
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(np.int32(flag)))


def updates_left(config: Config, *, done: int, batch: Batch) -> float:
    """Updates until a limit on updates or epochs is reached; infinity without one.

    Args:
      done: updates so far.
      batch: the last one's.
    """
    limits = []
    if config.train.max_update:
        limits.append(config.train.max_update - done)
    if config.train.max_epoch:
        epochs = config.train.max_epoch - batch.epoch
        limits.append(epochs * batch.updates + batch.updates - batch.step - 1)
    return min(limits, default=math.inf)
