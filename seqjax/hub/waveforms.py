"""What people give to a model of waveforms, as rows of samples: paths and arrays in, float32 arrays
out, in batches of few shapes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from seqjax.data.audio.reading import AudioError, Reading, file_of, read_samples

SHORTEST, LONG = 1 << 13, 1 << 16
"""Samples of the narrowest batch. Others are a power of 2 or 1.5 times that; from the second number
on also 1.25 and 1.75 times, where what is padded costs more than one more program."""
BATCH_SAMPLES = 1 << 20
"""Of one batch at most, where a row is not longer."""


def is_one(audio: Any) -> bool:
    """Whether what is given is one recording, not a list of them: a list of numbers is samples."""
    return not isinstance(audio, list | tuple) or bool(audio) and isinstance(
        audio[0], int | float | np.number)


def read(audio: Any, *, name: str, sample_rate: int) -> np.ndarray:
    """Float32 samples [N] in [-1, 1].

    Args:
      audio: a path (`data.audio.reading`), whose channels are averaged and which is resampled
        where its rate is another; or samples [N] (or [N, channels]) at `sample_rate`, floats in
        [-1, 1] or integers of 16 or 32 bits.
      name: what errors call it.

    Raises:
      FileNotFoundError: no such file.
      AudioError: a file that cannot be used.
      TypeError: neither a path nor samples.
      ValueError: no samples, or some that are not finite.
    """
    if isinstance(audio, str | os.PathLike):
        return _read_file(os.fspath(audio), name=name, sample_rate=sample_rate)
    samples = _of_array(audio, name=name)
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    if samples.ndim != 1 or not len(samples):
        raise ValueError(f"{name}: has shape {list(samples.shape)}, where samples [N] belong")
    if not np.isfinite(samples).all():
        bad = int(np.flatnonzero(~np.isfinite(samples))[0])
        raise ValueError(f"{name}: sample {bad} is {samples[bad]}")
    return np.ascontiguousarray(samples, np.float32)


def _read_file(path: str, *, name: str, sample_rate: int) -> np.ndarray:
    file = file_of(path)
    if not os.path.isfile(file):
        raise FileNotFoundError(f"{name}: {file}: no such file")
    try:
        return read_samples(path, Reading(sample_rate=sample_rate, resample=True))
    except AudioError as error:
        raise error.at(name) from None


def _of_array(audio: Any, *, name: str) -> np.ndarray:
    if isinstance(audio, bytes | dict | set) or audio is None:
        raise TypeError(f"{name}: got {type(audio).__name__}; give a path or an array of samples")
    samples = np.asarray(audio)
    if samples.dtype.kind == "i" and samples.dtype.itemsize in (2, 4) and not isinstance(
            audio, list | tuple):
        return samples / np.float32(2 ** (8 * samples.dtype.itemsize - 1))
    if samples.dtype.kind not in "fi":
        raise TypeError(f"{name}: got values of type {samples.dtype}; give samples in [-1, 1]")
    return samples.astype(np.float32)


def batches(
    rows: Sequence[np.ndarray], *, at_once: int = BATCH_SAMPLES
) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Batches of all rows, those of like length together, of few shapes.

    Args:
      at_once: samples of one batch at most, where a row is not longer.

    Yields:
      Places of the rows in `rows`; samples [B, N] float32 and which are real [B, N]; rows behind
      the last place are all padding.
    """
    by_width: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        by_width.setdefault(width(len(row)), []).append(place)
    for size, places in sorted(by_width.items()):
        most = 1 << max(at_once // size, 1).bit_length() - 1
        for start in range(0, len(places), most):
            some = places[start : start + most]
            shape = (1 << (len(some) - 1).bit_length(), size)
            samples, real = np.zeros(shape, np.float32), np.zeros(shape, bool)
            for row, place in enumerate(some):
                samples[row, : len(rows[place])] = rows[place]
                real[row, : len(rows[place])] = True
            yield some, samples, real


def width(samples: int) -> int:
    """Samples of the batch that a row of `samples` is put into."""
    size = SHORTEST
    while 2 * size < samples:
        size *= 2
    quarters = (4, 5, 6, 7, 8) if size >= LONG else (4, 6, 8)
    return next(size // 4 * n for n in quarters if samples <= size // 4 * n)
