"""Features of the recordings of a manifest in files that one computer can hold.

Each has a part of them: `SPLIT_I_N.npy` all frames, and `SPLIT_I_N.len` how many each recording has
(fairseq's names). A shard is there whole or not at all, so that making them can go on where it was.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from seqjax.config import ConfigError
from seqjax.data import whole_files


def part(total: int, *, shard: int, shards: int) -> range:
    """Which of `total` recordings are in a shard: as many in each as in the next, nearly."""
    return range(total * shard // shards, total * (shard + 1) // shards)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shards:
    """The files of a split."""

    folder: str
    split: str
    count: int
    """N, of how many."""

    @classmethod
    def find(cls, folder: str, split: str) -> Shards:
        """Those that are there.

        Raises:
          ConfigError: none are, or not all.
        """
        try:
            with open(os.path.join(folder, f"{split}.json"), encoding="utf-8") as file:
                count = int(json.load(file)["shards"])
        except (OSError, ValueError, KeyError):
            raise ConfigError(f"{folder}: has no features of the split {split}; make them with "
                              "python -m seqjax.preprocess features") from None
        found = cls(folder=folder, split=split, count=count)
        missing = [i for i in range(count) if not found.done(i)]
        if missing:
            raise ConfigError(f"{folder}: shard {missing[0]} of {count} of {split} is missing; the "
                              "same preprocess features goes on where it was")
        return found

    def _path(self, shard: int, end: str) -> str:
        return os.path.join(self.folder, f"{self.split}_{shard}_{self.count}.{end}")

    def begin(self, about: dict[str, Any]) -> None:
        """Says what these features are.

        Raises:
          ConfigError: there are others in the folder.
        """
        os.makedirs(self.folder, exist_ok=True)
        path = os.path.join(self.folder, f"{self.split}.json")
        said = {**about, "shards": self.count}
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                there = json.load(file)
            wrong = [f"{k} is {there.get(k)!r} there, {v!r} here" for k, v in said.items()
                     if there.get(k) != v]
            if wrong:
                raise ConfigError(f"{path}: features of another kind are there: "
                                  f"{'; '.join(wrong)}; give another --dest")
        whole_files.write(path, (json.dumps(said, indent=1) + "\n").encode())

    def done(self, shard: int) -> bool:
        """Whether a shard is there; its lengths are written last."""
        return os.path.isfile(self._path(shard, "len"))

    def write(self, shard: int, features: Sequence[np.ndarray]) -> None:
        """Features [T, D] of each recording of a shard."""
        held = io.BytesIO()
        np.save(held, np.concatenate(features).astype(np.float32, copy=False))
        whole_files.write(self._path(shard, "npy"), held.getvalue())
        lines = "".join(f"{len(x)}\n" for x in features)
        whole_files.write(self._path(shard, "len"), lines.encode())

    def read(self, shard: int) -> tuple[np.ndarray, np.ndarray]:
        """All frames [T, D] of a shard, in a memory map, and where each recording begins [n + 1].

        Raises:
          ConfigError: files that do not belong together.
        """
        frames = np.load(self._path(shard, "npy"), mmap_mode="r", allow_pickle=False)
        lengths = np.loadtxt(self._path(shard, "len"), dtype=np.int64, ndmin=1)
        if lengths.sum() != len(frames):
            raise ConfigError(f"{self._path(shard, 'npy')} has {len(frames)} frames, but its "
                              f".len says {lengths.sum()}")
        return frames, np.concatenate([[0], np.cumsum(lengths)])
