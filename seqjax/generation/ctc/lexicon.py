"""Words and their spellings to a trie of arrays: which token may follow, where words end.

A lexicon is fairseq's and flashlight's: a line per spelling, the word, white space, its tokens
(`HELLO H E L L O |`). A node of the trie is the tokens since the last word; node 0 is the root.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.config import ConfigError
from seqjax.generation.ctc.sorted_table import ABSENT, Arrays, find, sorted_table

ROOT = 0
NO_WORD = -1
UNKNOWN = -2
"""The word at the end of a spelling that is none of the lexicon's."""
_DENSE = 1 << 24
"""Entries up to which children are a plain table of nodes by tokens."""

Spelling = tuple[str, tuple[int, ...]]
"""A word and its tokens' ids."""


class TrieArrays(NamedTuple):
    """A trie on its way through compiled code."""

    children: Arrays
    """Rows are nodes, keys are tokens."""
    child: jax.Array
    """[N] int32, the children's nodes; of a dense trie [nodes * tokens], `ABSENT` for none."""
    words: jax.Array
    """[nodes, M] int32: indices of the words that end at a node, `NO_WORD` after the last."""
    goes_on: jax.Array
    """[nodes] bool: a hypothesis may stand here without ending a word."""
    look_ahead: jax.Array
    """[nodes] float32: the best score of a word below (flashlight's smearing by maximum)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrieForm:
    """What a search is compiled for."""

    tokens: int
    """Size of the tokens' vocabulary."""
    boundary: int | None
    """The token at which every word ends and no word has inside, if there is such a token."""
    ways: int
    """The most ways in which one token can go on: so many words that end, and none."""
    steps: int
    """Bisections that find a child; 0: children are a plain table of nodes by tokens."""

    def follow(self, arrays: TrieArrays, nodes: jax.Array, tokens: jax.Array) -> jax.Array:
        """Children of nodes by tokens, int32 of their common shape; `ABSENT` for none."""
        if not self.steps:
            return arrays.child[nodes * self.tokens + tokens]
        nodes, tokens = jnp.broadcast_arrays(nodes, tokens)
        at = find(arrays.children, nodes, tokens, steps=self.steps)
        return jnp.where(at != ABSENT, arrays.child[at], ABSENT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lexicon:
    """Spellings as a trie."""

    words: tuple[str, ...]
    tokens: int
    """Size of the tokens' vocabulary."""
    boundary: int | None
    """The token at which every word ends and no word has inside, if there is such a token."""
    pieces: Mapping[str, np.ndarray]
    """`rows`, `keys`, `child` of the edges; `words`, `goes_on` of the nodes."""
    look_ahead: np.ndarray
    """[nodes] float32."""

    @cached_property
    def form(self) -> TrieForm:
        """What a search is compiled for."""
        ends = (self.pieces["words"] != NO_WORD).sum(1)
        return TrieForm(tokens=self.tokens, boundary=self.boundary, steps=self._sorted[2],
                        ways=int((ends + self.pieces["goes_on"]).max()))

    @cached_property
    def arrays(self) -> TrieArrays:
        """What the search reads."""
        children, child, _ = self._sorted
        return TrieArrays(
            children=children, child=child, words=jnp.asarray(self.pieces["words"]),
            goes_on=jnp.asarray(self.pieces["goes_on"]), look_ahead=jnp.asarray(self.look_ahead))

    @cached_property
    def _sorted(self) -> tuple[Arrays, jax.Array, int]:
        rows, keys, child = (self.pieces[name] for name in ("rows", "keys", "child"))
        nodes = len(self.pieces["goes_on"])
        if nodes * self.tokens <= _DENSE:
            table = np.full((nodes, self.tokens), ABSENT, np.int32)
            table[rows, keys] = child
            nothing = jnp.zeros(1, jnp.int32)
            return Arrays(nothing, nothing), jnp.asarray(table.reshape(-1)), 0
        table, order = sorted_table(rows, keys, size=nodes)
        return table.arrays, jnp.asarray(child[order].astype(np.int32)), table.steps


def read_lexicon(path: str | Path, tokens: Mapping[str, int]) -> list[Spelling]:
    """The spellings of a file.

    Args:
      tokens: the model's tokens and their ids.

    Raises:
      ConfigError: no such file; a line without a spelling; a token that the model has not.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; `lexicon` is a file of words and "
                          "their tokens") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error.reason})") from error
    spellings = []
    for number, line in enumerate(lines, 1):
        word, *spelled = line.split() or [""]
        if not word:
            continue
        if not spelled:
            raise ConfigError(f"{path}:{number}: {word!r} has no spelling; a line is a word and "
                              "its tokens")
        unknown = [token for token in spelled if token not in tokens]
        if unknown:
            raise ConfigError(f"{path}:{number}: the model has no token {unknown[0]!r}; its "
                              f"tokens are {', '.join(list(tokens)[:8])} ...")
        spellings.append((word, tuple(tokens[token] for token in spelled)))
    if not spellings:
        raise ConfigError(f"{path}: the lexicon is empty")
    return spellings


def letters(words: Iterable[str], tokens: Mapping[str, int], *, boundary: str) -> list[Spelling]:
    """Words spelled by their letters and the boundary; words with other letters are left out."""
    end = tokens[boundary]
    return [(word, (*(tokens[letter] for letter in word), end))
            for word in words if all(letter in tokens for letter in word)]


class _Builder:
    """A trie while words are put into it."""

    def __init__(self) -> None:
        self.children: list[dict[int, int]] = [{}]
        self.words: list[list[int]] = [[]]

    def node(self) -> int:
        self.children.append({})
        self.words.append([])
        return len(self.children) - 1

    def insert(self, spelled: Sequence[int], word: int) -> None:
        at = ROOT
        for token in spelled:
            if token not in self.children[at]:
                self.children[at][token] = self.node()
            at = self.children[at][token]
        if word not in self.words[at]:
            self.words[at].append(word)

    def open(self, tokens: Iterable[int], boundary: int) -> None:
        """Any other spelling up to the boundary is an unknown word."""
        known = len(self.children)
        off, end = self.node(), self.node()
        self.words[end].append(UNKNOWN)
        others = [token for token in tokens if token != boundary]
        for node in (*range(known), off):
            if node != ROOT and boundary not in self.children[node] and not self.words[node]:
                self.children[node][boundary] = end
            if not self.words[node]:  # not behind a word's end
                for token in others:
                    self.children[node].setdefault(token, off)


def build_lexicon(
    spellings: Sequence[Spelling], *, tokens: int, boundary: int | None = None,
    unknown: Sequence[int] | None = None,
) -> Lexicon:
    """The trie of spellings.

    Args:
      spellings: words with their tokens; a word may have several, a spelling several words.
      tokens: size of the tokens' vocabulary.
      boundary: the token between words. Alone it may stand before and between them.
      unknown: the tokens that words outside the lexicon may have; None: there are no such words.

    Raises:
      ConfigError: `unknown` without a boundary.
    """
    words = tuple(dict.fromkeys(word for word, _ in spellings))
    index = {word: i for i, word in enumerate(words)}
    trie = _Builder()
    for word, spelled in spellings:
        trie.insert(spelled, index[word])
    if unknown is not None:
        if boundary is None:
            raise ConfigError("words outside the lexicon need a token between words (silence)")
        trie.open(unknown, boundary)
    if boundary is not None:
        trie.children[ROOT].setdefault(boundary, ROOT)
    most = max(1, max(map(len, trie.words)))
    ends = np.full((len(trie.words), most), NO_WORD, np.int32)
    for node, here in enumerate(trie.words):
        ends[node, :len(here)] = here
    edges = [(node, token, child) for node, children in enumerate(trie.children)
             for token, child in children.items()]
    rows, keys, child = (np.array(column, np.int64) for column in zip(*edges, strict=True))
    at_boundary = boundary is not None and all(
        spelled[-1] == boundary and boundary not in spelled[:-1] for _, spelled in spellings)
    goes_on = np.array([bool(children) for children in trie.children])
    return Lexicon(
        words=words, tokens=tokens, boundary=boundary if at_boundary else None,
        pieces={"rows": rows, "keys": keys, "child": child, "words": ends, "goes_on": goes_on},
        look_ahead=np.zeros(len(goes_on), np.float32))


def with_look_ahead(lexicon: Lexicon, scores: np.ndarray, *, unknown: float) -> Lexicon:
    """The lexicon, whose nodes know the best score of a word below them.

    Args:
      scores: [words] of each word, weighted as in the search.
      unknown: of a word outside the lexicon.
    """
    ends = lexicon.pieces["words"]
    own = np.where(ends == UNKNOWN, unknown, scores[np.maximum(ends, 0)])
    best = np.where(ends == NO_WORD, -np.inf, own).max(1)
    rows, child = lexicon.pieces["rows"], lexicon.pieces["child"]
    # Parents come before their children, but for the loops of unknown words, so a pass from
    # the last node to the first carries every score to the root.
    order = np.argsort(-rows, kind="stable")
    for row, to in zip(rows[order].tolist(), child[order].tolist(), strict=True):
        if best[to] > best[row] and to != ROOT:
            best[row] = best[to]
    best[ROOT] = 0.0  # nothing is expected of a word that has not begun
    return dataclasses.replace(lexicon, look_ahead=best.astype(np.float32))
