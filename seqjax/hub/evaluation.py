"""From a loaded model and a split of a data folder to how well it does: a loss, a perplexity.

What facades' `evaluate` is made of. Nothing is printed here.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from seqjax.config import ConfigError, GenerationConfig, LossSection
from seqjax.console import compiling
from seqjax.models.protocol import ModelT, Params
from seqjax.tasks import entry_of
from seqjax.tasks.language_modeling import LanguageModelingTask
from seqjax.tasks.perplexity import BlockScorer, WordScores
from seqjax.tasks.protocol import Task
from seqjax.training.held_out import held_out

MAX_TOKENS = 36000
"""Positions of a batch, padding included."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluated:
    """How well a model does on a split."""

    values: Mapping[str, float]
    """Metrics by name; losses in base 2."""
    tokens: int
    """Target tokens that were scored."""
    seconds: float
    """Of computing, without compiling."""
    text: str
    """The metrics as a line that people read."""
    lines: Sequence[str] = ()
    """What was asked for beside them."""
    notes: Sequence[str] = ()
    """What was left out."""


def loss_of_split(
    task: Task[ModelT], models: Sequence[ModelT], params: Sequence[Params], subset: str, *,
    loss: LossSection, data: str | None, max_tokens: int, batch_size: int | None,
    too_long: str | None, sentence_avg: bool,
) -> Evaluated:
    """The loss that a model was trained with, on a split. Arguments are as `Loaded.evaluate` has
    them.

    Args:
      loss: section of the configuration.

    Raises:
      ConfigError: several models; no such data; a sentence that is too long.
    """
    if len(models) > 1:
        raise ConfigError("the loss of an ensemble is not defined: give one checkpoint "
                          "(seqjax.generate --score-reference scores with several)")
    task = task.with_config(data=_folder(data or task.config.data))
    task.check_folder(task.config.data)
    notes = _over_limits(task, models[0], subset, skip=too_long == "skip")
    began = _clock()
    found = held_out(
        task, models[0], params[0], subset, loss=loss, max_tokens=max_tokens, batch_size=batch_size,
        sentence_avg=sentence_avg, skip_too_long=too_long == "skip")
    values, shown = dict(found.values), dict(found.shown)
    if not entry_of(task.config.name).decodes:
        more = _measured(task, models[0], params[0], subset)
        values |= {name: value for name, (value, _) in more.items()}
        shown |= {name: text for name, (_, text) in more.items()}
    return Evaluated(
        values=values, tokens=found.tokens, seconds=_clock() - began, notes=notes,
        text=" | ".join([subset, *(f"{k} {v}" for k, v in shown.items())]))


def _measured(
    task: Task[ModelT], model: ModelT, params: Params, subset: str
) -> dict[str, tuple[float, str]]:
    """What the task measures of a split beside the loss, as numbers and as people see them."""
    evaluator = task.evaluator(model, task.dataset(subset), generation=GenerationConfig())
    if evaluator is None:
        return {}
    found = evaluator(params).values
    return {name: (found[name], metric.format.format(found[name]))
            for name, metric in evaluator.metrics.items()}


def _over_limits(task: Task[ModelT], model: ModelT, subset: str, *, skip: bool) -> list[str]:
    """What is said of sentences that are left out.

    Raises:
      ConfigError: there are some, and they are not to be skipped.
    """
    lengths = task.dataset(subset).lengths
    over: dict[int, str] = {}
    for name, side, limit in zip(("source", "target"), (lengths.source, lengths.target),
                                 task.max_positions(model), strict=True):
        if side is not None and limit is not None:
            for i in np.flatnonzero(side > limit).tolist():
                over.setdefault(i, f"has a {name} of {side[i]} tokens, but the model takes at "
                                f"most {limit}")
    if not over:
        return []
    first = min(over)
    named = f"{task.config.data}, {subset}, sentence {first + 1} {over[first]}"
    if not skip:
        raise ConfigError(f"{named}: --too-long skip leaves such sentences out")
    return [f"{len(over)} of {len(lengths)} sentences were too long and are left out (the first: "
            f"{named})"]


def perplexity_of_split(
    task: LanguageModelingTask, scorer: BlockScorer, words: WordScores, params: Sequence[Params],
    subset: str, *, context_window: int, on_words: Callable[[str], object] | None,
    word_stats: bool,
) -> Evaluated:
    """What language models say of a split, block by block; see `LanguageModel.evaluate`.

    Args:
      words: gets them all.
    """
    task.check_folder(task.config.data)
    blocks = task.dataset(subset)
    began, tokens = _clock(), 0
    for block in scorer.score(
        params, blocks, tokens_per_sample=task.config.tokens_per_sample,
        context_window=context_window,
    ):
        found = words.add(block, statistics=word_stats)
        tokens += len(block.tokens)
        if on_words is not None:
            on_words(f"{block.index} " + "\t".join(f"{word} [{prob:2f}]" for word, prob in found))
    return Evaluated(
        values={"loss": words.loss, "ppl": words.perplexity}, tokens=tokens,
        seconds=_clock() - began, lines=[str(s) for s in words.by_count()] if word_stats else (),
        text=f"Loss (base 2): {words.loss:.4f}, Perplexity: {words.perplexity:.2f}")


def with_blocks(
    task: LanguageModelingTask, *, context_window: int, **changes: Any
) -> LanguageModelingTask:
    """The task with other blocks, shorter by the context as fairseq's are.

    Args:
      **changes: keys of its section; None: as they are.
    """
    values = {name: value for name, value in changes.items() if value is not None}
    length = values.get("tokens_per_sample", task.config.tokens_per_sample)
    if context_window >= length:
        raise ConfigError(
            f"--context-window {context_window} leaves nothing of --tokens-per-sample "
            f"{length} to be scored"
        )
    task = task.with_config(**{**values, "tokens_per_sample": length - context_window})
    _folder(task.config.data)
    return task


def _folder(data: str) -> str:
    if not data or not os.path.isdir(data):
        raise ConfigError(f"--data {data or ''}: name the folder with the preprocessed text")
    return data


def _clock() -> float:
    """Seconds; those in which programs are compiled are not among them."""
    return time.monotonic() - compiling.seconds()
