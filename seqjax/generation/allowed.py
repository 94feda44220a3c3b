"""Outputs that must be one of given sequences, or whose next tokens a function names.

fairseq's `PrefixConstrainedBeamSearch` (De Cao et al. 2021), in two ways: `TokenTrie` holds
the permitted outputs and is followed on the device; any other rule is a Python function
that the search calls at every step.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from seqjax.generation.constraints import Array
from seqjax.generation.processors import Scores, Sentences, StepRules
from seqjax.generation.search_state import SearchState, history
from seqjax.generation.selection import (
    BeamSelection,
    Candidates,
    Strategy,
    candidate_count,
    first_step,
    replicate_first,
)
from seqjax.generation.topk import block_maxima, top_k

AllowedTokens = Callable[[int, np.ndarray], Sequence[int]]
"""fairseq's `prefix_allowed_tokens_fn`: (number of the sentence in the input, its tokens so
far, the leading bos included) -> tokens that may come next."""


# ---- permitted outputs ----


class TokenTrie:
    """Permitted outputs, their common prefixes shared.

    Nodes are numbered level by level, so that the children of a node are neighbours; node 0
    is the root.
    """

    def __init__(self, sequences: Sequence[Sequence[int] | np.ndarray], *, eos: int = 2) -> None:
        """
        Args:
          sequences: ids of each permitted output, with its final eos.
          eos: its id.

        Raises:
          ValueError: there are none, or one has no eos at its end, or another eos; the
            message has its number, from 0.
        """
        arrays = [np.asarray(s, np.int64).reshape(-1) for s in sequences]
        if not arrays:
            raise ValueError("TokenTrie: no permitted outputs were given")
        for number, ids in enumerate(arrays):
            if not len(ids) or ids[-1] != eos or (ids[:-1] == eos).any() or ids.min() < 0:
                raise ValueError(f"TokenTrie: permitted output {number} must be ids of tokens "
                                 f"that end in eos ({eos}) and hold no other eos")
        self.eos = eos
        self.tokens, parents = _nodes(arrays)
        """[N] int32: the token that leads to each node; of the root -1."""
        numbers = np.arange(len(self.tokens))
        self.first = (np.searchsorted(parents, numbers) + 1).astype(np.int32)
        """[N] int32: the first child of each node, by token."""
        self.count = np.bincount(parents, minlength=len(numbers)).astype(np.int32)
        """[N] int32: how many there are."""

    def __len__(self) -> int:
        """Nodes."""
        return len(self.tokens)

    def next_tokens(self, tokens: Sequence[int] | np.ndarray) -> list[int]:
        """Tokens that may follow the first ones of an output (without bos), in order."""
        node = 0
        for token in np.asarray(tokens).tolist():
            children = self._children(node)
            place = int(np.searchsorted(children, token))
            if place == len(children) or children[place] != token:
                return []
            node = int(self.first[node]) + place
        return self._children(node).tolist()

    def _children(self, node: int) -> np.ndarray:
        return self.tokens[self.first[node]:self.first[node] + self.count[node]]


def _nodes(sequences: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The token of every node, -1 of the root, and the parents of all but the root, which
    rise."""
    matrix = np.full((len(sequences), max(map(len, sequences))), -1, np.int32)
    for row, ids in enumerate(sequences):
        matrix[row, :len(ids)] = ids
    matrix = matrix[np.lexsort(matrix.T[::-1])]
    node = np.zeros(len(matrix), np.int64)
    tokens, parents, size = [np.array([-1])], [], 1
    for column in matrix.T:
        rows = np.flatnonzero(column >= 0)
        parent, token = node[rows], column[rows]
        new = np.ones(len(rows), bool)
        new[1:] = (parent[1:] != parent[:-1]) | (token[1:] != token[:-1])
        node[rows] = size + np.cumsum(new) - 1
        size += int(new.sum())
        tokens.append(token[new])
        parents.append(parent[new])
    return np.concatenate(tokens).astype(np.int32), np.concatenate(parents)


