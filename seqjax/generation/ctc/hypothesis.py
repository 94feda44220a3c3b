"""What decoding a CTC model gives: tokens, words, score, times."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class CTCHypothesis:
    """One output of an utterance."""

    tokens: np.ndarray
    """[L] int32, without blanks and repetitions."""
    words: tuple[str, ...] | None
    """The words that a lexicon or a language model made of them; None without."""
    score: float
    """Natural logarithm of its probability, with what language model and words added; of
    greedy decoding, that of the best path."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordTime:
    """A word and its frames."""

    word: str
    start: int
    """Its first frame."""
    end: int
    """The frame after its last."""


def split_words(tokens: Sequence[int], *, silence: int) -> list[tuple[int, int]]:
    """Where words lie between silences: (first, after the last) of each."""
    spans, begin = [], None
    for i, token in enumerate([*tokens, silence]):
        if token == silence:
            if begin is not None:
                spans.append((begin, i))
            begin = None
        elif begin is None:
            begin = i
    return spans


def word_times(
    tokens: Sequence[int], spans: np.ndarray, *, silence: int, symbols: Sequence[str],
) -> list[WordTime]:
    """Times of the words between silences.

    Args:
      tokens: L ids.
      spans: [L, 2] frames of each (`alignment.align`).
      silence: the token between words.
      symbols: each id's text; a word is its tokens' texts, joined.
    """
    return [
        WordTime(word="".join(symbols[token] for token in tokens[first:end]),
                 start=int(spans[first, 0]), end=int(spans[end - 1, 1]))
        for first, end in split_words(tokens, silence=silence)]
