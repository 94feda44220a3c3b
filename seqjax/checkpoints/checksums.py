"""Whether what is read from a checkpoint is what was written, and whether it is finite.

Beside the arrays of a checkpoint lie their checksums, `about/checksums.N.json`, one file per
process that wrote it: CRC-32 of every piece of every array that lives on that process's
devices (each piece once, however many devices have it), and, of process 0, of the other
files. Computed from host copies before a save returns, so that a fault on the way to the
disk shows as well.
"""

from __future__ import annotations

import json
import os
import pathlib
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from seqjax.config import ConfigError

ABOUT = "about"
Tree = Any
"""Pytree of arrays, or of what has their shapes."""
Pieces = list[tuple[list[list[int]], int]]
"""[start, stop] along each axis, and the CRC-32 of the values there."""


class NotFiniteError(ConfigError):
    """Weights that are not numbers; the message names them."""


def file_name(process: int) -> str:
    """Where the checksums of one process are, in `about/`."""
    return f"checksums.{process}.json"


# ---- written ----


def of_arrays(parts: Mapping[str, Any]) -> dict[str, dict[str, Pieces]]:
    """Checksums of the pieces of every array that this process is the first to hold.

    Args:
      parts: name (`params`, `state`) -> pytree of arrays.
    """
    tasks = [(part, name_of(path), where, data)
             for part, tree in parts.items()
             for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
             for where, data in _pieces(leaf)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        sums = list(pool.map(lambda task: crc(np.asarray(task[3])), tasks))
    found: dict[str, dict[str, Pieces]] = {part: {} for part in parts}
    for (part, name, where, _), value in zip(tasks, sums, strict=True):
        found[part].setdefault(name, []).append((where, value))
    return found


def _pieces(leaf: Any) -> Iterable[tuple[list[list[int]], Any]]:
    if not isinstance(leaf, jax.Array):
        array = np.asarray(leaf)
        return [([[0, n] for n in array.shape], array)]
    return [
        ([[*s.indices(n)[:2]] for s, n in zip(shard.index, leaf.shape, strict=True)], shard.data)
        for shard in leaf.addressable_shards if shard.replica_id == 0
    ]


def to_json(arrays: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    """The content of a checksum file, which says whether it is whole itself."""
    body = {"arrays": arrays, "files": {name: zlib.crc32(data) for name, data in files.items()}}
    text = json.dumps(body, sort_keys=True)
    return json.dumps({"crc32": body, "own": zlib.crc32(text.encode())}).encode()


def crc(array: np.ndarray) -> int:
    """CRC-32 of an array's bytes in row-major order (about 0.7 s per GiB and core)."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return zlib.crc32(flat.view(np.uint8).data) if flat.size else 0


def name_of(path: Any) -> str:
    """`decoder.layers.fc1.kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


# ---- read ----


class Checksums:
    """What a checkpoint folder says of its arrays and files.

    Args:
      folder: the checkpoint.
      processes: how many checksum files there must be (0: it was written before there
        were any, and everything is taken as it is).

    Raises:
      ValueError: one of them is missing or damaged itself.
    """

    def __init__(self, folder: pathlib.Path, *, processes: int):
        self.files: dict[str, int] = {}
        self._arrays: dict[str, dict[str, Pieces]] = {}
        for process in range(processes):
            for part, arrays in self._read(folder / ABOUT / file_name(process)).items():
                mine = self._arrays.setdefault(part, {})
                for name, pieces in arrays.items():
                    mine.setdefault(name, []).extend(pieces)

    def _read(self, file: pathlib.Path) -> dict[str, dict[str, Pieces]]:
        body: dict[str, Any] | None = None
        try:
            found = json.loads(file.read_bytes())
            if zlib.crc32(json.dumps(found["crc32"], sort_keys=True).encode()) == found["own"]:
                body = found["crc32"]
        except FileNotFoundError:
            raise ValueError(f"{ABOUT}/{file.name} is missing") from None
        except (ValueError, KeyError, TypeError):
            pass  # said below
        if body is None:
            raise ValueError(f"{ABOUT}/{file.name} is not what was written")
        self.files |= body["files"]
        return body["arrays"]

    def wrong_files(self, contents: Mapping[str, bytes]) -> list[str]:
        """What is wrong with files of `about/`, by name."""
        wrong = []
        for name, wanted in sorted(self.files.items()):
            if name not in contents:
                wrong.append(f"{ABOUT}/{name} is missing")
            elif zlib.crc32(contents[name]) != wanted:
                wrong.append(f"{ABOUT}/{name} is not what was written")
        return wrong

    def wrong_arrays(self, part: str, tree: Tree) -> list[str]:
        """Names of the arrays of `tree` that are not what was written.

        Pieces that lie on several processes' devices cannot be looked at by one of them and
        are left out; where a run goes on with the mesh it was written with there are none.
        """
        wanted = self._arrays.get(part)
        if wanted is None:
            return []
        leaves = [(name_of(path), x) for path, x in jax.tree_util.tree_leaves_with_path(tree)]

        def right(item: tuple[str, Any]) -> bool:
            name, leaf = item
            return name in wanted and all(
                crc(data) == value for where, value in wanted[name]
                if (data := _values(leaf, where)) is not None)

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            good = list(pool.map(right, leaves))
        return [name for (name, _), ok in zip(leaves, good, strict=True) if not ok]


def _values(leaf: Any, where: list[list[int]]) -> np.ndarray | None:
    """The values of one piece, or None if this process has not all of them."""
    wanted = tuple(slice(*bounds) for bounds in where)
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
        return np.asarray(leaf)[wanted]
    for shard in leaf.addressable_shards:
        bounds = [s.indices(n)[:2] for s, n in zip(shard.index, leaf.shape, strict=True)]
        if all(a <= c and d <= b for (a, b), (c, d) in zip(bounds, where, strict=True)):
            inside = [slice(c - a, d - a) for (a, _), (c, d) in zip(bounds, where, strict=True)]
            return np.asarray(shard.data)[tuple(inside)]
    return None


def check_finite(params: Tree, where: str) -> None:
    """Refuses weights that are NaN or infinite.

    Args:
      params: a pytree of arrays of numbers.
      where: what they are the weights of.

    Raises:
      NotFiniteError: naming the first few of them.
    """
    lines = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.asarray(leaf)
        if array.dtype.kind in "iub" or not array.size or _all_finite(array):
            continue
        count = int((~np.isfinite(array.astype(np.float32))).sum())
        lines.append(f"{name_of(path)} has {count:,} non-finite value{'s' if count > 1 else ''}")
    if lines:
        more = f", and {len(lines) - 4} more weights" if len(lines) > 4 else ""
        raise NotFiniteError(
            f"{where}: {', '.join(lines[:4])}{more}: it cannot compute anything; use another "
            "checkpoint (--no-verify, verify=False: load it all the same)")


def _all_finite(array: np.ndarray) -> bool:
    """Without an array of as many answers: the extremes of an array with a NaN are NaN."""
    with np.errstate(invalid="ignore"):
        return bool(np.isfinite(np.float32(array.min())) and np.isfinite(np.float32(array.max())))
