"""What can be learned. A task is chosen by name here, and nowhere else known by it.

Importing it imports no JAX: a task's file says at once what it is (`ENTRY`, a
`entry.TaskEntry`), and imports what computes where it is used.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from seqjax.config import Config, ConfigError
from seqjax.tasks.entry import TaskEntry, of_object
from seqjax.tasks.protocol import Task

PLACES = ("audio_finetuning", "audio_pretraining", "denoising", "hubert_pretraining",
          "language_modeling", "masked_lm", "multilingual_denoising",
          "multilingual_masked_lm", "sentence_prediction", "sentence_ranking", "seq2seq",
          "span_masked_lm", "speech_to_text", "translation", "translation_from_pretrained_bart",
          "translation_multi_simple_epoch", "waveforms")
"""Modules of this folder that have an `ENTRY`. The one registration: a new task is its file and
a name here."""

TASKS: Mapping[str, TaskEntry] = {
    found.name: found
    for found in (importlib.import_module(f"seqjax.tasks.{place}").ENTRY for place in PLACES)}
"""`config.task.name` -> what the task says of itself."""

CONFIGS: Mapping[str, type] = {name: found.config for name, found in TASKS.items()}
"""`config.task.name` -> its dataclass."""


def entry_of(name: str) -> TaskEntry:
    """What the task of that name says of itself; of a caller's own, `package.module:Object`, too.

    Raises:
      ConfigError: there is no such task.
    """
    return TASKS[name] if name in TASKS else of_object(name)


def of_fairseq(name: str) -> TaskEntry | None:
    """The task that fairseq calls so; None where it is not here."""
    return next((e for e in TASKS.values() if e.fairseq and e.fairseq.name == name), None)


def of_huggingface(kind: str) -> TaskEntry:
    """The task of Hugging Face's models of a kind (`models.tables.HuggingFaceTable.kind`)."""
    return next(e for e in TASKS.values() if e.huggingface == kind)


def for_waveforms() -> TaskEntry:
    """What models of waveforms are used with whose own task is not here."""
    return next(e for e in TASKS.values() if e.waveforms)


def fairseq_names() -> list[str]:
    """fairseq's tasks that are here, by fairseq's names."""
    return sorted(e.fairseq.name for e in TASKS.values() if e.fairseq)


def setup(config: Config) -> Task:
    """The task of a configuration, from its data folder.

    Raises:
      ConfigError: see `Task.setup`; it is no task.
    """
    return _checked(config, entry_of(config.task.name).load().setup(config))


def from_assets(config: Config, files: Mapping[str, bytes]) -> Task:
    """The task of a checkpoint, from the files it holds.

    Raises:
      KeyError: a file is missing.
      ConfigError: it is no task.
    """
    return _checked(config, entry_of(config.task.name).load().from_assets(config, files))


def _checked(config: Config, task: Task) -> Task:
    """The task, if it has the data that every task has; its methods are checked before."""
    missing = [name for name in ("config", "vocab_sizes", "dictionaries", "languages")
               if not hasattr(task, name)]
    if missing:
        raise ConfigError(
            f"config.task.name: {config.task.name!r} makes a task without {', '.join(missing)}: "
            "a task has the members of seqjax.tasks.protocol.Task (docs/extending.md)")
    return task
