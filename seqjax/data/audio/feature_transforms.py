"""What is done to features one after the other: names and options of config.yaml in, a function of
[B, T, F] out, which is compiled once a shape.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from seqjax.data.audio import filterbank, normalization
from seqjax.data.audio.specaugment import Drawn, SpecAugment


class FeatureTransform(Protocol):
    """One of them."""

    def channels(self, count: int) -> int:
        """Features of a frame, of `count` before."""
        ...

    def draw(self, frames: int, channels: int, rng: np.random.RandomState) -> Drawn:
        """What is drawn for a row; {} where nothing is."""
        ...

    def nothing(self) -> Drawn:
        """The same for a row that stays as it is."""
        ...

    def apply(
        self, features: jax.Array, frames: jax.Array, drawn: Mapping[str, Any]
    ) -> jax.Array:
        """[B, T, F'] for features [B, T, F] of `frames` [B]."""
        ...


class _Fixed:
    """Of which nothing is drawn."""

    def channels(self, count: int) -> int:
        return count

    def draw(self, frames: int, channels: int, rng: np.random.RandomState) -> Drawn:
        del frames, channels, rng
        return {}

    def nothing(self) -> Drawn:
        return {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class UtteranceCMVN(_Fixed):
    """See `normalization.utterance_cmvn`."""

    norm_means: bool = True
    """Subtract the mean."""
    norm_vars: bool = True
    """Divide by the deviation."""

    def apply(
        self, features: jax.Array, frames: jax.Array, drawn: Mapping[str, Any]
    ) -> jax.Array:
        """[B, T, F]."""
        del drawn
        return normalization.utterance_cmvn(
            features, frames, norm_means=self.norm_means, norm_vars=self.norm_vars)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GlobalCMVN(_Fixed):
    """See `normalization.global_cmvn`."""

    stats_npz_path: str
    """`.npz` with `mean` and `std`, features each."""

    @functools.cached_property
    def _statistics(self) -> tuple[np.ndarray, np.ndarray]:
        return normalization.read_statistics(self.stats_npz_path)

    def __post_init__(self) -> None:
        self._statistics  # noqa: B018 (a file that is missing is found now)

    def channels(self, count: int) -> int:
        """As many as before.

        Raises:
          ValueError: not as many as there are statistics of.
        """
        size = len(self._statistics[0])
        if size != count:
            raise ValueError(f"{self.stats_npz_path} has statistics of {size} features, but there "
                             f"are {count}")
        return count

    def apply(
        self, features: jax.Array, frames: jax.Array, drawn: Mapping[str, Any]
    ) -> jax.Array:
        """[B, T, F]."""
        del drawn
        mean, std = self._statistics
        return normalization.global_cmvn(features, frames, mean=mean, std=std)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeltaDeltas(_Fixed):
    """Features, their deltas, and the deltas of these."""

    def channels(self, count: int) -> int:
        """Three times as many."""
        return 3 * count

    def apply(
        self, features: jax.Array, frames: jax.Array, drawn: Mapping[str, Any]
    ) -> jax.Array:
        """[B, T, 3 F]."""
        del drawn
        return filterbank.with_deltas(features, frames)


class SpecAugmented(SpecAugment):
    """`SpecAugment` among these."""

    def channels(self, count: int) -> int:
        """As many as before."""
        return count


@dataclasses.dataclass(frozen=True)
class Chain:
    """Several, in order."""

    parts: tuple[FeatureTransform, ...] = ()

    def channels(self, count: int) -> int:
        """Features of a frame at the end, of `count` at the beginning."""
        for part in self.parts:
            count = part.channels(count)
        return count

    def draw(
        self, frames: Sequence[int], channels: int, rngs: Sequence[np.random.RandomState | None]
    ) -> tuple[Drawn, ...]:
        """Of each part what is drawn for rows of `frames`, with a leading axis B.

        Args:
          rngs: of each row; None: it stays as it is.
        """
        rows: list[list[Drawn]] = [[] for _ in self.parts]
        for count, rng in zip(frames, rngs, strict=True):
            size = channels
            for k, part in enumerate(self.parts):
                rows[k].append(part.nothing() if rng is None else part.draw(count, size, rng))
                size = part.channels(size)
        return tuple({key: np.stack([row[key] for row in part]) for key in part[0]}
                     for part in rows)

    def __call__(
        self, features: Any, frames: Any, drawn: tuple[Mapping[str, Any], ...]
    ) -> jax.Array:
        """[B, T, F'] for features [B, T, F] of `frames` [B]; compiled."""
        return _compiled(self)(features, frames, drawn)


@functools.lru_cache(maxsize=32)
def _compiled(chain: Chain) -> Any:
    def run(features: jax.Array, frames: jax.Array, drawn: Any) -> jax.Array:
        for part, row in zip(chain.parts, drawn, strict=True):
            features = part.apply(features, frames, row)
        return features

    return jax.jit(run)
