"""Sound files: paths in, samples or features out, or an error that says what is wrong with one.

A path is a file that libsndfile reads (wav, flac, ogg, mp3, of 8 to 32 bits), features in a
`.npy`, or `FILE.zip:OFFSET:LENGTH`, either of them in an archive that is not compressed. Many
channels become one, their mean, as in fairseq.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import importlib.util
import io
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import numpy as np

Item = TypeVar("Item")
Result = TypeVar("Result")
_FILES = (".npy", ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au",
          ".sph", ".caf", ".w64")
"""Ends of names that are no slices of an archive."""


class AudioError(ValueError):
    """A recording that cannot be used; the message says why, and which one it is where that is
    known (`at`)."""

    def at(self, place: str) -> AudioError:
        """The same error, said of a place in a file that lists it."""
        return AudioError(f"{place}: {self}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How recordings are read."""

    sample_rate: int = 16000
    """Samples in a second that there are to be."""
    resample: bool = False
    """Bring recordings of another rate to that one; without it they are refused."""
    on_bad: Literal["error", "skip"] = "error"
    """What becomes of recordings that cannot be used (missing, empty, cut off, of another rate,
    with samples that are no numbers): an error that names the line of their manifest, or they are
    left out and counted."""
    check: bool = True
    """Look at the head of every file before the first batch is made, so that a bad one is found
    then. Without it (very many files, a slow disk) one is found when it is read."""
    workers: int = 0
    """Files read at the same time (0: as many as there are cores, 8 at most)."""

    def __post_init__(self) -> None:
        if self.sample_rate < 1:
            raise ValueError(f"sample_rate: {self.sample_rate} is not positive")
        if self.on_bad not in ("error", "skip"):
            raise ValueError(f"on_bad: {self.on_bad!r} is neither 'error' nor 'skip'")
        if self.workers < 0:
            raise ValueError(f"workers: {self.workers} is below 0")

    @property
    def threads(self) -> int:
        """Of `workers`."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (
            os.cpu_count() or 1)
        return self.workers or max(1, min(8, cores))

    def resampled(self, head: Head) -> int:
        """Samples of a recording at this rate."""
        if head.rate == self.sample_rate:
            return head.length
        return -(-head.length * self.sample_rate // head.rate)

    def check_rate(self, head: Head) -> None:
        """Raises AudioError for a recording of another rate, where that is not to be changed."""
        if head.rate and head.rate != self.sample_rate and not self.resample:
            raise AudioError(
                f"{head.rate} samples a second, not {self.sample_rate}: set sample_rate to "
                f"{head.rate}, or resample to true, or convert the files")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head:
    """What a file says of itself."""

    length: int
    """Samples of each channel; of features, frames."""
    rate: int = 0
    """Samples in a second; 0 of features."""
    channels: int = 1
    """Of features, how many a frame has."""


def library(name: str) -> Any:
    """The module `soundfile` or `soxr`.

    Raises:
      ModuleNotFoundError: it is not installed; says how to.
    """
    if importlib.util.find_spec(name) is None:
        raise ModuleNotFoundError(f"reading audio needs {name}: pip install 'seqjax[speech]' (or "
                                  f"pip install {name})")
    return importlib.import_module(name)


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a recording's bytes are."""

    path: str
    span: tuple[int, int] | None
    """Offset and length in an archive."""

    @classmethod
    def of(cls, path: str) -> _Place:
        if os.path.splitext(path)[1].lower() in _FILES or ":" not in path:
            return cls(path, None)
        head, *numbers = path.rsplit(":", 2)
        if len(numbers) == 2 and all(n.isdigit() for n in numbers):
            return cls(head, (int(numbers[0]), int(numbers[1])))
        return cls(path, None)

    def open(self) -> Any:
        """What soundfile and NumPy read: a path, or the bytes of a slice.

        Raises:
          AudioError: there is no such file, or less of it than the slice.
        """
        if not os.path.isfile(self.path):
            raise AudioError(f"{self.path}: no such file")
        if self.span is None:
            return self.path
        offset, length = self.span
        with open(self.path, "rb") as file:
            file.seek(offset)
            content = file.read(length)
        if len(content) < length or not length:
            raise AudioError(f"{self.path}: bytes {offset} to {offset + length} are wanted, the "
                             f"file has {os.path.getsize(self.path)}")
        return io.BytesIO(content)

    def is_array(self, opened: Any) -> bool:
        """Whether it is a `.npy`."""
        if isinstance(opened, io.BytesIO):
            return opened.getbuffer()[:6] == b"\x93NUMPY"
        return self.path.endswith(".npy")

    def __str__(self) -> str:
        return self.path if self.span is None else f"{self.path}:{self.span[0]}:{self.span[1]}"


def file_of(path: str) -> str:
    """The file that a path is of: itself, or the archive that it is a slice of."""
    return _Place.of(path).path


def read_head(path: str) -> Head:
    """Length and rate, without reading the samples. (Of mp3 the length is what the file claims.)

    Raises:
      AudioError: there is no such file, it is none that can be read, or it is empty.
    """
    place = _Place.of(path)
    opened = place.open()
    if place.is_array(opened):
        frames, size = _array_shape(place, opened)
        return Head(length=frames, channels=size)
    try:
        about = library("soundfile").info(opened)
    except RuntimeError as error:  # soundfile's own errors are these
        raise AudioError(f"{place}: cannot be read as sound ({_reason(error)})") from None
    if about.frames < 1:
        raise AudioError(f"{place}: has no samples")
    return Head(length=int(about.frames), rate=int(about.samplerate), channels=int(about.channels))


