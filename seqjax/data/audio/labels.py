"""Labels beside a list of recordings (`.ltr`, `.wrd`, `.phn`, `.km`): line i of one is of line i
of the other. Files in, ids of a dictionary out.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import os

import numpy as np

from seqjax.data.audio.manifests import AudioManifest
from seqjax.data.sources import SourceError, require_file
from seqjax.data.vocabulary import Vocabulary

logger = logging.getLogger(__name__)
_TOLERANCE = 0.1
"""Seconds that a recording and its labels may differ by before that is said."""


def load_dictionary(folder: str, kind: str) -> Vocabulary:
    """`FOLDER/dict.KIND.txt`.

    Raises:
      FileNotFoundError: there is none.
      VocabularyError: it is not one; names the line.
    """
    path = os.path.join(folder, f"dict.{kind}.txt")
    require_file(path)
    return Vocabulary.load(path)


def load_labels(
    manifest: AudioManifest, kind: str, *, folder: str | None = None,
    vocabulary: Vocabulary | None = None, append_eos: bool = False, rate: float = -1.0,
) -> Labels:
    """A manifest's labels of one kind: `train.tsv`, `ltr` -> `train.ltr` and `dict.ltr.txt`.

    Args:
      folder: where both are (fairseq's `label_dir`); None: beside the manifest.
      vocabulary: another one than `dict.KIND.txt`.
      append_eos, rate: see `Labels`.

    Raises:
      FileNotFoundError: a file is not there.
      SourceError: lines that do not match the manifest's.
    """
    folder = os.path.dirname(manifest.path) if folder is None else folder
    name = os.path.basename(os.path.splitext(manifest.path)[0])
    return Labels(
        file=LabelFile.read(manifest, os.path.join(folder, f"{name}.{kind}")),
        vocabulary=load_dictionary(folder, kind) if vocabulary is None else vocabulary,
        append_eos=append_eos, rate=rate)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LabelFile:
    """Lines of labels, of which only the places are kept: they are read when they are needed."""

    path: str
    starts: np.ndarray
    """[N + 1] int64: where each line begins in the file, and where the last one ends."""
    counts: np.ndarray
    """[N] int32 labels in each line."""

    @classmethod
    def read(cls, manifest: AudioManifest, path: str) -> LabelFile:
        """A file of labels of a manifest's recordings.

        Raises:
          FileNotFoundError: there is no such file.
          SourceError: it has more or fewer lines than the manifest recordings; names both.
        """
        require_file(path)
        ends, counts = [0], []
        with open(path, "rb") as file:
            for line in file:
                ends.append(ends[-1] + len(line))
                counts.append(len(line.split()))
        if len(counts) != len(manifest):
            raise SourceError(
                f"{manifest.path} lists {len(manifest)} recordings, but {path} has {len(counts)} "
                "lines: line i of it must be the labels of the recording in line i + 1 there")
        return cls(path=path, starts=np.array(ends, np.int64), counts=np.array(counts, np.int32))

    @functools.cached_property
    def _content(self) -> np.ndarray:
        if not self.starts[-1]:
            return np.zeros(0, np.uint8)
        return np.memmap(self.path, np.uint8, "r")

    def __len__(self) -> int:
        return len(self.counts)

    def line(self, index: int) -> str:
        """Labels of a recording, as text.

        Raises:
          SourceError: it is not UTF-8.
        """
        content = self._content[self.starts[index]:self.starts[index + 1]].tobytes()
        try:
            return content.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise SourceError(f"{self.path}: line {index + 1} is not UTF-8") from None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """Ids of labels, one sequence a recording."""

    file: LabelFile
    vocabulary: Vocabulary
    append_eos: bool = False
    """End every sequence with eos: a decoder writes it; CTC does not."""
    rate: float = -1.0
    """Labels in a second of sound, of frames (50 of HuBERT's, 100 of MFCCs'); -1: a sequence that
    goes with the whole recording."""

    def __post_init__(self) -> None:
        if self.rate != -1.0 and self.rate <= 0:
            raise ValueError(f"label_rate: {self.rate} is neither positive nor -1 (labels of a "
                             "whole recording)")

    @property
    def of_frames(self) -> bool:
        """Whether they go with frames."""
        return self.rate > 0

    @property
    def counts(self) -> np.ndarray:
        """[N] int32 ids of each sequence."""
        return self.file.counts + np.int32(self.append_eos)

    def ids(self, index: int) -> np.ndarray:
        """[T] int32 of a recording's labels."""
        return self.vocabulary.encode_line(self.file.line(index), append_eos=self.append_eos)

    def span(self, start: int, samples: int, sample_rate: int) -> tuple[int, int]:
        """Which labels go with `samples` from `start` on: the first and how many, as fairseq's
        `HubertDataset` rounds them."""
        ratio = self.rate / sample_rate
        return int(round(start * ratio)), int(round(samples * ratio))

    def check_durations(
        self, manifest: AudioManifest, ids: np.ndarray, lengths: np.ndarray, sample_rate: int
    ) -> int:
        """How many of the recordings `ids` [n] of `lengths` [n] samples have labels for more than
        0.1 s more or less than they last; says so of the first."""
        if not self.of_frames:
            return 0
        sound, said = lengths / sample_rate, self.file.counts[ids] / self.rate
        wrong = np.flatnonzero(np.abs(sound - said) > _TOLERANCE)
        if len(wrong):
            i = int(wrong[0])
            logger.warning(
                "%d of %d recordings have labels for another time than they last; the first: %s "
                "has %.2f s, line %d of %s labels for %.2f s at %g a second. Is label_rate right?",
                len(wrong), len(ids), manifest.place(int(ids[i])), sound[i], int(ids[i]) + 1,
                self.file.path, said[i], self.rate)
        return len(wrong)
