"""Recordings with masks: batches of an `AudioDataset` in, the same with what a model draws for
each recording out, a pure function of (seed, epoch, number of the recording in its manifest)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from seqjax.data.audio.datasets import AudioDataset
from seqjax.data.audio.reading import AudioError
from seqjax.data.epoch_plan import Lengths, Shape


class DrawRows(Protocol):
    """`models.protocol.MaskedFrameReader.draw_rows`."""

    def __call__(
        self, lengths: np.ndarray, seeds: np.ndarray, *, samples: int,
        labels: Sequence[int] = (),
    ) -> dict[str, np.ndarray]:
        """Arrays [B, ...]."""
        ...


class DrawnDataset:
    """See the module.

    Args:
      recordings: what batches are made of.
      draw_rows: draws for the rows of a batch.
      seed, epoch: see the module.
    """

    def __init__(
        self, recordings: AudioDataset, draw_rows: DrawRows, *, seed: int, epoch: int = 1
    ) -> None:
        self.recordings, self._draw_rows = recordings, draw_rows
        self._seed, self._epoch = seed, epoch

    def __len__(self) -> int:
        return len(self.recordings)

    @property
    def lengths(self) -> Lengths:
        """See `AudioDataset.lengths`."""
        return self.recordings.lengths

    def at_epoch(self, epoch: int) -> DrawnDataset:
        """The same recordings, as they are in another epoch."""
        return DrawnDataset(
            self.recordings.at_epoch(epoch), self._draw_rows, seed=self._seed, epoch=epoch)

    def materialise(
        self, ids: np.ndarray, rows: np.ndarray, shape: Shape, *, packed: bool = False,
    ) -> dict[str, np.ndarray]:
        """See `AudioDataset.materialise`.

        Raises:
          AudioError: also for a recording too short to be masked; names its line.
        """
        arrays = self.recordings.materialise(ids, rows, shape, packed=packed)
        numbers = np.zeros(shape.rows, np.int64)
        numbers[rows] = self.recordings.ids[ids]
        seeds = np.stack([np.full(shape.rows, self._seed), np.full(shape.rows, self._epoch),
                          numbers], axis=1)
        labels = [arrays[name].shape[1] for name, part in zip(
            _target_names(arrays), self.recordings.labels, strict=True) if part.of_frames]
        lengths = arrays["source_lengths"]
        try:
            drawn = self._draw_rows(lengths, seeds, samples=shape.source, labels=labels)
        except ValueError as error:
            row = int(np.where(lengths > 0, lengths, lengths.max() + 1).argmin())
            place = self.recordings.manifest.place(int(numbers[row]))
            raise AudioError(
                f"{place}: {error}; leave such recordings out with config.task.min_sample_size "
                f"above {lengths[row]}") from None
        return {**arrays, **drawn}


def _target_names(arrays: dict[str, np.ndarray]) -> list[str]:
    """Of each list of labels, in their order."""
    names = [name for name in arrays if name.startswith("target") and "lengths" not in name]
    return sorted(names, key=lambda name: int(name.partition("_")[2] or 0))