def _reason(error: Exception) -> str:
    return str(error).partition(": ")[2] or str(error)


def _array_shape(place: _Place, opened: Any) -> tuple[int, int]:
    array = _array(place, opened)
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
        raise AudioError(f"{place}: an array of {array.dtype} of the shape {array.shape}, expected "
                         "floats [frames, features]")
    if not len(array):
        raise AudioError(f"{place}: has no frames")
    return array.shape


def _array(place: _Place, opened: Any) -> np.ndarray:
    try:
        if isinstance(opened, str):
            return np.load(opened, mmap_mode="r", allow_pickle=False)
        return np.load(opened, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise AudioError(f"{place}: cannot be read as an array ({error})") from None


def read_features(path: str) -> np.ndarray:
    """[T, F] float32 of a `.npy`.

    Raises:
      AudioError: as `read_head`; values that are no numbers.
    """
    place = _Place.of(path)
    opened = place.open()
    _array_shape(place, opened)
    if isinstance(opened, io.BytesIO):
        opened.seek(0)
    return finite(np.array(_array(place, opened), np.float32), str(place))


def is_features(path: str) -> bool:
    """Whether a path is one of features; reads the beginning of a slice."""
    place = _Place.of(path)
    return place.is_array(place.open() if place.span is not None else place.path)


def check_length(head: Head, said: int | None) -> None:
    """Raises AudioError for a file that is longer or shorter than is written of it."""
    if said is not None and head.length != said:
        what = "is cut off" if head.length < said else "is another one"
        raise AudioError(f"the file {what}: it has {head.length} samples, {said} are written down")


def read_samples(
    path: str, reading: Reading, *, start: int = 0, stop: int | None = None,
    said: int | None = None,
) -> np.ndarray:
    """[N] float32 in [-1, 1], one channel at the rate that is wanted.

    Args:
      start, stop: samples of the result that are read; others of the file are not, unless its rate
        is to be changed.
      said: samples that the file should have.

    Raises:
      AudioError: a file that is missing, no sound, empty or cut off; another rate than is wanted;
        samples that are no numbers.
    """
    place = _Place.of(path)
    opened = place.open()
    sound = library("soundfile")
    try:
        with sound.SoundFile(opened) as file:
            head = Head(length=len(file), rate=file.samplerate, channels=file.channels)
            if not head.length:
                raise AudioError("has no samples")
            check_length(head, said)
            reading.check_rate(head)
            same = head.rate == reading.sample_rate
            if same and start:
                file.seek(start)
            wanted = -1 if stop is None or not same else stop - start
            samples = file.read(wanted, dtype="float32", always_2d=True)
    except AudioError as error:
        raise error.at(str(place)) from None
    except RuntimeError as error:
        raise AudioError(f"{place}: cannot be read as sound, or is cut off "
                         f"({_reason(error)})") from None
    # As many as there are said to be? An mp3 says more than a truncated one has.
    least = (head.length - start if same else head.length) if wanted < 0 else wanted
    if len(samples) < least:
        raise AudioError(f"{place}: is cut off: {start + len(samples)} of "
                         f"{start + least if same else head.length} samples are there")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    mono = finite(np.ascontiguousarray(mono), str(place))
    if same:
        return mono
    return resampled(mono, head.rate, reading.sample_rate)[start:stop]


def finite(values: np.ndarray, name: str) -> np.ndarray:
    """The values, if all are numbers.

    Raises:
      AudioError: one is infinite or NaN; says which.
    """
    # A sum is finite only if all are: then one pass without a mask is enough.
    if not np.isfinite(values.sum()):
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            at = int(wrong[0]) // int(np.prod(values.shape[1:]))
            kind = "sample" if values.ndim == 1 else "frame"
            raise AudioError(f"{name}: {len(wrong)} values are infinite or no numbers, the first "
                             f"in {kind} {at}")
    return values


def resampled(samples: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Samples [N] at another rate: [ceil(N * to / rate)] float32, by soxr's high quality."""
    if rate == to:
        return samples
    wanted = -(-len(samples) * to // rate)
    found = library("soxr").resample(samples, rate, to, quality="HQ")
    # soxr may give one more or less than the ratio says.
    return np.pad(found, (0, max(0, wanted - len(found))))[:wanted].astype(np.float32, copy=False)


def layer_norm(samples: np.ndarray, *, eps: float = 1e-5) -> np.ndarray:
    """Samples [N] less their mean, divided by their deviation: fairseq's `normalize`.

    Args:
      eps: added to the variance: 1e-5 in fairseq, 1e-7 in Hugging Face's feature extractors.
    """
    samples = np.asarray(samples, np.float32)
    centred = samples - samples.mean()
    variance = float(np.dot(centred, centred)) / len(centred)
    return centred * np.float32((variance + eps) ** -0.5)


@functools.lru_cache(maxsize=4)
def _pool(threads: int) -> concurrent.futures.ThreadPoolExecutor:
    """Threads of this process; libsndfile works without Python's lock."""
    return concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="seqjax-audio")


def in_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], threads: int
) -> list[Result]:
    """[function(item) for item in items], several at a time, in order."""
    if threads == 1 or len(items) < 2:
        return [function(item) for item in items]
    return list(_pool(threads).map(function, items))
