"""Utterances in, what tables of speech to text say of them out: where each is, and its frames.

Features (`.npy`) or sound (`.flac`) go into one archive a split, which is not compressed, so that
a slice of it is a file (`fbank80-train.zip:OFFSET:LENGTH`, as fairseq's scripts pack them). It is
there whole or not at all; one that is there already with the same utterances is kept.
"""

from __future__ import annotations

import dataclasses
import io
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np

from seqjax.data.audio.filterbank import FBANK, Frames
from seqjax.data.audio.reading import (
    AudioError,
    Reading,
    in_parallel,
    library,
    read_features,
    read_head,
    read_samples,
)
from seqjax.data.audio.s2t_corpora import Utterance

Kind = Literal["features", "flac", "files"]
Rows = list[np.ndarray]
_AT_ONCE = 128
"""Utterances that are in memory at the same time."""
_BEYOND = 0.1
"""Seconds that an utterance may end behind its file: times are rounded."""
_LOCAL_HEADER = 30
"""Bytes of an entry of an archive before its name."""
_NPY_HEADER = 128
"""Bytes of a small array's file before its values."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stored:
    """An utterance that can be used."""

    utterance: Utterance
    audio: str
    """Its path, as tables have it."""
    frames: int
    """Of filterbanks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Store:
    """Where recordings go, and how."""

    folder: str
    """Of the archives."""
    kind: Kind
    """`features`: filterbanks; `flac`: sound at one rate; `files`: recordings stay where they
    are."""
    reading: Reading
    """How they are read; its `on_bad` says what becomes of those that cannot be used."""
    compute: Callable[[Rows], Rows]
    """Samples [N] of some recordings -> filterbanks [T, F] of each."""
    tell: Callable[[int], object]
    """Called with how many more are done."""

    @property
    def frames(self) -> Frames:
        """How samples are cut."""
        return dataclasses.replace(FBANK, sample_rate=self.reading.sample_rate)

    def archive(self, split: str) -> str:
        """The name of a split's."""
        name = f"fbank{self.frames.num_mel_bins}" if self.kind == "features" else "flac"
        return f"{name}-{split}.zip"

    def put(
        self, split: str, utterances: Sequence[Utterance]
    ) -> tuple[list[Stored], list[AudioError]]:
        """Utterances that can be used, and why others cannot be.

        Raises:
          AudioError: one cannot be used, and `reading.on_bad` is `error`; names where it is
            written down.
        """
        if self.kind == "files":
            return self._where_they_are(utterances)
        path = os.path.join(self.folder, self.archive(split))
        found = self._kept(path, utterances)
        if found is not None:
            self.tell(len(utterances))
            return found, []
        temporary = f"{path}.tmp{os.getpid()}"
        try:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
                bad = self._fill(archive, utterances)
            os.replace(temporary, path)
        finally:
            if os.path.exists(temporary):
                os.remove(temporary)
        return self._stored(path, utterances), bad

    # ---- one at a time ----

    def _where_they_are(
        self, utterances: Sequence[Utterance]
    ) -> tuple[list[Stored], list[AudioError]]:
        def one(utterance: Utterance) -> Stored | AudioError:
            try:
                head = read_head(utterance.path)
                self.reading.check_rate(head)
                return Stored(utterance=utterance, audio=os.path.abspath(utterance.path),
                              frames=int(self.frames.count(self.reading.resampled(head))))
            except AudioError as error:
                return error.at(utterance.place)
            finally:
                self.tell(1)

        found = in_parallel(one, utterances, self.reading.threads)
        return ([x for x in found if isinstance(x, Stored)],
                [self._bad(x) for x in found if isinstance(x, AudioError)])

    def _bad(self, error: AudioError) -> AudioError:
        if self.reading.on_bad == "error":
            raise error
        return error

    def samples(self, utterance: Utterance) -> np.ndarray:
        """[N] of an utterance.

        Raises:
          AudioError: it cannot be used; names where it is written down.
        """
        try:
            start, stop = self._span(utterance)
            found = read_samples(utterance.path, self.reading, start=start, stop=stop)
            if not int(self.frames.count(len(found))):
                raise AudioError(f"{utterance.path}: {len(found)} samples are too short for a "
                                 f"frame of {self.frames.length}")
            return found
        except AudioError as error:
            raise error.at(utterance.place) from None

    def _span(self, utterance: Utterance) -> tuple[int, int | None]:
        """First sample of an utterance, and the one behind its last (None: the file's)."""
        if utterance.seconds is None:
            return 0, None
        rate = self.reading.sample_rate
        start, length = (int(x * rate) for x in utterance.seconds)
        whole = self.reading.resampled(read_head(utterance.path))
        if start + length > whole + rate * _BEYOND:
            raise AudioError(f"{utterance.path}: has {whole / rate:.2f} seconds, the utterance "
                             f"ends at {(start + length) / rate:.2f}")
        return start, min(start + length, whole)

    # ---- archives ----

    def _fill(
        self, archive: zipfile.ZipFile, utterances: Sequence[Utterance]
    ) -> list[AudioError]:
        """Writes what can be read; gives why the others cannot."""
        def one(utterance: Utterance) -> np.ndarray | AudioError:
            try:
                return self.samples(utterance)
            except AudioError as error:
                return error

        bad = []
        for first in range(0, len(utterances), _AT_ONCE):
            some = utterances[first:first + _AT_ONCE]
            found = in_parallel(one, some, self.reading.threads)
            bad += [self._bad(x) for x in found if isinstance(x, AudioError)]
            good = [(u, x) for u, x in zip(some, found, strict=True) if isinstance(x, np.ndarray)]
            contents = self._contents([x for _, x in good])
            for (utterance, _), content in zip(good, contents, strict=True):
                archive.writestr(utterance.id + self._end, content)
            self.tell(len(some))
        return bad

    @property
    def _end(self) -> str:
        return ".npy" if self.kind == "features" else ".flac"

    def _contents(self, rows: Rows) -> Iterator[bytes]:
        """Of files with features or sound."""
        for row in self.compute(rows) if self.kind == "features" and rows else rows:
            file = io.BytesIO()
            if self.kind == "features":
                np.save(file, row.astype(np.float32))
            else:
                library("soundfile").write(file, row, self.reading.sample_rate, format="flac")
            yield file.getvalue()

    def _kept(self, path: str, utterances: Sequence[Utterance]) -> list[Stored] | None:
        """What an archive that is there holds; None where it is another one."""
        if not os.path.isfile(path):
            return None
        try:
            with zipfile.ZipFile(path) as archive:
                names = {info.filename for info in archive.infolist()}
        except (zipfile.BadZipFile, OSError):
            return None
        wanted = {u.id + self._end for u in utterances}
        # With files left out it is made again: they may be there now.
        return self._stored(path, utterances) if names == wanted else None

    def _stored(self, path: str, utterances: Sequence[Utterance]) -> list[Stored]:
        by_name = {u.id + self._end: u for u in utterances}
        found = []
        with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
            for info in archive.infolist():
                file.seek(info.header_offset + _LOCAL_HEADER - 4)
                sizes = np.frombuffer(file.read(4), "<u2")  # of the name and of what is behind it
                offset = info.header_offset + _LOCAL_HEADER + int(sizes.sum())
                audio = f"{os.path.basename(path)}:{offset}:{info.file_size}"
                found.append(Stored(
                    utterance=by_name[info.filename], audio=audio,
                    frames=self._frames_in(os.path.join(self.folder, audio), info.file_size)))
        return found

    def _frames_in(self, path: str, size: int) -> int:
        if self.kind == "features":
            return (size - _NPY_HEADER) // (4 * self.frames.num_mel_bins)
        return int(self.frames.count(read_head(path).length))


def statistics(
    paths: Sequence[str], *, threads: int, tell: Callable[[int], object]
) -> dict[str, np.ndarray]:
    """`mean` and `std` [F] float32 of the features in files, for `global_cmvn`."""
    def one(path: str) -> tuple[int, np.ndarray, np.ndarray]:
        values = read_features(path).astype(np.float64)
        return len(values), values.sum(0), (values**2).sum(0)

    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for first in range(0, len(paths), _AT_ONCE):
        some = paths[first:first + _AT_ONCE]
        for n, sums, powers in in_parallel(one, some, threads):
            count, total, squares = count + n, total + sums, squares + powers
        tell(len(some))
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 1e-8))
    return {"mean": mean.astype(np.float32), "std": deviation.astype(np.float32)}
