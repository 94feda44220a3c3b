"""Kaldi's features: samples [B, N] in, log mel filterbanks, MFCCs and deltas [B, T, F] out.

The numbers are those of Kaldi's `compute-fbank-feats` and of `torchaudio.compliance.kaldi`, whose
options are fixed where fairseq never changes them: povey window, no dither, whole frames only, no
energy. All is linear up to the power spectrum, so a frame needs no FFT: its halves are folded at
its middle, where the window is symmetric, and two matrix products with cosines and sines, in which
the window is, give the spectrum up to its phase (docs/decisions/0013).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

HIGHEST = jax.lax.Precision.HIGHEST
FLOOR = float(np.finfo(np.float32).eps)
"""The least power of which a logarithm is taken."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frames:
    """How samples are cut into frames, and what bands their power is summed in."""

    sample_rate: int = 16000
    """Samples in a second."""
    num_mel_bins: int = 80
    """Bands."""
    frame_length_ms: float = 25.0
    """Of a frame."""
    frame_shift_ms: float = 10.0
    """From one frame to the next."""
    low_freq: float = 20.0
    """Where the lowest band begins, in Hz."""
    high_freq: float = 0.0
    """Where the highest one ends; 0 or less: so much below half of the rate."""
    preemphasis: float = 0.97
    """Share of the sample before that is taken off each sample."""
    scale: float = 1.0
    """What samples are multiplied by first."""

    def __post_init__(self) -> None:
        top = self._top
        if not 0.0 <= self.low_freq < top <= self.sample_rate / 2:
            raise ValueError(f"bands from {self.low_freq} to {top} Hz at {self.sample_rate} "
                             "samples a second: they must lie below half of the rate")
        if self.num_mel_bins < 4 or self.shift < 1 or self.length < 2:
            raise ValueError(f"{self}: too few bands or samples")

    @property
    def _top(self) -> float:
        return self.high_freq + (self.sample_rate / 2 if self.high_freq <= 0 else 0.0)

    @property
    def length(self) -> int:
        """Samples of a frame."""
        return int(self.sample_rate * self.frame_length_ms * 0.001)

    @property
    def shift(self) -> int:
        """Samples from one frame to the next."""
        return int(self.sample_rate * self.frame_shift_ms * 0.001)

    def count(self, samples: Any) -> Any:
        """How many frames some samples make, none of fewer than a frame has: of a number, or of an
        array of them, likewise."""
        whole = (samples - self.length) // self.shift + 1
        return whole * (whole > 0)

    def samples(self, frames: int) -> int:
        """The most samples that make no more than so many frames."""
        return max(frames, 0) * self.shift + self.length - 1


