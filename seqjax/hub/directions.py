"""Which languages each input of a call is translated between.

A task and what the caller says of languages go in, the task of each input comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqjax.generation.allowed import AllowedTokens, TokenTrie
from seqjax.tasks.protocol import TextTask

Languages = str | Sequence[str] | None
"""One language for all inputs, or one for each."""


def of_inputs(
    task: TextTask, source_lang: Languages, target_lang: Languages, *, count: int
) -> list[TextTask]:
    """The task of each of `count` inputs.

    Raises:
      ConfigError: see `TextTask.translating`.
      ValueError: as many languages as inputs were to be given.
      TypeError: something else than languages.
    """
    each = [_each(name, given, count) for name, given in (
        ("source_lang", source_lang), ("target_lang", target_lang))]
    known: dict[tuple[str | None, str | None], TextTask] = {}
    for pair in zip(*each, strict=True):
        if pair not in known:
            known[pair] = task.translating(*pair)
    return [known[pair] for pair in zip(*each, strict=True)]


def _each(name: str, given: Languages, count: int) -> list[str | None]:
    if given is None or isinstance(given, str):
        return [given] * count
    found: list[str | None] = [*given]
    if not all(lang is None or isinstance(lang, str) for lang in found):
        raise TypeError(f"{name}: give the name of a language, or one for each input")
    if len(found) != count:
        raise ValueError(f"{name}: {len(found)} languages for {count} inputs: give one each, or "
                         "one for all")
    return found


def by_end(tasks: Sequence[TextTask]) -> list[list[int]]:
    """Places of inputs whose outputs end alike, which can be searched together; of no inputs one
    empty list."""
    found: dict[int, list[int]] = {}
    for place, task in enumerate(tasks):
        found.setdefault(task.target_form.eos, []).append(place)
    return list(found.values()) or [[]]


def at(places: Sequence[int], values: Any, *, count: int, name: str) -> Any:
    """What belongs to some of `count` inputs, of one value for all or a list of one for each.

    Raises:
      ValueError: a list of another length.
    """
    if values is None or len(places) == count or isinstance(values, (str, TokenTrie)):
        return values
    if len(values) != count:
        raise ValueError(f"{name}: there are {len(values)} values for {count} inputs: give one "
                         "each")
    return [values[i] for i in places]


def plan_of(
    plan: Sequence[Sequence[int]] | None, places: Sequence[int]
) -> list[list[int]] | None:
    """Batches in the numbers of some of the inputs."""
    if plan is None:
        return None
    number = {place: i for i, place in enumerate(places)}
    parts = [[number[i] for i in part if i in number] for part in plan]
    return [part for part in parts if part]


def asked_of(function: AllowedTokens | None, places: Sequence[int]) -> AllowedTokens | None:
    """A caller's function, asked with places among all inputs."""
    if function is None:
        return None
    return lambda number, ids: function(places[number], ids)
