"""Reading torch's `.pt` files, safely and without torch.

Both formats: the zip archive (torch since 1.6) and the older stream of pickles followed by
raw storages. Tensors are read-only numpy views of the memory-mapped file, so that nothing
is read from disk before it is used. Nothing in the file is ever executed: see
`pickle_machine` and `names`.
"""

from __future__ import annotations

import mmap
import os
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from seqjax.interop.torch.names import DTYPES, STORAGES, Names, Plain, Storage
from seqjax.interop.torch.pickle_machine import (
    Budget,
    CheckpointError,
    CorruptCheckpointError,
    Limits,
    Machine,
    UnsafeCheckpointError,
    brief,
)

__all__ = [
    "CheckpointError", "CorruptCheckpointError", "Limits", "UnsafeCheckpointError",
    "drop_pages", "read_pt",
]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_LEGACY_VERSION = 1001
_NOT_CHECKPOINTS = {
    b"\x1f\x8b": "a gzip archive; unpack it and name the .pt inside",
    b"version https://git-lfs": "a git-lfs pointer, not the file itself; run `git lfs pull`",
    b"<": "text such as an HTML page; the download failed",
    b"\x93NUMPY": "a numpy array",
}
_FREE_RATIO = 64  # compressed members may be this many times larger than stored, unasked


def read_pt(
    path: str | os.PathLike[str], *, plain_modules: Collection[str] = (),
    limits: Limits | None = None,
) -> Any:
    """The contents of a torch checkpoint as plain data.

    Args:
      path: the file, which must not change while its arrays are in use.
      plain_modules: packages, beside fairseq and omegaconf, whose classes may occur; their
        attributes come in as dicts.
      limits: what to refuse as too large.

    Returns:
      dicts, lists, scalars and numpy arrays. Arrays are read-only views of the mapped file
      (bfloat16 as `ml_dtypes.bfloat16`); tensors that share memory in the file share it here.

    Raises:
      FileNotFoundError: no such file.
      CorruptCheckpointError: truncated or inconsistent.
      UnsafeCheckpointError: names something outside the list, or asks for absurd amounts.
    """
    path, limits = pathlib.Path(path), limits or Limits()
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise CorruptCheckpointError("the file is empty")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        names = Names(budget=Budget(limits.expansion), plain_modules=plain_modules)
        head = mapped[:32]
        if head.startswith(b"PK\x03\x04"):
            return _Archive(mapped, limits=limits).load(names)
        if head.startswith(_LEGACY_START):
            return _load_stream(mapped, names=names, limits=limits)
        raise CorruptCheckpointError(_what_is_it(mapped))
    except CheckpointError as error:
        raise type(error)(f"{path}: {error}") from None


def drop_pages(array: np.ndarray) -> None:
    """Lets go of the memory that reading `array`'s file has filled; it is read again from
    the file when used again. Does nothing for arrays that are not memory-mapped."""
    base: Any = array
    while isinstance(base, (np.ndarray, memoryview)):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def _what_is_it(mapped: mmap.mmap) -> str:
    if mapped[257:262] == b"ustar":
        return "a tar archive (or torch before 0.2); unpack it and name the .pt inside"
    for start, what in _NOT_CHECKPOINTS.items():
        if mapped[:len(start)] == start:
            return f"not a torch checkpoint but {what}"
    if len(mapped) < len(_LEGACY_START):
        return "not a torch checkpoint, or truncated"
    return "not a torch checkpoint: neither a zip archive nor the older stream of pickles"


def _storage_type(value: Any) -> np.dtype:
    name = getattr(value, "name", "").rpartition(".")[2]
    if name == "UntypedStorage":
        return np.dtype(np.uint8)
    if name not in STORAGES:
        raise CorruptCheckpointError("a storage's type is not a storage class")
    return DTYPES[STORAGES[name]]


def _storage_id(pid: Any, *, lengths: Sequence[int]) -> tuple[np.dtype, str, int]:
    """(dtype, key, number of values) of a persistent id."""
    if not isinstance(pid, tuple) or not pid or pid[0] != "storage":
        what = brief(pid[0] if isinstance(pid, tuple) and pid else pid)
        raise UnsafeCheckpointError(f"refers to an outside object: {what}")
    if len(pid) not in lengths:
        raise CorruptCheckpointError("a reference to a storage is malformed")
    _, kind, key, _, size = pid[:5]
    if not isinstance(key, str) or type(size) is not int or not 0 <= size < 1 << 48:
        raise CorruptCheckpointError(f"a storage of {brief(size)} values")
    return _storage_type(kind), key, size


# ---- the zip format ----


