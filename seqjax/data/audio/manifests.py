"""Lists of recordings, as wav2vec and HuBERT have them: a file in, paths and lengths out.

The first line is a folder; every other one a path under it, a tab, and the samples of that file.
A relative folder is looked for from where the command runs, as in fairseq, and then from where
the list is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from seqjax.data import whole_files
from seqjax.data.audio.reading import (
    AudioError,
    Reading,
    check_length,
    file_of,
    in_parallel,
    read_head,
)
from seqjax.data.sources import SourceError, iterate_lines, require_file

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class AudioManifest:
    """Recordings, and where each is written down."""

    path: str
    """The file that lists them; errors name it."""
    root: str
    """Folder that their names are relative to."""
    names: tuple[str, ...]
    """Of each recording."""
    frames: np.ndarray
    """[N] int64 samples (of features: frames) of each."""
    first_line: int = 2
    """Line of the first one."""

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> AudioManifest:
        """The list in a `.tsv`.

        Raises:
          FileNotFoundError: there is no such file.
          SourceError: no recordings, or a line that is not a path, a tab and a number; names it.
        """
        path = os.fspath(path)
        require_file(path)
        lines = iterate_lines([path])
        root = next(lines, "").strip()
        names, frames = [], []
        for number, line in enumerate(lines, 2):
            name, tab, count = line.strip().partition("\t")
            if not tab or not count.isdigit():
                raise SourceError(f"{path}: line {number} is {line!r}; expected a path, a tab "
                                  "and the number of its samples")
            names.append(name)
            frames.append(int(count))
        if "\t" in root or not names:
            raise SourceError(f"{path}: expected a folder in line 1, and a path, a tab and a "
                              "number of samples in each line behind it")
        return cls(path=path, root=find_root(root, path, names[0]), names=tuple(names),
                   frames=np.array(frames, np.int64))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def digest(self) -> str:
        """Tells lists of other recordings, or in another order, apart."""
        listed = "\n".join(f"{name}\t{n}" for name, n in zip(
            self.names, self.frames.tolist(), strict=True))
        return hashlib.sha256(listed.encode()).hexdigest()[:16]

    def file(self, index: int) -> str:
        """The path of a recording, perhaps with the slice of an archive that it is."""
        return os.path.join(self.root, self.names[index])

    def place(self, index: int) -> str:
        """Where it is written down, for errors."""
        return f"{self.path}: line {self.first_line + index}"

    def within(self, least: int | None, most: int | None = None) -> np.ndarray:
        """[n] int64: the recordings of at least and at most so many samples; the others are
        counted in the log (fairseq's `min_sample_size` and `max_keep_size`)."""
        short = self.frames < (least or 0)
        long = self.frames > most if most is not None else np.zeros(len(self), bool)
        kept = np.flatnonzero(~(short | long)).astype(np.int64)
        if len(kept) < len(self):
            logger.warning("%s: %d of %d recordings are used; %d are shorter than %s samples, %d "
                           "longer than %s", self.path, len(kept), len(self), int(short.sum()),
                           least, int(long.sum()), most)
        if not len(kept):
            raise SourceError(f"{self.path}: none of {len(self)} recordings has {least or 0} to "
                              f"{most if most is not None else 'any number of'} samples")
        return kept

    def text(self) -> str:
        """What `read` reads."""
        lines = [f"{name}\t{count}\n" for name, count in zip(self.names, self.frames, strict=True)]
        return "".join([f"{self.root}\n", *lines])

    def save(self) -> None:
        """Writes the file, whole or not at all."""
        whole_files.write(self.path, self.text().encode("utf-8"))


def find_root(root: str, near: str, name: str) -> str:
    """The folder that `root` means: as it is, or under a folder above the file `near` that says
    it; the first of them where there is the recording `name`. A whole path is what it says, or the
    folder of that file, where recordings have been moved with it."""
    name = file_of(name)
    place = os.path.dirname(os.path.abspath(near))
    if os.path.isabs(root):
        moved = os.path.exists(os.path.join(place, name))
        return place if moved and not os.path.exists(os.path.join(root, name)) else root
    above = [place]
    while (parent := os.path.dirname(above[-1])) != above[-1]:
        above.append(parent)
    for folder in ("", *above):
        found = os.path.join(folder, root)
        if os.path.exists(os.path.join(found, name)):
            return found
    return root


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Heads:
    """What the files of some recordings say of themselves."""

    ids: np.ndarray
    """[n] int64: the recordings that can be used."""
    lengths: np.ndarray
    """[n] int64 samples, at the rate that is wanted (of features: frames)."""
    skipped: int
    """Recordings that cannot be used."""


def look(
    manifest: AudioManifest, ids: Sequence[int] | np.ndarray, reading: Reading, *,
    tell: Callable[[int], object] = lambda _: None,
) -> Heads:
    """Heads of files, read several at a time.

    Args:
      ids: of the recordings in the manifest.
      tell: called with 1 for each that was looked at.

    Raises:
      AudioError: one that cannot be used, unless these are skipped: missing, empty, no sound, of
        another rate, or of another length than the manifest says. Names its line.
    """
    def length(index: int) -> int:
        head = read_head(manifest.file(index))
        check_length(head, int(manifest.frames[index]))
        reading.check_rate(head)
        return reading.resampled(head)

    return measure(manifest, ids, reading, length, tell=tell)


def measure(
    manifest: AudioManifest, ids: Sequence[int] | np.ndarray, reading: Reading,
    length: Callable[[int], int], *, tell: Callable[[int], object] = lambda _: None,
) -> Heads:
    """As `look`; `length` says of the number of a recording how long it is, or raises an
    AudioError, to which its line is added."""
    def one(index: int) -> int | AudioError:
        try:
            return length(index)
        except AudioError as error:
            return error.at(manifest.place(index))
        finally:
            tell(1)

    found = in_parallel(one, [int(i) for i in ids], reading.threads)
    return _sorted_out(manifest, ids, found, reading)


def _sorted_out(
    manifest: AudioManifest, ids: Iterable[int], found: Sequence[int | AudioError],
    reading: Reading,
) -> Heads:
    kept, lengths, bad = [], [], []
    for index, value in zip(ids, found, strict=True):
        if isinstance(value, AudioError):
            if reading.on_bad == "error":
                raise value
            bad.append(value)
        else:
            kept.append(index)
            lengths.append(value)
    if bad:
        logger.warning("%s: %d of %d recordings cannot be used and are skipped; the first: %s",
                       manifest.path, len(bad), len(found), bad[0])
    if not kept:
        raise AudioError(f"{manifest.path}: no recording can be used; the first: {bad[0]}")
    return Heads(ids=np.array(kept, np.int64), lengths=np.array(lengths, np.int64),
                 skipped=len(bad))
