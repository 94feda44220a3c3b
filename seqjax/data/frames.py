"""Tokens around the words of a sentence: words in, what a model reads or predicts out, and back.

`__de__ Wort Wort </s>`, `words </s> [en_XX]`, `<s> words </s>`: a `Frame` says what stands before
the words and what ends them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frame:
    """One side's tokens around its words."""

    eos: int
    """What sentences of a data folder, and encoded texts, end in."""
    before: tuple[int, ...] = ()
    """Ids in front of the words."""
    after: tuple[int, ...]
    """Ids behind them, in the place of that eos."""

    @classmethod
    def plain(cls, eos: int) -> Frame:
        """Words and eos, nothing else."""
        return cls(eos=eos, after=(eos,))

    @property
    def is_plain(self) -> bool:
        """Whether sentences stay as they are."""
        return not self.before and self.after == (self.eos,)

    @property
    def extra(self) -> int:
        """Tokens that a sentence with its eos grows by."""
        return len(self.before) + len(self.after) - 1

    @property
    def tokens(self) -> tuple[int, ...]:
        """Ids in it that are no eos: what is left out of text."""
        return tuple(i for i in (*self.before, *self.after) if i != self.eos)

    def holds(self, ids: Sequence[int] | np.ndarray) -> bool:
        """Whether ids have these tokens around them already."""
        before, after = len(self.before), len(self.after)
        ids = [int(i) for i in ids]
        return (len(ids) >= before + after and tuple(ids[:before]) == self.before
                and tuple(ids[len(ids) - after:]) == self.after)

    def put(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Ids [n] of words, with or without their eos, or in this frame already -> int32 ids in
        this frame."""
        array = np.asarray(ids, np.int32)
        if self.holds(array):
            return array
        return np.concatenate([self.before, self.words(array), self.after]).astype(np.int32)

    def words(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """The words of ids [n], which may be in this frame, end in eos, or in neither."""
        array = np.asarray(ids, np.int32)
        if self.holds(array):
            return array[len(self.before):len(array) - len(self.after)]
        return array[:-1] if len(array) and array[-1] == self.eos else array

    def cut(self, ids: np.ndarray, limit: int) -> np.ndarray:
        """The first words of ids in this frame, `limit` tokens in all."""
        room = max(0, limit - len(self.before) - len(self.after))
        return self.put(self.words(ids)[:room])


def framed_lengths(stored: np.ndarray, frame: Frame, truncate: int | None) -> np.ndarray:
    """[N] int32 tokens of sentences in a frame, from those of them with their eos; `truncate` at
    most."""
    lengths = np.where(stored > 0, stored + frame.extra, 0).astype(np.int32)
    return lengths if truncate is None else np.minimum(lengths, truncate)


def framed(tokens: np.ndarray, lengths: np.ndarray, frame: Frame) -> np.ndarray:
    """Sentences one after the other, each with its eos -> the same in a frame.

    Args:
      tokens: of all of them.
      lengths: [n] of each.

    Raises:
      ValueError: one does not end in eos.
    """
    if not len(lengths):
        return tokens
    ends = np.cumsum(lengths, dtype=np.int64)
    if (tokens[ends - 1] != frame.eos).any():
        raise ValueError(f"a sentence does not end in eos ({frame.eos}), in whose place other "
                         "tokens were to stand")
    after = np.arange(1, len(lengths) + 1, dtype=np.int64) * frame.extra + ends
    out = np.empty(len(tokens) + len(lengths) * frame.extra, np.int32)
    words = np.ones(len(out), bool)
    for place, token in enumerate(frame.before):
        at = np.concatenate([[0], after[:-1]]) + place
        out[at], words[at] = token, False
    for place, token in enumerate(reversed(frame.after), 1):
        out[after - place], words[after - place] = token, False
    kept = np.ones(len(tokens), bool)
    kept[ends - 1] = False
    out[words] = tokens[kept]
    return out
