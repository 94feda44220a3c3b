"""Sparse plain data in, the full configuration of a run out: `config.resolve` with every task,
model and loss that is here. JAX is not imported for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqjax import config, losses, models, tasks

FAMILIES: Mapping[str, Mapping[str, type]] = {
    "task": tasks.CONFIGS, "model": models.CONFIGS, "loss": losses.CONFIGS}
"""Section -> `name` in it -> its dataclass."""


def resolve(raw: Mapping[str, Any]) -> config.Config:
    """The full configuration from sparse values.

    Args:
      raw: nested plain data, as configuration files and checkpoints hold it.

    Raises:
      ConfigError: an unknown key or name (with the nearest) or a wrong type.
    """
    return config.resolve(raw, tasks=FAMILIES["task"], models=FAMILIES["model"],
                          losses=FAMILIES["loss"], archs=models.ARCHS)
