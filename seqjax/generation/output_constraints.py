"""Constraints on the outputs of one call, on the host: phrases, tries or a callback go in.

Out come the search strategy that honours them, errors for what no output can fulfil, and
arrays for each batch (`Sentences.constraints`, `Sentences.tables`).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.config import ConfigError, GenerationConfig
from seqjax.generation import allowed, constraints
from seqjax.generation.allowed import AllowedTokens, Callback, Callbacks, TokenTrie
from seqjax.generation.beam_search import has_sibling_penalty
from seqjax.generation.constrained import ConstrainedSelection
from seqjax.generation.errors import InputError
from seqjax.generation.processors import Packed, Tables
from seqjax.generation.selection import Strategy


@dataclasses.dataclass(kw_only=True, eq=False)
class OutputConstraint(contextlib.AbstractContextManager["OutputConstraint"]):
    """No constraint; the others' base. A context, entered while a search runs."""

    strategy: Strategy | None = None
    """None: what the options say."""
    tables: Tables = None
    """`Sentences.tables`."""

    def check(self, limits: np.ndarray, *, pad: int, eos: int, bos: int, vocabulary: int) -> None:
        """Refuses what no output can be like.

        Args:
          limits: tokens of each sentence's output at most, eos not counted.

        Raises:
          ValueError: naming the sentence, from 0.
        """

    def pack(self, indices: Sequence[int], *, rows: int) -> Packed:
        """`Sentences.constraints` of a batch: numpy arrays of leading axis `rows`, or None."""
        return None

    def settle(self) -> None:
        """Raises what went wrong on the host in the middle of the search."""

    def __exit__(self, *_: object) -> None:
        """The search is over."""


@dataclasses.dataclass(kw_only=True, eq=False)
class PhraseConstraint(OutputConstraint):
    """Outputs contain phrases."""

    phrases: Sequence[constraints.Phrases]
    order: str

    def __post_init__(self) -> None:
        self._progress = constraints.progress_of(self.order)
        self.strategy = ConstrainedSelection(progress=self._progress)

    def check(self, limits: np.ndarray, *, pad: int, eos: int, bos: int, vocabulary: int) -> None:
        constraints.check(self.phrases, pad=pad, eos=eos, bos=bos, vocabulary=vocabulary)
        constraints.check_lengths(self.phrases, limits)
        self._size = self._progress.size(self.phrases)

    def pack(self, indices: Sequence[int], *, rows: int) -> Packed:
        return self._progress.pack(
            [self.phrases[i] for i in indices], size=self._size, rows=rows)


@dataclasses.dataclass(kw_only=True, eq=False)
class TrieConstraint(OutputConstraint):
    """Outputs are among those of tries."""

    tries: Sequence[TokenTrie]
    """One of each sentence."""

    def __post_init__(self) -> None:
        self.strategy = allowed.TrieSelection()
        different = list({id(trie): trie for trie in self.tries}.values())
        if not different:  # no sentences
            return
        forest, roots = allowed.join_tries(different)
        number = {id(trie): root for trie, root in zip(different, roots, strict=True)}
        self._roots = np.array([number[id(trie)] for trie in self.tries], np.int32)
        self.tables = jax.tree.map(jnp.asarray, forest)

    def check(self, limits: np.ndarray, *, pad: int, eos: int, bos: int, vocabulary: int) -> None:
        for index, trie in enumerate(self.tries):
            if trie.eos != eos:
                raise InputError(index, f"its permitted outputs end in {trie.eos}, but the "
                                 f"model's eos is {eos}: TokenTrie(..., eos={eos})",
                                 separator=": ")
            if trie.tokens.max() >= vocabulary:
                raise InputError(index, f"a permitted output has the id {trie.tokens.max()}, but "
                                 f"the vocabulary has {vocabulary}", separator=": ")

    def pack(self, indices: Sequence[int], *, rows: int) -> Packed:
        roots = np.zeros(rows, np.int32)
        roots[:len(indices)] = self._roots[list(indices)]
        return roots


@dataclasses.dataclass(kw_only=True, eq=False)
class CallbackConstraint(OutputConstraint):
    """A function says which tokens may come next."""

    function: AllowedTokens
    callbacks: Callbacks

    def __post_init__(self) -> None:
        self.strategy = allowed.CallbackSelection(callbacks=self.callbacks)
        self._callback: Callback | None = None

    def __enter__(self) -> CallbackConstraint:
        self._number, self._callback = self.callbacks.add(self.function)
        self.tables = jnp.int32(self._number)
        return self

    def settle(self) -> None:
        if self._callback is not None:
            self._callback.check()

    def __exit__(self, *_: object) -> None:
        self.callbacks.remove(self._number)


def output_constraint_of(
    config: GenerationConfig, sentences: int, *, callbacks: Callbacks,
    phrases: Sequence[constraints.Phrases] | None = None, order: str = "ordered",
    permitted: TokenTrie | Sequence[TokenTrie] | None = None, function: AllowedTokens | None = None,
) -> OutputConstraint:
    """The constraint of one call.

    Args:
      config: the options, some of which exclude constraints.
      sentences: how many there are.
      callbacks: those of the caller's searches.
      phrases, order: of constraints.
      permitted: a trie for all sentences, or one each.
      function: says which tokens may come next.

    Raises:
      ConfigError: more than one of them, or an option that goes with none.
      ValueError: another number of them than of sentences.
    """
    chosen = {
        "constraints": phrases is not None, "allowed": permitted is not None,
        "prefix_allowed_tokens_fn": function is not None, "sampling": config.sampling,
        "diverse_beam_groups": config.diverse_beam_groups > 0,
        "diversity_rate": has_sibling_penalty(config), "match_source_len": config.match_source_len,
    }
    names = [name for name, on in chosen.items() if on]
    if phrases is None and permitted is None and function is None:
        return OutputConstraint()
    if len(names) > 1:
        raise ConfigError(f"generation: {' and '.join(names)} exclude each other: each is a "
                          "search of its own; keep one")
    if phrases is not None:
        _check_count(len(phrases), sentences, "lists of constraints")
        return PhraseConstraint(phrases=phrases, order=order)
    if function is not None:
        return CallbackConstraint(function=function, callbacks=callbacks)
    tries = [permitted] * sentences if isinstance(permitted, TokenTrie) else list(permitted or ())
    _check_count(len(tries), sentences, "tries of permitted outputs")
    return TrieConstraint(tries=tries)


def _check_count(found: int, sentences: int, what: str) -> None:
    if found != sentences:
        raise ValueError(f"Decoder: {found} {what} for {sentences} sources")
