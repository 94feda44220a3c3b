"""Where words begin in a sentence of pieces, for noise that takes whole words.

A vocabulary and the kind of its pieces go in; a `WordStarts` comes out, which is asked for each
sentence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from seqjax.data.vocabulary import Vocabulary

SENTENCEPIECE = "▁"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class WordStarts:
    """What pieces say of words."""

    begins: np.ndarray
    """[V] bool: a word begins with this piece, unless the one before `continues`."""
    alone: np.ndarray
    """[V] bool: a word by itself, whatever stands before it."""
    continues: np.ndarray | None = None
    """[V] bool: the word goes on behind this piece (subword-nmt's `@@`); None: no piece says
    so."""

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        """[S] bool: whether a word begins at each of `tokens` [S]; at the first one always."""
        found = self.begins[tokens]
        if self.continues is not None:
            found[1:] &= ~self.continues[tokens[:-1]]
        found |= self.alone[tokens]
        found[:1] = True
        return found

    def sizes(self, tokens: np.ndarray) -> np.ndarray:
        """[words] int64: the number of tokens of each word."""
        return np.diff(np.append(np.flatnonzero(self(tokens)), len(tokens)))


def word_starts(
    vocabulary: Vocabulary, kind: str, *, decode: Callable[[str], str] | None = None
) -> WordStarts:
    """How words are told in sentences of a vocabulary. Special symbols, and the words
    `madeupword...` that fill up a dictionary, are words by themselves.

    Args:
      kind: of the pieces, as fairseq's `--bpe` calls it.
      decode: pieces, joined by spaces, to text; for kinds whose pieces are written in bytes.

    Raises:
      ValueError: an unknown kind, or one that needs `decode`.
    """
    symbols = vocabulary.symbols
    own = np.array([s.startswith("madeupword") for s in symbols], bool)
    own[vocabulary.special()] = True
    if kind in ("subword_nmt", "fastbpe"):
        # fairseq cannot mask whole words of these: only the piece before says whether one begins.
        continues = np.array([s.endswith("@@") for s in symbols], bool) & ~own
        return WordStarts(begins=np.ones(len(symbols), bool), alone=own, continues=continues)
    test = _tests(decode).get(kind)
    if test is None:
        raise ValueError(
            f"whole words are known of the subwords sentencepiece, bert, gpt2, hf_byte_bpe, "
            f"subword_nmt and fastbpe, not of {kind!r}"
            + (" without a tokenizer" if kind in _DECODED else ""))
    begins = np.array([o or test(s) for o, s in zip(own, symbols, strict=True)], bool)
    return WordStarts(begins=begins, alone=own)


_DECODED = ("gpt2", "hf_byte_bpe")


def _tests(decode: Callable[[str], str] | None) -> dict[str, Callable[[str], bool]]:
    """Kind -> whether a piece begins a word."""
    found: dict[str, Callable[[str], bool]] = {
        "sentencepiece": lambda piece: piece.startswith(SENTENCEPIECE),
        "bert": lambda piece: not piece.startswith("##"),
    }
    if decode is not None:

        def after_space(piece: str) -> bool:
            try:
                return decode(piece).startswith(" ")
            except (ValueError, KeyError):
                return True  # no piece of the tokenizer's, such as <mask>

        found |= dict.fromkeys(_DECODED, after_space)
    return found
