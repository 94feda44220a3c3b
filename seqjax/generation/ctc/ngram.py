"""An n-gram model as arrays: (state, word) -> (log10 probability, next state), compiled.

A state is a context, the last words that the model still distinguishes; backing off goes to the
state of the context without its oldest word (Katz). Numbers are those of KenLM, log10.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.config import ConfigError
from seqjax.generation.ctc.arpa import Entry, read_arpa
from seqjax.generation.ctc.sorted_table import ABSENT, Arrays, SortedTable, find, sorted_table

UNK, BOS, EOS = "<unk>", "<s>", "</s>"
UNSEEN = -100.0
"""log10 probability of an unknown word in a model without `<unk>` (KenLM's)."""
EMPTY = 0
"""The state without any context."""


class NGramArrays(NamedTuple):
    """A model on its way through compiled code."""

    unigrams: jax.Array
    """[W] float32 log10 probabilities without context."""
    after: jax.Array
    """[W] int32: the state after a word without context."""
    backoffs: jax.Array
    """[S] float32."""
    shorter: jax.Array
    """[S] int32: the state of the context without its oldest word."""
    successors: Arrays
    """Rows are states, keys are words."""
    log10: jax.Array
    """[N] float32, of the successors."""
    next_state: jax.Array
    """[N] int32."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NGramForm:
    """What a search is compiled for."""

    order: int
    steps: int
    """Bisections that find a successor."""
    unk: int
    """The id that unknown words have."""
    eos: int | None
    """The id of `</s>`, where the model has one."""
    start: int
    """The state after `<s>`."""

    def advance(
        self, arrays: NGramArrays, states: jax.Array, words: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """log10 probabilities and next states of (state, word) pairs, each of their shape."""
        total = jnp.zeros(states.shape, jnp.float32)
        log10, after = arrays.unigrams[words], arrays.after[words]
        found = jnp.zeros(states.shape, bool)
        for _ in range(self.order - 1):
            at = find(arrays.successors, states, words, steps=self.steps)
            here = (at != ABSENT) & ~found
            log10 = jnp.where(here, arrays.log10[at], log10)
            after = jnp.where(here, arrays.next_state[at], after)
            found |= at != ABSENT
            total = jnp.where(found, total, total + arrays.backoffs[states])
            states = arrays.shorter[states]
        return total + log10, after


@dataclasses.dataclass(frozen=True, kw_only=True)
class NGram:
    """An n-gram model of words."""

    words: dict[str, int]
    """Each word's id, `<unk>` among them."""
    form: NGramForm
    successors: SortedTable
    table: dict[str, np.ndarray]
    """The other fields of `NGramArrays`."""

    @cached_property
    def arrays(self) -> NGramArrays:
        """What `advance` takes."""
        return NGramArrays(successors=self.successors.arrays,
                           **{name: jnp.asarray(value) for name, value in self.table.items()})

    def unigram(self, word: int) -> float:
        """log10 probability of a word without context."""
        return float(self.table["unigrams"][word])

    def score(self, words: Sequence[str], *, bos: bool = True, eos: bool = True) -> float:
        """log10 probability of a sentence; unknown words count as `<unk>`."""
        ids = [self.words.get(word, self.form.unk) for word in words]
        if eos and self.form.eos is not None:
            ids.append(self.form.eos)
        state, total = jnp.int32(self.form.start if bos else EMPTY), 0.0
        for word in ids:
            log10, state = _advance(self.form, self.arrays, state, jnp.int32(word))
            total += float(log10)
        return total


@partial(jax.jit, static_argnums=0)
def _advance(
    form: NGramForm, arrays: NGramArrays, states: jax.Array, words: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    return form.advance(arrays, states, words)


def load_ngram(path: str | Path) -> NGram:
    """The model of an ARPA file (see `arpa.read_arpa` for its errors)."""
    orders = read_arpa(path)
    try:
        return build_ngram(orders)
    except KeyError as error:
        raise ConfigError(
            f"{path}: {error.args[0]!r} stands in an n-gram, but is no unigram") from None


def build_ngram(orders: Sequence[Sequence[Entry]]) -> NGram:
    """The model of n-grams by order.

    Raises:
      KeyError: a word that is no unigram.
    """
    words = {entry.words: i for i, entry in enumerate(orders[0])}
    unigrams = [entry.log10 for entry in orders[0]]
    if UNK not in words:
        words[UNK] = len(words)
        unigrams.append(UNSEEN)
    # Every n-gram that can be a context is a state; the empty context is the first.
    contexts = {"": EMPTY}
    backoffs = [0.0]
    for entries in orders[:-1]:
        for entry in entries:
            contexts[entry.words] = len(contexts)
            backoffs.append(entry.backoff)
    state_of = _Longest(contexts)
    rows, keys, log10, following = [], [], [], []
    for entries in orders[1:]:
        for entry in entries:
            context, _, word = entry.words.rpartition(" ")
            if context not in contexts:
                # Pruned away, though its extension was kept: nothing can lead here.
                continue
            rows.append(contexts[context])
            keys.append(words[word])
            log10.append(entry.log10)
            following.append(state_of(entry.words))
    successors, order = sorted_table(
        np.array(rows, np.int64), np.array(keys, np.int64), size=len(contexts))
    held = len(successors.keys)
    return NGram(
        words=words, successors=successors,
        form=NGramForm(order=len(orders), steps=successors.steps, unk=words[UNK],
                       eos=words.get(EOS), start=contexts.get(BOS, EMPTY)),
        table={
            "unigrams": np.array(unigrams, np.float32),
            "after": np.array([contexts.get(word, EMPTY) for word in words], np.int32),
            "backoffs": np.array(backoffs, np.float32),
            "shorter": np.array([state_of(_tail(context)) for context in contexts], np.int32),
            "log10": np.resize(np.array(log10, np.float32)[order], held),
            "next_state": np.resize(np.array(following, np.int32)[order], held),
        })


def _tail(words: str) -> str:
    return words.partition(" ")[2]


class _Longest:
    """Words to the state of the longest of their ends that is a context."""

    def __init__(self, contexts: dict[str, int]):
        self._contexts = contexts

    def __call__(self, words: str) -> int:
        while words not in self._contexts:
            words = _tail(words)
        return self._contexts[words]
