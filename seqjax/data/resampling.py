"""How often the samples of several corpora are in an epoch: their sizes and a power in, sample
numbers out, as fairseq's `ResamplingDataset` draws them. `mixture.MixturePlan` plans such epochs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


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