FBANK = Frames(scale=2.0**15)
"""fairseq's for speech to text: of samples as 16-bit integers."""
MFCC = Frames(num_mel_bins=23)
"""Of HuBERT's MFCC: of samples in [-1, 1]."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Tables:
    """Constants of `Frames`: h half a frame, K bins, F bands."""

    cosines: np.ndarray
    """[h, K], times the window."""
    sines: np.ndarray
    mel: np.ndarray
    """[K, F]."""


@functools.lru_cache(maxsize=16)
def _tables(options: Frames) -> _Tables:
    length = options.length
    size = 2 ** math.ceil(math.log2(length))
    odd, half = length % 2, length - length // 2
    distance = np.arange(half) + (0.0 if odd else 0.5)
    place = length // 2 + np.arange(half)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * place / (length - 1))) ** 0.85
    if odd:
        window = np.where(distance == 0, window / 2, window)  # both halves have the middle
    angle = 2 * np.pi * np.outer(distance, np.arange(size // 2)) / size
    return _Tables((np.cos(angle) * window[:, None]).astype(np.float32),
                   (np.sin(angle) * window[:, None]).astype(np.float32),
                   mel_banks(options, size).astype(np.float32))


def mel_banks(options: Frames, size: int) -> np.ndarray:
    """[size / 2, F] float64: the weight of each bin of a transform of `size` in each band,
    triangles on Kaldi's mel scale. (The bin at half of the rate is in none.)"""
    def mel(hertz: float | np.ndarray) -> np.ndarray:
        return 1127.0 * np.log(1.0 + np.asarray(hertz) / 700.0)

    low, high = mel(options.low_freq), mel(options._top)
    step = (high - low) / (options.num_mel_bins + 1)
    left = low + np.arange(options.num_mel_bins) * step
    bins = mel(np.arange(size // 2) * options.sample_rate / size)[:, None]
    up, down = (bins - left) / step, (left + 2 * step - bins) / step
    return np.maximum(0.0, np.minimum(up, down))


def _halves(samples: jax.Array, options: Frames) -> tuple[jax.Array, jax.Array]:
    """[T, h] of one row: sums and differences of samples as far behind as before the middle of
    each frame, after preemphasis, the mean of the frame left out.

    The window is 0 at a frame's first sample, so that preemphasis may be that of the whole row; of
    a mean m it leaves (1 - preemphasis) m everywhere else.
    """
    length, shift = options.length, options.shift
    frames = int(options.count(samples.shape[0]))
    pieces = -(-length // shift)
    rows = frames + pieces - 1
    keep = 1.0 - options.preemphasis
    plain = _rows(samples, rows, shift)
    sums = jnp.zeros(frames, samples.dtype)
    for i in range(pieces):
        sums += plain[i:i + frames, :length - i * shift].sum(-1)
    before = jnp.concatenate([samples[:1], samples[:-1]])
    emphasised = _rows(samples - options.preemphasis * before, rows, shift)
    half = length - length // 2
    right = _span(emphasised, frames, length // 2, length)
    left = _span(emphasised[:, ::-1], frames, 0, half, backwards=True)
    return left + right - (2.0 * keep / length) * sums[:, None], right - left


def _rows(samples: jax.Array, rows: int, shift: int) -> jax.Array:
    """[rows, shift]: samples in pieces, zeros behind them."""
    missing = max(0, rows * shift - samples.shape[0])
    return jnp.pad(samples, (0, missing))[:rows * shift].reshape(rows, shift)


def _span(
    rows: jax.Array, frames: int, begin: int, end: int, *, backwards: bool = False
) -> jax.Array:
    """[T, end - begin]: samples `begin` to `end` of each frame, which begins with row t of `rows`
    [R, shift]; if `backwards`, these are reversed and so is the result."""
    shift = rows.shape[1]
    parts = []
    for i in range(begin // shift, -(-end // shift)):
        low, high = max(begin - i * shift, 0), min(end - i * shift, shift)
        lanes = slice(shift - high, shift - low) if backwards else slice(low, high)
        parts.append(rows[i:i + frames, lanes])
    return jnp.concatenate(parts[::-1] if backwards else parts, axis=-1)


def _log_mel_row(samples: jax.Array, options: Frames) -> jax.Array:
    """[T, F] of one row [N]."""
    tables = _tables(options)
    even, odd = _halves(samples.astype(jnp.float32) * options.scale, options)
    power = (jnp.dot(even, tables.cosines, precision=HIGHEST) ** 2
             + jnp.dot(odd, tables.sines, precision=HIGHEST) ** 2)
    return jnp.log(jnp.maximum(jnp.dot(power, tables.mel, precision=HIGHEST), FLOOR))


@functools.partial(jax.jit, static_argnames="options")
def log_mel(samples: jax.Array, options: Frames = FBANK) -> jax.Array:
    """[B, T, F] natural logarithms of the power in each band.

    Args:
      samples: [B, N] in [-1, 1].

    On a CPU row by row, whose frames fit in its cache; elsewhere all rows together.
    """
    if not int(options.count(samples.shape[1])):
        return jnp.zeros((samples.shape[0], 0, options.num_mel_bins), jnp.float32)
    row = functools.partial(_log_mel_row, options=options)
    return jax.lax.platform_dependent(
        samples, cpu=functools.partial(jax.lax.map, row), default=jax.vmap(row))


def fbank(
    samples: jax.Array, lengths: jax.Array, options: Frames = FBANK
) -> tuple[jax.Array, jax.Array]:
    """Features [B, T, F] float32 of rows of samples and how many frames each has [B] int32; those
    behind are 0.

    Args:
      samples: [B, N] in [-1, 1], zeros behind `lengths` [B].
    """
    found = log_mel(samples, options)
    return keep_frames(found, frames := options.count(lengths)), frames


def keep_frames(features: jax.Array, frames: jax.Array) -> jax.Array:
    """Features [B, T, F] with zeros behind the first `frames` [B] of each row."""
    inside = jnp.arange(features.shape[1]) < frames[:, None]
    return jnp.where(inside[..., None], features, 0.0)


@functools.lru_cache(maxsize=16)
def _cosine_transform(bands: int, count: int, lifter: float) -> np.ndarray:
    """[bands, count]: an orthonormal cosine transform of log bands, its outputs raised by Kaldi's
    lifter."""
    k, n = np.arange(count), np.arange(bands)[:, None]
    table = np.cos(np.pi / bands * (n + 0.5) * k) * np.sqrt(2.0 / bands)
    table[:, 0] = np.sqrt(1.0 / bands)
    if lifter:
        table = table * (1.0 + 0.5 * lifter * np.sin(np.pi * k / lifter))
    return table.astype(np.float32)


def mfcc(
    samples: jax.Array, lengths: jax.Array, options: Frames = MFCC, *, num_ceps: int = 13,
    cepstral_lifter: float = 22.0,
) -> tuple[jax.Array, jax.Array]:
    """MFCCs [B, T, num_ceps] float32 and frames [B] int32; as `fbank`."""
    table = _cosine_transform(options.num_mel_bins, num_ceps, cepstral_lifter)
    found = jnp.matmul(log_mel(samples, options), table, precision=HIGHEST)
    return keep_frames(found, frames := options.count(lengths)), frames


def deltas(features: jax.Array, frames: jax.Array, *, win_length: int = 5) -> jax.Array:
    """[B, T, F]: how features change over time, as `torchaudio.functional.compute_deltas`: a slope
    over `win_length` frames, of which those outside of a row are its first or last one.

    Args:
      features: [B, T, F].
      frames: [B] frames of each row; what is behind is 0 in the result.

    Raises:
      ValueError: `win_length` is below 3.
    """
    if win_length < 3:
        raise ValueError(f"win_length: {win_length} is not 3 or more")
    n = (win_length - 1) // 2
    last = jnp.maximum(frames - 1, 0)[:, None]
    times = jnp.arange(features.shape[1])
    total = jnp.zeros_like(features)
    for k in range(1, n + 1):
        ahead = jnp.minimum(times + k, last)[..., None]
        behind = features[:, jnp.maximum(times - k, 0)]
        total += k * (jnp.take_along_axis(features, ahead, axis=1) - behind)
    return keep_frames(total / (n * (n + 1) * (2 * n + 1) / 3), frames)


def with_deltas(features: jax.Array, frames: jax.Array, *, win_length: int = 5) -> jax.Array:
    """[B, T, 3 F]: features, their deltas, and the deltas of these."""
    first = deltas(features, frames, win_length=win_length)
    return jnp.concatenate([features, first, deltas(first, frames, win_length=win_length)], axis=-1)


@functools.partial(jax.jit, static_argnames="sample_rate")
def hubert_mfcc(
    samples: jax.Array, lengths: jax.Array, sample_rate: int = 16000
) -> tuple[jax.Array, jax.Array]:
    """What HuBERT's first labels are clusters of: 13 MFCCs, deltas and deltas of these, [B, T, 39],
    and frames [B]. Samples are in [-1, 1], as they were read."""
    found, frames = mfcc(samples, lengths, dataclasses.replace(MFCC, sample_rate=sample_rate))
    return with_deltas(found, frames), frames
