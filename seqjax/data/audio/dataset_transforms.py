"""What one recording of a corpus takes of another: two of them as one, or over each other
(fairseq's `dataset_transforms`). Lengths, waveforms and a random state in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from seqjax.config import ConfigError
from seqjax.data.audio.augmentation import NoiseAugment


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConcatAugment:
    """Another recording behind some, and its text behind theirs."""

    rate: float = 0.25
    """Share of recordings that get another one."""
    max_tokens: int = 3000
    """Frames (samples) of both together are fewer; 0: any number."""
    attempts: int = 5
    """Others that are drawn until one is short enough."""

    def partner(
        self, index: int, lengths: np.ndarray, rng: np.random.RandomState
    ) -> int | None:
        """The other one, of recordings of `lengths` [N]; drawn as fairseq draws it."""
        if rng.random_sample() > self.rate:
            return None
        if self.max_tokens and lengths[index] > self.max_tokens:
            return None
        for _ in range(self.attempts):
            other = rng.randint(0, len(lengths))
            if other != index and (
                    not self.max_tokens or lengths[index] + lengths[other] < self.max_tokens):
                return int(other)
        return None

    def longest(self, lengths: np.ndarray) -> np.ndarray:
        """[N] the most frames that a recording of each of `lengths` [N] may have then."""
        order = np.sort(lengths)
        room = self.max_tokens - lengths if self.max_tokens else np.full(len(lengths), 1 << 40)
        fitting = np.searchsorted(order, room, side="left")
        return lengths + np.where(fitting > 0, order[np.maximum(fitting - 1, 0)], 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoisyOverlapAugment:
    """A part of another recording, or of noise, over a part of some: for models of waveforms.

    fairseq takes the other one from the batch; here it is any of the corpus, so that it does not
    depend on how batches are made.
    """

    rate: float = 0.25
    """Share of recordings that get something."""
    mixing_noise_rate: float = 0.1
    """Share of these that get noise."""
    noise_path: str = ""
    """Folder of `.wav` files."""
    noise_snr_min: float = -5.0
    """Least signal-to-noise ratio, in dB."""
    noise_snr_max: float = 5.0
    """Largest."""
    utterance_snr_min: float = -5.0
    """The same of other recordings."""
    utterance_snr_max: float = 5.0
    """The same of other recordings."""

    def __post_init__(self) -> None:
        if not self.noise_path:
            raise ConfigError("noisyoverlapaugment: noise_path, the folder with noise, is needed")
        NoiseAugment(samples_path=self.noise_path)

    def __call__(
        self, samples: np.ndarray, others: tuple[int, Callable[[int], np.ndarray]], *,
        sample_rate: int, rng: np.random.RandomState,
    ) -> np.ndarray:
        """[N] for samples [N]; `others` are how many recordings there are, and how to get one."""
        if rng.random_sample() > self.rate:
            return samples
        if rng.random_sample() > self.mixing_noise_rate:
            other = others[1](int(rng.randint(0, others[0])))
            low, high = self.utterance_snr_min, self.utterance_snr_max
        else:
            noise = NoiseAugment(samples_path=self.noise_path)
            other = noise.pick(len(samples), sample_rate, rng)
            low, high = self.noise_snr_min, self.noise_snr_max
        snr = rng.uniform() * (high - low) + low
        most = min(round(len(samples) / 2), len(other))
        length = int(rng.randint(0, most)) if most else 0
        begin = int(rng.randint(0, len(samples) - length))
        at = int(rng.randint(0, len(other) - length))
        return _overlaid(samples, other, span=(begin, at, length), snr=snr)


def _overlaid(
    samples: np.ndarray, other: np.ndarray, *, span: tuple[int, int, int], snr: float
) -> np.ndarray:
    """Samples [N] with `span`'s third number of samples of `other`, from its second on, at its
    first; loud as if all of both were mixed at `snr` dB."""
    begin, at, length = span
    power = float(np.mean(np.square(other, dtype=np.float64)))
    if not power:
        return samples
    scale = np.sqrt(np.mean(np.square(samples, dtype=np.float64)) / (10 ** (snr / 10) * power))
    found = samples.copy()
    found[begin:begin + length] += (scale * other[at:at + length]).astype(np.float32)
    return found


DATASET = {"concataugment": ConcatAugment, "noisyoverlapaugment": NoisyOverlapAugment}
"""Names in config.yaml."""