class _Archive:
    """A zip archive written by torch: `NAME/data.pkl` and `NAME/data/KEY`."""

    def __init__(self, mapped: mmap.mmap, *, limits: Limits):
        self._mapped, self._limits = mapped, limits
        self._budget = Budget(limits.expansion + _FREE_RATIO * len(mapped))
        try:
            with zipfile.ZipFile(_MappedFile(mapped)) as archive:  # type: ignore[arg-type]
                infos = archive.infolist()
        except (zipfile.BadZipFile, struct.error, ValueError, OverflowError, IndexError,
                NotImplementedError, RuntimeError, OSError) as error:
            raise CorruptCheckpointError(
                f"the zip directory cannot be read ({error}); is the file truncated?") from None
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            _check_name(info.filename)
            if info.filename in self._members:
                raise UnsafeCheckpointError(f"archive member {info.filename!r} occurs twice")
            self._members[info.filename] = info
        self._starts = {name: self._start_of(info) for name, info in self._members.items()}
        self._check_overlaps()

    def load(self, names: Names) -> Any:
        pickles = [n for n in self._members if n == "data.pkl" or n.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise CorruptCheckpointError(
                "a zip archive, but not one that torch.save wrote (no data.pkl)")
        prefix = pickles[0].removesuffix("data.pkl")
        if prefix + "constants.pkl" in self._members:
            raise CorruptCheckpointError("a TorchScript archive; a checkpoint is wanted")
        order = b"little"
        if prefix + "byteorder" in self._members:
            order = bytes(self._contents(prefix + "byteorder"))
            if order not in (b"little", b"big"):
                raise CorruptCheckpointError(f"byte order {order[:20]!r}")
        storages: dict[tuple[str, np.dtype], Storage] = {}

        def persistent(pid: Any) -> Storage:
            dtype, key, size = _storage_id(pid, lengths=(5,))
            storage = storages.get((key, dtype))
            if storage is None:
                raw = self._contents(f"{prefix}data/{key}")
                if len(raw) < size * dtype.itemsize:
                    raise CorruptCheckpointError(
                        f"storage {key!r} is said to hold {size:,} values of {dtype} but has"
                        f" {len(raw):,} bytes")
                array = np.frombuffer(raw, dtype, size)
                if order == b"big" and dtype.itemsize > 1:
                    array = array.byteswap()
                storage = storages[key, dtype] = Storage(dtype, size, array)
            elif storage.size != size:
                raise CorruptCheckpointError(f"storage {key!r} is referred to with two sizes")
            return storage

        machine = Machine(
            memoryview(self._contents(pickles[0])), limits=self._limits,
            resolve=names.resolve, persistent=persistent)
        return Plain(self._limits)(machine.run())

    def _start_of(self, info: zipfile.ZipInfo) -> int:
        """Where a member's data begin, from its local header."""
        begin = info.header_offset
        header = self._mapped[begin:begin + 30] if begin >= 0 else b""
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise CorruptCheckpointError(f"archive member {info.filename!r} has no header")
        if info.flag_bits & 0x1:
            raise CorruptCheckpointError(f"archive member {info.filename!r} is encrypted")
        name, extra = struct.unpack("<HH", header[26:30])
        start = begin + 30 + name + extra
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise CorruptCheckpointError(
                f"archive member {info.filename!r}: compression {info.compress_type}")
        if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
            raise CorruptCheckpointError(f"archive member {info.filename!r} has two sizes")
        if start + info.compress_size > len(self._mapped):
            raise CorruptCheckpointError(
                f"archive member {info.filename!r} of {info.compress_size:,} bytes reaches"
                " beyond the end of the file (truncated?)")
        return start

    def _check_overlaps(self) -> None:
        spans = sorted((i.header_offset, self._starts[n] + i.compress_size, n)
                       for n, i in self._members.items())
        for (_, end, name), (begin, _, other) in zip(spans, spans[1:], strict=False):
            if begin < end:
                raise UnsafeCheckpointError(f"archive members {name!r} and {other!r} overlap")

    def _contents(self, name: str) -> memoryview:
        info = self._members.get(name)
        if info is None:
            raise CorruptCheckpointError(f"archive member {name[:200]!r} is missing")
        start = self._starts[name]
        raw = memoryview(self._mapped)[start:start + info.compress_size]
        if info.compress_type == zipfile.ZIP_STORED:
            return raw
        self._budget.charge(info.file_size, f"compressed archive member {name!r}")
        return memoryview(_inflate(raw, size=info.file_size, crc=info.CRC, name=name))


def _check_name(name: str) -> None:
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or any(c in name for c in "\\:\0"):
        raise UnsafeCheckpointError(f"archive member {name[:200]!r} points outside the archive")


def _inflate(raw: memoryview, *, size: int, crc: int, name: str) -> bytes:
    engine = zlib.decompressobj(-15)
    try:
        data = engine.decompress(raw, size + 1)
    except zlib.error as error:
        raise CorruptCheckpointError(f"archive member {name!r}: {error}") from None
    if len(data) != size or not engine.eof:
        raise UnsafeCheckpointError(
            f"archive member {name!r} is said to hold {size:,} bytes but does not")
    if zlib.crc32(data) != crc:
        raise CorruptCheckpointError(f"archive member {name!r} has a wrong checksum")
    return data


class _MappedFile:
    """The little of a file object that `zipfile` needs, over a map that it must not close."""

    def __init__(self, mapped: mmap.mmap):
        self._mapped, self._at = mapped, 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        at = offset + (0, self._at, len(self._mapped))[whence]
        if at < 0:
            raise OSError("seek before the start")
        self._at = at
        return at

    def read(self, size: int = -1) -> bytes:
        end = len(self._mapped) if size < 0 else self._at + size
        data = self._mapped[self._at:end]
        self._at += len(data)
        return data

    def close(self) -> None:
        """The map lives on in the arrays."""


# ---- the older format ----


def _load_stream(mapped: mmap.mmap, *, names: Names, limits: Limits) -> Any:
    """Magic number, version, system information, the object, storage keys, then per storage an
    int64 count and its values. Always little-endian."""
    data = memoryview(mapped)
    roots: dict[str, Storage] = {}
    views: list[tuple[Storage, str, int]] = []

    def persistent(pid: Any) -> Storage:
        dtype, key, size = _storage_id(pid, lengths=(5, 6))
        root = roots.setdefault(key, Storage(dtype, size))
        if (root.dtype, root.size) != (dtype, size):
            raise CorruptCheckpointError(f"storage {key!r} is referred to with two sizes")
        if len(pid) == 5 or pid[5] is None:
            return root
        view = Storage(dtype, _view_size(pid[5], size))
        views.append((view, key, pid[5][1]))
        return view

    def nothing(pid: Any) -> Any:
        raise CorruptCheckpointError("a storage in the file's header")

    position = 0

    def value(find: Any) -> Any:
        nonlocal position
        machine = Machine(data, start=position, limits=limits, resolve=names.resolve,
                          persistent=find)
        result = machine.run()
        position = machine.position
        return result

    if value(nothing) != _LEGACY_MAGIC or value(nothing) != _LEGACY_VERSION:
        raise CorruptCheckpointError("an unknown version of torch's older format")
    value(nothing)  # sizes of C types on the writing machine: of no use to anybody
    result = value(persistent)
    keys = value(nothing)
    if not isinstance(keys, list) or not all(isinstance(k, str) for k in keys) or (
            len(set(keys)) != len(keys)):
        raise CorruptCheckpointError("the list of storages is malformed")
    for key in keys:
        if key not in roots:
            raise CorruptCheckpointError(f"storage {brief(key)} belongs to no tensor")
        position = _fill(roots[key], mapped, position=position, key=key)
    missing = [k for k, s in roots.items() if s.array is None]
    if missing:
        raise CorruptCheckpointError(f"storage {missing[0]!r} is not in the file")
    for view, key, offset in views:
        root = roots[key].array
        assert root is not None
        view.array = root[offset:offset + view.size]
    return Plain(limits)(result)


def _view_size(view: Any, size: int) -> int:
    ok = isinstance(view, tuple) and len(view) == 3 and all(
        type(n) is int and n >= 0 for n in view[1:])
    if not ok or view[1] + view[2] > size:
        raise CorruptCheckpointError(f"a view does not lie within its storage of {size:,} values")
    return view[2]


def _fill(storage: Storage, mapped: mmap.mmap, *, position: int, key: str) -> int:
    """Maps a storage's values; returns the position behind them."""
    header = mapped[position:position + 8]
    if len(header) < 8:
        raise CorruptCheckpointError(f"storage {key!r} is missing (truncated file?)")
    (count,) = struct.unpack("<q", header)
    if count != storage.size:
        raise CorruptCheckpointError(
            f"storage {key!r} is said to hold {storage.size:,} values but has {count:,}")
    begin, end = position + 8, position + 8 + count * storage.dtype.itemsize
    if end > len(mapped):
        raise CorruptCheckpointError(
            f"storage {key!r} of {count:,} values reaches beyond the end of the file"
            " (truncated?)")
    storage.array = np.frombuffer(mapped, storage.dtype, count, begin)
    return end
