"""What can be learned. A task is chosen by name here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from seqjax.config import Config
from seqjax.tasks.language_modeling import LanguageModelingConfig
from seqjax.tasks.translation import TranslationConfig

CONFIGS: dict[str, type] = {
    "language_modeling": LanguageModelingConfig,
    "translation": TranslationConfig,
}
"""`config.task.name` -> its dataclass."""

_TASKS: dict[str, str] = {
    "language_modeling": "seqjax.tasks.language_modeling:LanguageModelingTask",
    "translation": "seqjax.tasks.translation:TranslationTask",
}
"""`config.task.name` -> where its task is."""


def _task(config: Config) -> Any:
    module, _, name = _TASKS[config.task.name].partition(":")
    return getattr(importlib.import_module(module), name)


def setup(config: Config) -> Any:
    """The task of a configuration, from its data folder."""
    return _task(config).setup(config)


def from_assets(config: Config, files: Mapping[str, bytes]) -> Any:
    """The task of a checkpoint, from the files it holds."""
    return _task(config).from_assets(config, files)
