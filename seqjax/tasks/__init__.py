"""What can be learned. A task is chosen by name here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqjax.config import Config, import_object
from seqjax.tasks.configs import LanguageModelingConfig, TranslationConfig

CONFIGS: dict[str, type] = {
    "language_modeling": LanguageModelingConfig,
    "translation": TranslationConfig,
}
"""`config.task.name` -> its dataclass."""

_TASKS: dict[str, str] = {
    "language_modeling": "seqjax.tasks.language_modeling:LanguageModelingTask",
    "translation": "seqjax.tasks.translation:TranslationTask",
}
"""`config.task.name` -> where its task is. A name that is not here is
`package.module:Object` itself."""


def _task(config: Config) -> Any:
    name = config.task.name
    return import_object(_TASKS.get(name) or name, "config.task.name")


def setup(config: Config) -> Any:
    """The task of a configuration, from its data folder."""
    return _task(config).setup(config)


def from_assets(config: Config, files: Mapping[str, bytes]) -> Any:
    """The task of a checkpoint, from the files it holds."""
    return _task(config).from_assets(config, files)
