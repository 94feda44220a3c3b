"""BART's noise: from a text to one with sentences permuted, spans masked, words inserted, and
rotated (fairseq's `DenoisingDataset`).

Ids with `<s>` in front and their last token, and a seed, go in; out comes the noised source.
The steps, and what is drawn for each, are fairseq's; it draws most of it from torch, whose
generator no seed of its sets for an item, and this from NumPy's, seeded by the item. Whether
and how far a text is rotated is drawn as fairseq does, number by number.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from typing import Literal

import numpy as np

from seqjax.data.word_starts import WordStarts

MaskLength = Literal["subword", "word", "span-poisson"]
_RARE = 1e-9
"""A text in which more insertions were drawn than it has room for is as rare as this; they are
left out."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Denoising:
    """The noise; fields that are no ids are fairseq's flags.

    Raises:
      ValueError: a share that is none, or a combination that fairseq does not take.
    """

    entries: int
    """V. Random words are any ids but 0, as fairseq's are: padding, eos and `<mask>` too."""
    mask_id: int
    """Of `<mask>`."""
    full_stop: int
    """What ends a sentence."""
    mask: float = 0.0
    """Share of the words (or tokens) that are masked."""
    mask_random: float = 0.0
    """Share of the masks that become random words instead; and of insertions."""
    insert: float = 0.0
    """Insertions, as a share of the tokens."""
    rotate: float = 0.5
    """Share of the texts that are rotated."""
    permute_sentences: float = 0.0
    """Share of the sentences of each text that change places."""
    mask_length: MaskLength = "subword"
    """What is masked: tokens, words, or spans of words whose lengths are Poisson's."""
    replace_length: int = 0
    """What stands for each masked span: nothing (0), one mask (1), or one a token (-1)."""
    poisson_lambda: float = 3.0
    """Mean length of a span."""
    words: WordStarts | None = None
    """None: every token is a word."""

    def __post_init__(self) -> None:
        for name in ("mask", "mask_random", "insert", "rotate"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name}: {getattr(self, name)} is not between 0 and 1")
        if self.permute_sentences > 1.0:
            raise ValueError(f"permute_sentences: {self.permute_sentences} is more than 1, all")
        if self.replace_length not in (-1, 0, 1):
            raise ValueError(f"replace_length: {self.replace_length} is not -1, 0 or 1")
        if self.mask_length == "subword" and self.replace_length == -1:
            raise ValueError("replace_length: -1 is for words and spans: of a subword, 1 is as "
                             "many masks as tokens")
        if self.poisson_lambda <= 0:
            raise ValueError(f"poisson_lambda: {self.poisson_lambda} is not above 0")

    def __call__(self, tokens: np.ndarray, seed: int, *, limit: int) -> np.ndarray:
        """[S] int32: the noised text of `tokens` [T], whose first and last stay where they are.

        Args:
          limit: S at most (see `longest`).
        """
        rng = np.random.default_rng([seed, _STREAM])
        source = tokens.astype(np.int32)
        if self.permute_sentences > 0:
            source = permute_sentences(
                source, self.permute_sentences, full_stop=self.full_stop, rng=rng)
        if self.mask > 0:
            source, inserted = self._infill(source, rng)
            source = self._insert(source, min(inserted, limit - len(source)), rng)
        if self.insert > 0:
            number = math.ceil(len(source) * self.insert)
            source = self._insert(source, min(number, limit - len(source)), rng)
        if self.rotate > 0:
            source = rotate(source, self.rotate, rng=np.random.RandomState(seed))
        return source

    def longest(self, sizes: np.ndarray) -> np.ndarray:
        """[N] int64: tokens of the longest source that texts of `sizes` [N] tokens become."""
        sizes = sizes.astype(np.int64)
        if self.mask > 0 and self.mask_length == "span-poisson":
            most = _budgets(np.maximum(sizes - 2, 0), self.mask)
            room = _insertions(int(most.max(initial=0)), self._spans)
            sizes = sizes + room[most]
        return sizes + np.ceil(sizes * self.insert).astype(np.int64)

    @functools.cached_property
    def _spans(self) -> np.ndarray:
        """Probabilities of the lengths of spans."""
        found = [math.exp(-self.poisson_lambda)]
        while len(found) < 128 and found[-1] >= 1e-7:
            found.append(found[-1] * self.poisson_lambda / len(found))
        return np.array(found) / sum(found)

    # ---- masking ----

    def _infill(self, source: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """The text with spans masked, and how many of the spans were empty: so many insertions
        are to be made."""
        starts = np.ones(len(source), bool) if self.words is None else self.words(source)
        starts[[0, -1]] = False
        number = int(_budgets(np.array([starts.sum()]), self.mask)[0])
        if number == 0:
            return source, 0
        lengths = np.ones(number, np.int64)
        if self.mask_length == "span-poisson":
            lengths = self._lengths(number, rng)
        inserted = int((lengths == 0).sum())
        lengths = lengths[lengths > 0]
        begins = np.flatnonzero(starts)
        places = begins[rng.permutation(len(begins))[: len(lengths)]]
        random = rng.random(len(places)) < self.mask_random
        found = self._masked(
            source, starts, places=places, lengths=lengths, random=random, rng=rng)
        return found, inserted

    def _masked(
        self, source: np.ndarray, starts: np.ndarray, *, places: np.ndarray, lengths: np.ndarray,
        random: np.ndarray, rng: np.random.Generator,
    ) -> np.ndarray:
        """The text with spans masked that begin at `places` [n], are `lengths` [n] words long,
        and `random` [n] of which become random words. They may run into each other."""
        source, kept = source.copy(), np.ones(len(source), bool)
        words = starts.astype(np.int64)
        words[-1] = 255  # no span goes beyond the end
        whole = self.replace_length
        if whole == 0:
            kept[places] = False
        else:
            self._replace(source, places, random, rng)
        left = lengths - 1
        while len(places):
            left = left - words[places + 1]
            more = left >= 0
            places, random, left = places[more] + 1, random[more], left[more]
            if whole == -1:
                self._replace(source, places, random, rng)
            else:
                kept[places] = False
        return source[kept]

    def _replace(
        self, source: np.ndarray, places: np.ndarray, random: np.ndarray, rng: np.random.Generator
    ) -> None:
        """Puts masks, and random words, at `places` of `source`."""
        source[places] = self.mask_id
        source[places[random]] = rng.integers(1, self.entries, int(random.sum()))

    def _lengths(self, budget: int, rng: np.random.Generator) -> np.ndarray:
        """Lengths of spans [n], zeros among them, that sum to `budget`."""
        cumulated = self._spans.cumsum()

        def drawn() -> np.ndarray:
            return np.minimum(np.searchsorted(cumulated, rng.random(budget), side="right"),
                              len(cumulated) - 1)

        lengths = drawn()
        while lengths.sum() < budget:
            lengths = np.concatenate([lengths, drawn()])
        total = lengths.cumsum()
        last = int(np.searchsorted(total, budget))
        lengths[last] -= total[last] - budget
        return lengths[: last + 1]

    def _insert(self, source: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
        """The text with `number` tokens more, never in front of the first or behind the last.

        The first ceil(`number` * `mask_random`) of them are random words, fairseq's rule: a
        lone insertion is never `<mask>` unless `mask_random` is 0.
        """
        if number <= 0:
            return source
        places = rng.permutation(len(source) + number - 2)[:number] + 1
        random = math.ceil(number * self.mask_random)
        found = np.empty(len(source) + number, np.int32)
        old = np.ones(len(found), bool)
        old[places] = False
        found[places[random:]] = self.mask_id
        found[places[:random]] = rng.integers(1, self.entries, random)
        found[old] = source
        return found


_STREAM = 1
"""Tells the generator of a text's noise from others of the same seed."""


def permute_sentences(
    tokens: np.ndarray, share: float, *, full_stop: int, rng: np.random.Generator
) -> np.ndarray:
    """[T] int32: the text with a share of its sentences in other places.

    A sentence ends behind a `full_stop` that follows something else, and at the end. The first
    and the last token stay.
    """
    stops = tokens == full_stop
    stops[-2] = True  # as if the last sentence had one
    ends = np.flatnonzero(stops[1:] & ~stops[:-1]) + 2
    number = math.ceil(len(ends) * 2 * share / 2.0)
    moved = rng.permutation(len(ends))[:number]
    order = np.arange(len(ends))
    order[moved] = moved[rng.permutation(number)]
    begins = np.append(1, ends[:-1])
    found, place = tokens.copy(), 1
    for i in order.tolist():
        sentence = tokens[begins[i] : ends[i]]
        found[place : place + len(sentence)] = sentence
        place += len(sentence)
    return found


def rotate(tokens: np.ndarray, share: float, *, rng: np.random.RandomState) -> np.ndarray:
    """[T]: with probability `share`, the text from another place on; the first and the last
    token stay."""
    if rng.random_sample() >= share:
        return tokens
    begin = rng.randint(1, max(1, len(tokens) - 1) + 1)
    return np.concatenate([tokens[:1], tokens[begin:-1], tokens[1:begin], tokens[-1:]])


def _budgets(words: np.ndarray, share: float) -> np.ndarray:
    """Words of each text that are masked, of texts of so many `words` [N]; in float32 as
    fairseq's are."""
    return np.ceil(words.astype(np.float32) * np.float32(share)).astype(np.int64)


def _insertions(most: int, spans: np.ndarray) -> np.ndarray:
    """[most + 1]: empty spans that more are not drawn than, but for one text in 1 / `_RARE`, of
    a budget of so many words.

    Args:
      spans: probabilities of the lengths.
    """
    empty = float(spans[0])
    width = 8 + int(math.log(_RARE) / math.log(empty) + 4 * most * empty / (1 - empty))
    found = np.zeros((most + 1, width))
    found[0, 0] = 1.0
    for budget in range(1, most + 1):
        # After a span of k words the budget is k less; a longer one than that ends the text.
        longest = min(budget, len(spans) - 1)
        after = np.tensordot(spans[1 : longest + 1], found[budget - longest : budget][::-1], 1)
        after[0] += spans[longest + 1 :].sum()
        # In front of it stood any number of empty ones.
        found[budget] = list(itertools.accumulate(after, lambda sum, x: sum * empty + x))
    beyond = 1.0 - found.cumsum(axis=1)
    return np.where((beyond < _RARE).any(axis=1), (beyond < _RARE).argmax(axis=1), width)
