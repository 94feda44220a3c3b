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
