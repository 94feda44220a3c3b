"""Waveforms changed at random: samples and a random state in, samples out (fairseq's
`waveform_transforms`, and speed).

Noise is drawn number for number as fairseq draws it, from files in the order of their names.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib

import numpy as np

from seqjax.config import ConfigError
from seqjax.data.audio.reading import Reading, library, read_samples


def _uniform(rng: np.random.RandomState, low: float, high: float) -> float:
    return rng.uniform() * (high - low) + low


def _power(samples: np.ndarray) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))


def mix(samples: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """Samples and noise [N], which becomes so loud that the ratio of their power is `snr` dB;
    silence is not made louder."""
    if not _power(noise):
        return samples
    scale = math.sqrt(_power(samples) / (10 ** (snr / 10) * _power(noise)))
    return (samples + scale * noise).astype(np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoiseAugment:
    """Noise from files, for some recordings: fairseq's `musicaugment` and
    `backgroundnoiseaugment`."""

    samples_path: str = ""
    """Folder of `.wav` files, in folders of their own perhaps."""
    snr_min: float = 5.0
    """Least signal-to-noise ratio, in dB."""
    snr_max: float = 15.0
    """Largest."""
    rate: float = 0.25
    """Share of recordings that get noise."""

    def __post_init__(self) -> None:
        if not self.samples_path:
            raise ConfigError("samples_path is needed: the folder with the noise")
        if self.snr_max < self.snr_min:
            raise ConfigError(f"snr_max: {self.snr_max} is below snr_min, {self.snr_min}")
        if not 0.0 <= self.rate <= 1.0:
            raise ConfigError(f"rate: {self.rate} is not in [0, 1]")
        if not self._paths:
            raise ConfigError(f"samples_path: {self.samples_path} has no .wav files")

    @functools.cached_property
    def _paths(self) -> list[str]:
        return sorted(map(str, pathlib.Path(self.samples_path).glob("**/*.wav")))

    def longest(self, lengths: np.ndarray) -> np.ndarray:
        """Recordings stay as long as they are."""
        return lengths

    def pick(self, size: int, sample_rate: int, rng: np.random.RandomState) -> np.ndarray:
        """`size` samples of any file, which is repeated if it is shorter."""
        path = self._paths[rng.randint(0, len(self._paths))]
        noise = read_samples(path, Reading(sample_rate=sample_rate, resample=True))
        repeated = np.tile(noise, math.ceil(size / len(noise)))
        start = rng.randint(0, len(repeated) - size + 1)
        return repeated[start:start + size]

    def noise(self, size: int, sample_rate: int, rng: np.random.RandomState) -> np.ndarray:
        """[size] samples to mix in."""
        return self.pick(size, sample_rate, rng)

    def __call__(
        self, samples: np.ndarray, sample_rate: int, rng: np.random.RandomState
    ) -> np.ndarray:
        """[N] for samples [N]."""
        if rng.random_sample() > self.rate:
            return samples
        noise = self.noise(len(samples), sample_rate, rng)
        return mix(samples, noise, _uniform(rng, self.snr_min, self.snr_max))


@dataclasses.dataclass(frozen=True, kw_only=True)
class BabbleAugment(NoiseAugment):
    """3 to 7 voices at once, each softer than those before: fairseq's `babbleaugment`."""

    def noise(self, size: int, sample_rate: int, rng: np.random.RandomState) -> np.ndarray:
        """[size] samples to mix in."""
        voices = rng.randint(3, 8)
        found = self.pick(size, sample_rate, rng)
        for i in range(1, voices):
            found = mix(found, self.pick(size, sample_rate, rng), i)
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class SporadicNoiseAugment(NoiseAugment):
    """Short noises here and there: fairseq's `sporadicnoiseaugment`."""

    noise_rate: float = 1.0
    """Noises in a second."""
    noise_len_mean: float = 0.2
    """Seconds that each lasts, in the mean."""
    noise_len_std: float = 0.05
    """Deviation of that."""

    def noise(self, size: int, sample_rate: int, rng: np.random.RandomState) -> np.ndarray:
        """[size] samples to mix in."""
        found = np.zeros(size, np.float32)
        count = round(self.noise_rate * size / sample_rate)
        for start in [round(_uniform(rng, 0, size)) for _ in range(count)]:
            seconds = rng.normal(self.noise_len_mean, self.noise_len_std)
            length = round(max(0.0, seconds) * sample_rate)
            if start + length < size:
                found[start:start + length] += self.pick(length, sample_rate, rng)
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeedAugment:
    """Recordings faster or slower, higher or lower with it (Kaldi's speed perturbation; fairseq has
    none)."""

    factors: tuple[float, ...] = (0.9, 1.0, 1.1)
    """One of them is drawn; 1.1 is faster."""
    rate: float = 1.0
    """Share of recordings for which one is."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "factors", tuple(map(float, self.factors)))
        if not self.factors or not all(0.25 <= f <= 4.0 for f in self.factors):
            raise ConfigError(f"factors: {list(self.factors)} are not between 0.25 and 4")
        if not 0.0 <= self.rate <= 1.0:
            raise ConfigError(f"rate: {self.rate} is not in [0, 1]")

    def longest(self, lengths: np.ndarray) -> np.ndarray:
        """[n] int64: samples at the slowest speed."""
        return np.ceil(lengths / min(1.0, *self.factors)).astype(np.int64)

    def __call__(
        self, samples: np.ndarray, sample_rate: int, rng: np.random.RandomState
    ) -> np.ndarray:
        """[N'] for samples [N]."""
        if rng.random_sample() > self.rate:
            return samples
        factor = self.factors[rng.randint(0, len(self.factors))]
        if factor == 1.0:
            return samples
        most = int(self.longest(np.array([len(samples)]))[0])
        found = library("soxr").resample(samples, sample_rate * factor, sample_rate, quality="HQ")
        return found[:most].astype(np.float32, copy=False)


WAVEFORM = {
    "musicaugment": NoiseAugment, "backgroundnoiseaugment": NoiseAugment,
    "babbleaugment": BabbleAugment, "sporadicnoiseaugment": SporadicNoiseAugment,
    "speedaugment": SpeedAugment,
}
"""Names in config.yaml."""