@struct.dataclass
class Forest:
    """Several tries on the device. Node 0 leads nowhere: hypotheses that left their trie."""

    tokens: Array
    """[N] int32."""
    first: Array
    """[N] int32."""
    count: Array
    """[N] int32."""
    reach: Array
    """[R] int32, 0, 1, ...: as long as the largest number of children."""

    def children(self, node: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Nodes [B, W] -> their children, those's tokens, and which there are, [B, W, R]."""
        exists = self.reach < self.count[node][..., None]
        index = jnp.where(exists, self.first[node][..., None] + self.reach, 0)
        return index, jnp.maximum(self.tokens[index], 0), exists


def join_tries(tries: Sequence[TokenTrie]) -> tuple[Forest, np.ndarray]:
    """All tries in one set of arrays, and the root of each; the sizes are powers of two, so
    that few programs are compiled."""
    roots = np.cumsum([1, *map(len, tries)])
    size = _power(int(roots[-1]))
    forest = Forest(
        tokens=np.zeros(size, np.int32), first=np.zeros(size, np.int32),
        count=np.zeros(size, np.int32),
        reach=np.arange(_power(max(int(trie.count.max()) for trie in tries)), dtype=np.int32))
    for trie, (begin, end) in zip(tries, itertools.pairwise(roots), strict=True):
        forest.tokens[begin:end] = trie.tokens
        forest.first[begin:end] = trie.first + begin
        forest.count[begin:end] = trie.count
    return forest, roots[:-1].astype(np.int32)


def _power(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrieSelection(Strategy):
    """The best W continuations that lead to permitted outputs.

    `sentences.constraints` are the roots [B], `sentences.tables` is the forest; the memory is
    the node of each hypothesis, [B, W].
    """

    def start(self, sentences: Sentences, *, beam: int) -> jax.Array:
        return jnp.broadcast_to(sentences.constraints[:, None], (len(sentences.constraints), beam))

    def select(
        self, scores: Scores, rules: StepRules, sentences: Sentences, position: jax.Array,
        memory: jax.Array,
    ) -> tuple[Candidates, jax.Array]:
        b, w, v = scores.values.shape
        count = candidate_count(w, v, multiple=1)
        scores, owner = replicate_first(first_step(scores, position), rules)
        node = jnp.where(rules.eos_prefix[:, None], memory[:, :1], memory)
        _, tokens, exists = sentences.tables.children(node)
        log_probs = jnp.take_along_axis(scores.values, tokens, axis=2) - scores.minus[..., None]
        exists = exists & (scores.plus > -jnp.inf)[..., None]
        total = jnp.where(
            exists, rules.mask(log_probs, tokens) + scores.plus[..., None], -jnp.inf)
        best = top_k(total.reshape(b, -1), count)
        beams = best.indices // tokens.shape[2]
        return Candidates(
            scores=best.values,
            tokens=jnp.take_along_axis(tokens.reshape(b, -1), best.indices, axis=1),
            beams=jnp.take_along_axis(owner, beams, axis=1)), memory

    def follow(
        self, memory: jax.Array, sentences: Sentences, *, parents: jax.Array, tokens: jax.Array,
    ) -> jax.Array:
        node = jnp.take_along_axis(memory, parents, axis=1)
        index, following, exists = sentences.tables.children(node)
        return jnp.where(exists & (following == tokens[..., None]), index, 0).sum(-1)


# ---- a callback ----


@dataclasses.dataclass(kw_only=True, eq=False)
class Callback:
    """A function that a search calls, and what came of it."""

    function: AllowedTokens
    error: BaseException | None = None

    def check(self) -> None:
        """Raises what the function raised, if anything."""
        if self.error is not None:
            raise self.error


class Callbacks:
    """The functions that running searches call, by number: another function is no reason
    to compile again."""

    def __init__(self) -> None:
        self._open: dict[int, Callback] = {}
        self._numbers = itertools.count()

    def add(self, function: AllowedTokens) -> tuple[int, Callback]:
        """Takes a function in; its number."""
        number, callback = next(self._numbers), Callback(function=function)
        self._open[number] = callback
        return number, callback

    def remove(self, number: int) -> None:
        """Forgets a function whose search is over."""
        del self._open[number]

    def answer(
        self, number: Any, index: Any, tokens: Any, asked: Any, *, vocabulary: int,
    ) -> np.ndarray:
        """[B, W, V] bool: tokens that may follow.

        Nothing may once the function has failed: who reads the results raises the error.

        Args:
          number: of the function.
          index: [B] numbers of the sentences.
          tokens: [B, W, 1 + C], of which the first `asked` ones are a hypothesis.
          asked: [B, W] int32: how many; 0 for hypotheses that do not matter.
          vocabulary: V.
        """
        tokens, asked, index = np.asarray(tokens), np.asarray(asked), np.asarray(index)
        out = np.zeros((*asked.shape, vocabulary), bool)
        callback = self._open.get(int(number))
        if callback is None or callback.error is not None:
            return out
        try:
            for b, w in zip(*np.nonzero(asked), strict=True):
                sentence = int(index[b])
                found = callback.function(sentence, tokens[b, w, :asked[b, w]].copy())
                out[b, w, _checked(found, sentence, vocabulary)] = True
        except Exception as error:
            callback.error = error
            out[:] = False
        return out


def _checked(found: Sequence[int], sentence: int, vocabulary: int) -> np.ndarray:
    try:
        given = np.asarray(found).reshape(-1)
    except ValueError:
        given = np.array([""])
    if given.size and given.dtype.kind not in "iu":
        raise TypeError(f"prefix_allowed_tokens_fn: gave {type(found).__name__} {found!r} for "
                        f"sentence {sentence}; it gives the ids that may come next, in a list")
    ids = given.astype(np.int64)
    wrong = ids[(ids < 0) | (ids >= vocabulary)]
    if len(wrong):
        raise ValueError(f"prefix_allowed_tokens_fn: allowed the id {wrong[0]} for sentence "
                         f"{sentence}, but the vocabulary has {vocabulary} entries")
    return ids


@dataclasses.dataclass(frozen=True, kw_only=True)
class CallbackSelection(BeamSelection):
    """The best W continuations among those that a function allows.

    `sentences.tables` is the function's number among the callbacks. Every step waits for
    the host, which calls it for each hypothesis.
    """

    callbacks: Callbacks
    multiple: int = 1

    def restrict(self, scores: Scores, sentences: Sentences, state: SearchState) -> Scores:
        b, w, v = scores.values.shape
        lead = jnp.broadcast_to(sentences.bos[:, None, None], (b, w, 1))
        tokens = jnp.concatenate([lead, history(state)], axis=2)
        matters = (scores.plus > -jnp.inf) & ~state.done[:, None]
        matters = matters & ((state.position > 0) | (jnp.arange(w) == 0))
        allowed = jax.pure_callback(
            functools.partial(self.callbacks.answer, vocabulary=v),
            jax.ShapeDtypeStruct((b, w, v), bool), sentences.tables, sentences.index, tokens,
            jnp.where(matters, state.position + 1, 0))
        values = jnp.where(allowed, scores.values, -jnp.inf)
        return dataclasses.replace(scores, values=values, maxima=block_maxima(values))
