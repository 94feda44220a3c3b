"""SpecAugment (https://arxiv.org/abs/1904.08779) as fairseq does it: random numbers and sizes in,
bands and times out, which are masked in features [B, T, F].

What is masked is drawn on the host, number for number as fairseq draws it; masking is JAX's. So
widths are below their limits, the last channel and the last frame are never masked, and a row
whose features have fewer channels than `freq_mask_F` stays as it is.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.data.audio.filterbank import keep_frames

Drawn = dict[str, np.ndarray]
"""Of one row: `freq` [N, 2] and `time` [N, 2] int32, first and number; `warp` [2] int32, a frame
and how far it moves (0, 0: nothing is warped)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpecAugment:
    """How much is masked (names as in fairseq's config.yaml)."""

    time_warp_W: int = 0
    """A frame in the middle moves by less than so many (0: none does)."""
    freq_mask_N: int = 0
    """Masks of channels."""
    freq_mask_F: int = 0
    """Each is less than so wide."""
    time_mask_N: int = 0
    """Masks of frames."""
    time_mask_T: int = 0
    """Each is less than so long."""
    time_mask_p: float = 0.0
    """And less than this share of the frames (0: there are none)."""
    mask_value: float | None = None
    """What stands in their place; None: the mean of all features before."""

    def __post_init__(self) -> None:
        for count, size in (("freq_mask_N", "freq_mask_F"), ("time_mask_N", "time_mask_T")):
            if getattr(self, count) > 0 and getattr(self, size) <= 0:
                raise ValueError(f"specaugment.{size}: {getattr(self, size)} is not positive, but "
                                 f"{count} is {getattr(self, count)}")
        if not 0.0 <= self.time_mask_p <= 1.0:
            raise ValueError(f"specaugment.time_mask_p: {self.time_mask_p} is not in [0, 1]")

    def draw(self, frames: int, channels: int, rng: np.random.RandomState) -> Drawn:
        """What happens to one row of `frames` and `channels`."""
        drawn = self.nothing()
        if frames == 0 or channels < self.freq_mask_F:
            return drawn
        if 0 < 2 * self.time_warp_W < frames:
            drawn["warp"][0] = rng.randint(self.time_warp_W, frames - self.time_warp_W)
            drawn["warp"][1] = rng.randint(-self.time_warp_W + 1, self.time_warp_W)
        for i in range(self.freq_mask_N):
            width = rng.randint(0, self.freq_mask_F)
            drawn["freq"][i] = rng.randint(0, channels - width), width
        longest = min(self.time_mask_T, math.floor(frames * self.time_mask_p))
        for i in range(self.time_mask_N if longest >= 1 else 0):
            width = rng.randint(0, longest)
            drawn["time"][i] = rng.randint(0, frames - width), width
        return drawn

    def nothing(self) -> Drawn:
        """What is drawn for a row that stays as it is."""
        return {"freq": np.zeros((self.freq_mask_N, 2), np.int32),
                "time": np.zeros((self.time_mask_N, 2), np.int32),
                "warp": np.zeros(2, np.int32)}

    def apply(
        self, features: jax.Array, frames: jax.Array, drawn: Mapping[str, Any]
    ) -> jax.Array:
        """[B, T, F] features of rows of `frames` [B], masked as `drawn` says, whose arrays have a
        leading axis B."""
        value = self.mask_value
        if value is None:
            cells = jnp.maximum(frames, 1) * features.shape[2]
            value = (keep_frames(features, frames).sum((1, 2)) / cells)[:, None, None]
        if self.time_warp_W:
            features = _warp(features, frames, drawn["warp"])
        masked = _inside(features.shape[2], drawn["freq"])[:, None, :]
        masked = masked | _inside(features.shape[1], drawn["time"])[:, :, None]
        return keep_frames(jnp.where(masked, value, features), frames)


POLICIES = {
    "lb": SpecAugment(freq_mask_N=1, freq_mask_F=27, time_mask_N=1, time_mask_T=100,
                      time_mask_p=1.0),
    "ld": SpecAugment(freq_mask_N=2, freq_mask_F=27, time_mask_N=2, time_mask_T=100,
                      time_mask_p=1.0),
    "sm": SpecAugment(freq_mask_N=2, freq_mask_F=15, time_mask_N=2, time_mask_T=70,
                      time_mask_p=0.2),
    "ss": SpecAugment(freq_mask_N=2, freq_mask_F=27, time_mask_N=2, time_mask_T=70,
                      time_mask_p=0.2),
}
"""The paper's policies, as fairseq's scripts write them into config.yaml (where what is masked
becomes the mean)."""


def _inside(size: int, spans: jax.Array) -> jax.Array:
    """[B, size] bool: whether a place is in any of `spans` [B, N, 2]."""
    place = jnp.arange(size)
    begin, width = spans[..., :1], spans[..., 1:]
    return ((place >= begin) & (place < begin + width)).any(1)


def _warp(features: jax.Array, frames: jax.Array, warp: jax.Array) -> jax.Array:
    """[B, T, F] frames in front of `warp`'s first [B, 2] stretched or squeezed until it has moved
    by the second, those from it on the other way: linear in between, as images are resized."""
    at, by = warp[:, :1], warp[:, 1:]
    times = jnp.arange(features.shape[1])
    before = times < at + by
    end = frames[:, None]
    begin, old, new = (jnp.where(before, a, b) for a, b in (
        (jnp.zeros_like(at), at), (at, end - at), (at + by, end - at - by)))
    place = times - jnp.where(before, 0, at + by)
    exact = (place + 0.5) * (old / jnp.maximum(new, 1)) - 0.5
    low = jnp.clip(jnp.floor(exact), 0, jnp.maximum(old - 1, 0))
    share = jnp.clip(exact - low, 0.0, 1.0)
    high = jnp.minimum(low + 1, jnp.maximum(old - 1, 0))
    first, second = (
        jnp.take_along_axis(features, (begin + k).astype(jnp.int32)[..., None], axis=1)
        for k in (low, high))
    moved = first + share[..., None] * (second - first)
    return jnp.where((at > 0)[..., None], moved, features)
