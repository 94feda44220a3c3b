"""How often the sentences of several corpora are in an epoch: sizes and weights in, sentence
numbers out.

What fairseq's multilingual tasks call sampling (`--sampling-method temperature`): small corpora
come more often than their size would have it, and each epoch has sentences of its own. What is
drawn is a function of (seed, epoch) alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from seqjax.data.bucketing import BucketedPlan, assign
from seqjax.data.epoch_plan import EpochPlan, Lengths, Shape, round_up
from seqjax.data.packing import PackedPlan
from seqjax.data.resampling import Resampling

MOST_UPSAMPLING = 1.5
"""Sentences of an epoch at most, in times of all that there are, where the user says no number."""
_STREAM = 0x6D697865
"""Sets these random numbers apart from those of the order."""


def temperature_weights(sizes: Sequence[int], temperature: float) -> list[float]:
    """Shares to the power of 1/temperature: 1 leaves them as they are, infinity makes them
    equal.

    Raises:
      ValueError: a temperature that is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"sampling_temperature={temperature}: it must be above 0")
    return [(size / sum(sizes)) ** (1 / temperature) for size in sizes]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Mixture:
    """Corpora whose sentences are numbered one after the other."""

    sizes: tuple[int, ...]
    """Sentences of each corpus."""
    weights: tuple[float, ...]
    """How large a share of an epoch each has, relative to the others."""
    size: int | None = None
    """Sentences of an epoch (None: as many as leave the largest corpus whole, but no more than
    `MOST_UPSAMPLING` times all)."""

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.weights):
            raise ValueError(f"{len(self.weights)} weights for {len(self.sizes)} corpora")
        if not all(w >= 0 for w in self.weights) or not sum(self.weights) > 0:
            raise ValueError(f"weights of corpora are 0 or more, and some more: {self.weights}")
        if self.size is not None and self.size < 1:
            raise ValueError(f"an epoch of {self.size} sentences: it has 1 or more")

    @property
    def epoch_size(self) -> int:
        """Sentences of an epoch."""
        if self.size is not None:
            return self.size
        largest = int(np.argmax(self.sizes))
        if self.weights[largest] <= 0:
            return int(sum(self.sizes))
        whole = sum(w / self.weights[largest] * self.sizes[largest] for w in self.weights)
        return int(min(whole, MOST_UPSAMPLING * sum(self.sizes)))

    def draw(self, usable: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
        """The sentences of an epoch, some perhaps several times.

        Of a corpus of n usable sentences of which c are wanted, each is there c // n times, and
        c % n of them, drawn at random, once more.

        Args:
          usable: [n] sentence numbers that may be drawn, ascending.
        """
        rng = np.random.RandomState(np.array([seed & 0xFFFFFFFF, epoch, _STREAM], np.uint32))
        bounds = np.cumsum([0, *self.sizes])
        places = np.searchsorted(usable, bounds)
        parts = [usable[a:b] for a, b in zip(places[:-1], places[1:], strict=True)]
        there = np.array([len(part) > 0 for part in parts])
        shares = np.where(there, self.weights, 0.0)
        if not shares.sum() > 0:
            raise ValueError("no corpus with a weight has a usable sentence")
        counts = self._counts(shares / shares.sum(), rng)
        drawn = []
        for part, count in zip(parts, counts.tolist(), strict=True):
            if count:
                times, rest = divmod(count, len(part))
                drawn += [np.tile(part, times), rng.permutation(part)[:rest]]
        return np.concatenate(drawn)

    def _counts(self, shares: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        """Sentences of each corpus; what rounding leaves is drawn by the shares."""
        wanted = shares * self.epoch_size
        counts = np.floor(wanted).astype(np.int64)
        left = self.epoch_size - int(counts.sum())
        if left > 0:
            counts += np.bincount(rng.choice(len(shares), left, p=shares), minlength=len(shares))
        return counts


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MixturePlan:
    """Epochs of what a mixture draws, on the shapes of a plan of all sentences."""

    plan: BucketedPlan | PackedPlan
    """Of every usable sentence, each once."""
    mixture: Mixture | Resampling

    @classmethod
    def of(cls, plan: BucketedPlan | PackedPlan, mixture: Mixture | Resampling) -> MixturePlan:
        """The plan whose epochs are drawn. What an epoch has of each length is not known before:
        shapes have as many rows as budgets, and all that is drawn, allow."""
        if isinstance(plan, BucketedPlan):
            most = round_up(mixture.epoch_size, plan.row_multiple)
            rows = tuple(min(rows, most) for rows in plan.max_rows)
            plan = dataclasses.replace(plan, even=False, max_rows=rows)
        return cls(plan=plan, mixture=mixture)

    @property
    def lengths(self) -> Lengths:
        return self.plan.lengths

    @property
    def shapes(self) -> tuple[tuple[int, Shape], ...]:
        return self.plan.shapes

    @property
    def packed(self) -> bool:
        return self.plan.packed

    def _drawn(self, epoch: int) -> BucketedPlan | PackedPlan:
        plan = self.plan
        ids = self.mixture.draw(plan.ids, seed=plan.seed, epoch=epoch)
        if not len(ids):
            raise ValueError(f"epoch {epoch}: none of the samples that were drawn is within the "
                             "limits of lengths")
        if isinstance(plan, BucketedPlan):
            source, target = plan.lengths.side("source")[ids], plan.lengths.side("target")[ids]
            return dataclasses.replace(
                plan, ids=ids, bucket=assign(source, target, list(plan.pairs)))
        return dataclasses.replace(plan, ids=ids)

    def epoch(self, epoch: int, *, start: int = 0) -> EpochPlan:
        return self._drawn(epoch).epoch(epoch, start=start)

    def describe(self) -> str:
        total = sum(self.mixture.weights)
        shares = ", ".join(f"{w / total:.1%} of {n}" for w, n in zip(
            self.mixture.weights, self.mixture.sizes, strict=True))
        return f"{self._drawn(1).describe()}; drawn anew each epoch from corpora: {shares}"
