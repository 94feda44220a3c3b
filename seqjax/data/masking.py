"""Masked sentences to learn from: fairseq's `MaskTokensDataset`, draw for draw.

Ids of a sentence and a seed go in; out come the ids that a model reads, some of them replaced,
and what stood there. NumPy's generator of that seed is asked in fairseq's order, so that the
same tokens are masked.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from seqjax.data.word_starts import WordStarts


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Masking:
    """What is masked, and by what.

    Of the tokens of a sentence (special ones among them) floor(`prob` * number + U[0, 1)) are
    chosen. Of these, a share `leave_unmasked_prob` stays as it is, a share `random_token_prob`
    becomes another word, and all others become `mask`.

    Raises:
      ValueError: shares that are none.
    """

    mask: int
    """Id of `<mask>`."""
    pad: int
    """What the target is where nothing was chosen."""
    prob: float = 0.15
    leave_unmasked_prob: float = 0.1
    random_token_prob: float = 0.1
    weights: np.ndarray
    """[V]: how likely each id is to be a random word; they need not sum to 1."""
    words: WordStarts | None = None
    """Choose whole words instead of tokens."""
    multiple_length: int = 1
    """Choose so many tokens (or words) in a row, that many times fewer."""
    stdev: float = 0.0
    """Draw that number from a normal distribution of this deviation, rounded."""

    def __post_init__(self) -> None:
        if not 0.0 < self.prob < 1.0:
            raise ValueError(f"mask_prob: {self.prob} is not between 0 and 1")
        shares = self.leave_unmasked_prob, self.random_token_prob
        if min(shares) < 0.0 or sum(shares) > 1.0:
            raise ValueError(
                f"leave_unmasked_prob and random_token_prob: {shares[0]} and {shares[1]} are "
                "shares of what is masked; together they are at most 1")
        if self.multiple_length < 1:
            raise ValueError(f"mask_multiple_length: {self.multiple_length} is not 1 or more")
        if self.stdev < 0.0:
            raise ValueError(f"mask_stdev: {self.stdev} is below 0")

    @functools.cached_property
    def _cumulated(self) -> np.ndarray:
        """What `Generator.choice` makes of `weights` for every call, made once."""
        found = (self.weights / self.weights.sum()).cumsum()
        return found / found[-1]

    def __call__(self, tokens: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Source and target, both [S] int32, of the sentence `tokens` [S].

        Raises:
          ValueError: `tokens` hold `<mask>` already.
        """
        if (tokens == self.mask).any():
            raise ValueError(f"the text holds <mask> (id {self.mask}) itself, so that what was "
                             "masked could not be told from it; take it out of the text")
        rng = np.random.default_rng(seed)
        sizes = None if self.words is None else self.words.sizes(tokens)
        count = len(tokens) if sizes is None else len(sizes)
        chosen = self._chosen(count, rng)
        replaced, random = self._fate(chosen, rng)
        if sizes is not None:
            chosen, replaced, random = (
                np.repeat(x, sizes) for x in (chosen, replaced, random))
        target = np.where(chosen, tokens, self.pad).astype(np.int32)
        source = np.where(replaced, self.mask, tokens).astype(np.int32)
        number = int(random.sum())
        if number:
            source[random] = self._cumulated.searchsorted(rng.random(number), side="right")
        return source, target

    def _chosen(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """[count] bool: the tokens, or words, that are to be predicted."""
        number = int(self.prob * count / float(self.multiple_length) + rng.random())
        starts = rng.choice(count, number, replace=False)
        lengths = np.full(number, self.multiple_length)
        if self.stdev > 0.0:
            drawn = rng.normal(self.multiple_length, self.stdev, size=number)
            lengths = np.maximum(0, np.round(drawn)).astype(np.int64)
        places = np.repeat(starts, lengths) + np.concatenate(
            [np.arange(n) for n in lengths.tolist()] or [np.zeros(0, np.int64)])
        chosen = np.zeros(count, bool)
        chosen[places[places < count].astype(np.int64)] = True
        return chosen

    def _fate(
        self, chosen: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of the chosen: which become `<mask>` (or, of these, a random word), and which a
        random word."""
        kept = random = np.zeros(len(chosen), bool)
        either = self.leave_unmasked_prob + self.random_token_prob
        if either > 0.0:
            spared = chosen & (rng.random(len(chosen)) < self.random_token_prob
                               + self.leave_unmasked_prob)
            if self.random_token_prob == 0.0:
                kept = spared
            elif self.leave_unmasked_prob == 0.0:
                random = spared
            else:
                share = self.leave_unmasked_prob / (
                    self.random_token_prob + self.leave_unmasked_prob)
                decided = rng.random(len(chosen)) < share
                kept, random = spared & decided, spared & ~decided
        return chosen & ~kept, random


def replacement_weights(
    counts: np.ndarray | list[int], *, special: Sequence[int], by_frequency: bool
) -> np.ndarray:
    """[V] float64: how likely each word is to be drawn: all alike, or as often as it was counted;
    the ids `special` never.

    Raises:
      ValueError: nothing could be drawn.
    """
    weights = np.array(counts, np.float64) if by_frequency else np.ones(len(counts))
    weights[list(special)] = 0
    if not weights.sum() > 0:
        raise ValueError("freq_weighted_replacement: the dictionary counts no words")
    return weights
