"""What a user asks of outputs, from text to ids: phrases to contain, permitted outputs.

The search that keeps to them is in `seqjax.generation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqjax.config import ConfigError
from seqjax.generation.allowed import TokenTrie
from seqjax.tasks.protocol import TextTask

Text = str | Sequence[int] | np.ndarray
"""A text, or its ids."""


def phrase_ids(
    task: TextTask | Sequence[TextTask], constraints: Sequence[Sequence[Text]]
) -> list[list[np.ndarray]]:
    """Each input's phrases as ids without eos.

    Args:
      task: whose target side encodes texts; or that of each input.
      constraints: for each input its phrases: texts, or ids without eos.

    Raises:
      TypeError: a text where an input's list of phrases belongs.
    """
    for index, phrases in enumerate(constraints):
        if isinstance(phrases, str):
            raise TypeError(f"constraints: input {index} has the text {phrases!r}; give a list "
                            "of phrases for each input")
    each = task if isinstance(task, Sequence) else [task] * len(constraints)
    return [[words_of(task, p) if isinstance(p, str) else np.asarray(p, np.int32)
             for p in phrases] for task, phrases in zip(each, constraints, strict=True)]


def words_of(task: TextTask, text: str) -> np.ndarray:
    """The ids of a text of the target language, with nothing around them."""
    return task.target_frame.words(task.encode_target(text))


def check_order(order: str, constraints: Sequence[Any] | None) -> None:
    """Raises ConfigError for an order of phrases where there are none."""
    if constraints is None and order != "ordered":
        raise ConfigError(f"constraint_order: {order!r}, but there are no constraints")


def trie_of(task: TextTask, outputs: Sequence[Text]) -> TokenTrie:
    """A trie of permitted outputs: texts, or ids that end in eos."""
    if isinstance(outputs, str):
        raise TypeError("permitted outputs: give a list of texts")
    form = task.target_form
    return TokenTrie([_output(task, x) if isinstance(x, str) else x for x in outputs],
                     eos=form.eos)


def _output(task: TextTask, text: str) -> np.ndarray:
    """The ids of a text as a search gives them: up to what ends an output, behind what it must
    begin with."""
    form, ids = task.target_form, [int(i) for i in task.encode_target(text)]
    if tuple(ids[:len(form.first)]) != form.first:
        ids = [*form.first, *ids]
    return np.array(ids[:ids.index(form.eos) + 1], np.int32)


def split_lines(
    lines: Sequence[str], *, first: int = 1, name: str = "line {}"
) -> tuple[list[str], list[list[str]]]:
    """`source TAB phrase TAB phrase` lines, as fairseq-interactive reads them: the sources,
    and the phrases of each.

    Args:
      lines: without their newlines.
      first: the number of the first line.
      name: what errors call line {}.

    Raises:
      ConfigError: two tabs with nothing between them, or phrases without a source before
        them; the message has the line's number.
    """
    sources, constraints = [], []
    for number, line in enumerate(lines, first):
        source, *phrases = line.strip().split("\t")
        if not all(phrase.strip() for phrase in phrases):
            raise ConfigError(f"{name.format(number)}: a constraint between its tabs is empty: "
                              "take out one tab")
        if source and not line.partition("\t")[0].strip() and "\t" in line:
            raise ConfigError(f"{name.format(number)}: begins with a tab, so there is no source "
                              "before its constraints")
        sources.append(source)
        constraints.append(phrases)
    return sources, constraints
