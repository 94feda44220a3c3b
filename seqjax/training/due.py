"""When a validation, and when a checkpoint, is due: fairseq's rules and ours."""

from __future__ import annotations

from seqjax.config import Config
from seqjax.data.pipeline import Batch


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
