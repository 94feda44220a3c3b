"""How often the samples of several corpora are in an epoch: their sizes and a power in, sample
numbers out; and the plan of such epochs (fairseq's `ResamplingDataset`, draw for draw).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from seqjax.data.bucketing import BucketedPlan, assign
from seqjax.data.epoch_plan import EpochPlan, Lengths, Shape, round_up
from seqjax.data.packing import PackedPlan


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Resampling:
    """Corpora whose samples are numbered one after the other."""

    sizes: tuple[int, ...]
    """Samples of each corpus."""
    weights: tuple[float, ...]
    """How large a share of an epoch each has; they sum to 1."""

    @classmethod
    def of(cls, sizes: Sequence[int], *, alpha: float) -> Resampling:
        """fairseq's `--multilang-sampling-alpha`: shares are as sizes to this power; 1 leaves
        them as they are, 0 makes them equal."""
        counts = np.array(sizes, float)
        shares = (counts / counts.sum()) ** alpha
        return cls(sizes=tuple(sizes), weights=tuple((shares / shares.sum()).tolist()))

    @property
    def _ratios(self) -> np.ndarray:
        """How often each corpus's samples are drawn, times their number."""
        counts = np.array(self.sizes, float)
        return np.array(self.weights) * counts.sum() / counts

    @property
    def epoch_size(self) -> int:
        """Samples of every epoch."""
        return sum(self._counts())

    def _counts(self) -> list[int]:
        return [int(np.ceil(n * ratio)) for n, ratio in zip(self.sizes, self._ratios, strict=True)]

    def draw(self, usable: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
        """The samples of an epoch, some perhaps several times: of a corpus that is to be seen more
        often than it has samples, or just as often, with replacement; else without.

        Args:
          usable: [n] numbers that may be drawn, ascending; others are left out afterwards.
        """
        found, first = [], 0
        for size, count, ratio in zip(self.sizes, self._counts(), self._ratios, strict=True):
            rng = np.random.RandomState([42, seed % 2**32, epoch])
            found.append(first + rng.choice(size, count, replace=bool(ratio >= 1.0)))
            first += size
        ids = np.concatenate(found).astype(np.int64)
        return ids[np.isin(ids, usable)]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ResampledPlan:
    """Epochs of what is drawn, on the shapes of a plan of all samples."""

    plan: BucketedPlan | PackedPlan
    """Of every usable sample, each once."""
    resampling: Resampling

    @classmethod
    def of(cls, plan: BucketedPlan | PackedPlan, resampling: Resampling) -> ResampledPlan:
        """The plan whose epochs are drawn. What an epoch has of each length is not known before:
        shapes have as many rows as budgets, and all that is drawn, allow."""
        if isinstance(plan, BucketedPlan):
            most = round_up(resampling.epoch_size, plan.row_multiple)
            rows = tuple(min(rows, most) for rows in plan.max_rows)
            plan = dataclasses.replace(plan, even=False, max_rows=rows)
        return cls(plan=plan, resampling=resampling)

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
        ids = self.resampling.draw(plan.ids, seed=plan.seed, epoch=epoch)
        if not len(ids):
            raise ValueError(f"epoch {epoch}: none of the samples that were drawn is within the "
                             "limits of lengths")
        if isinstance(plan, BucketedPlan):
            source, target = (plan.lengths.side(name)[ids] for name in ("source", "target"))
            bucket = assign(source, target, list(plan.pairs))
            return dataclasses.replace(plan, ids=ids, bucket=bucket)
        return dataclasses.replace(plan, ids=ids)

    def epoch(self, epoch: int, *, start: int = 0) -> EpochPlan:
        return self._drawn(epoch).epoch(epoch, start=start)

    def describe(self) -> str:
        shares = ", ".join(f"{w:.1%} of {n}" for w, n in zip(
            self.resampling.weights, self.resampling.sizes, strict=True))
        return f"{self._drawn(1).describe()}; drawn anew each epoch from corpora: {shares}"
