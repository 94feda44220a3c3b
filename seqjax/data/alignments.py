"""Word alignments of sentence pairs, as arrays of a static shape.

fairseq's collater makes one list of pairs for a whole batch; here each row has its own,
padded to a number that depends on the batch's shape alone. NumPy throughout.
"""

from __future__ import annotations

import warnings
from typing import Protocol

import numpy as np

NONE = -1
"""Fills what is left of a row."""


class Gatherer(Protocol):
    """Arrays by number; `pairs.Side` is one."""

    lengths: np.ndarray

    def gather(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...


class Alignments:
    """The alignments of every sentence pair of a dataset.

    Args:
      pairs: per sentence, source and target position of each pair in turn, from 0.
      source_lengths, target_lengths: tokens of each sentence, eos included.

    Raises:
      ValueError: another number of sentences, or an array that does not hold pairs.
    """

    def __init__(
        self, pairs: Gatherer, *, source_lengths: np.ndarray, target_lengths: np.ndarray
    ):
        if len(pairs.lengths) != len(source_lengths):
            raise ValueError(
                f"there are alignments of {len(pairs.lengths)} sentences, but "
                f"{len(source_lengths)} sentences: preprocess them together")
        if (pairs.lengths % 2).any():
            index = int(np.flatnonzero(pairs.lengths % 2)[0])
            raise ValueError(f"the alignment of sentence {index} does not consist of pairs: "
                             "preprocess again with --align-suffix")
        self._pairs = pairs
        self._source, self._target = source_lengths, target_lengths
        tokens = np.maximum(source_lengths.astype(np.int64) + target_lengths, 1)
        self._per_token = max(1, int((-(-(pairs.lengths // 2) // tokens)).max(initial=0)))
        self._warned = False

    def width(self, source: int, target: int) -> int:
        """Pairs that a row of so many tokens holds at most, however it is filled."""
        return self._per_token * (source + target)

    def materialise(
        self, ids: np.ndarray, rows: np.ndarray, *, count: int, width: int
    ) -> dict[str, np.ndarray]:
        """The alignments of a batch.

        Alignments that reach beyond their sentence (its eos included) are left out, those
        of the whole sentence, as fairseq does.

        Args:
          ids, rows: sentences and the row of each, not decreasing.
          count: rows of the batch.
          width: pairs of a row, as `width` says.

        Returns:
          `aligned_source` and `aligned_target` [count, width] int32: positions in the
          padded rows, where packed sentences follow each other.
        """
        flat, lengths = self._pairs.gather(ids)
        pairs, sizes = flat.reshape(-1, 2), lengths // 2
        owner = np.repeat(np.arange(len(ids)), sizes)
        limits = np.stack([self._source[ids], self._target[ids]], axis=1) - 1
        beyond = np.bincount(owner[(pairs >= limits[owner]).any(axis=1)], minlength=len(ids)) > 0
        self._warn(ids[beyond])
        kept = ~beyond[owner]
        pairs, owner = pairs[kept], owner[kept]
        starts = np.stack([_starts(rows, side[ids]) for side in (self._source, self._target)],
                          axis=1)
        pairs = pairs + starts[owner]
        fill = np.bincount(rows[owner], minlength=count)
        place = np.arange(width) < fill[:, None]
        batch = {}
        for column, name in enumerate(("aligned_source", "aligned_target")):
            batch[name] = np.full((count, width), NONE, np.int32)
            batch[name][place] = pairs[:, column]
        return batch

    def _warn(self, ids: np.ndarray) -> None:
        if len(ids) and not self._warned:
            self._warned = True
            warnings.warn(
                f"the alignment of sentence {int(ids[0])} does not fit its words and is left "
                "out, as will be others like it", stacklevel=3)


def _starts(rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """[n]: where each sentence begins in its row."""
    ends = np.cumsum(lengths, dtype=np.int64)
    begins = ends - lengths
    first = np.searchsorted(rows, rows, side="left")
    return begins - begins[first] if len(rows) else begins
