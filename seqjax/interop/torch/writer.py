"""Writing `.pt` files that torch (1.6 and later) and fairseq load, without torch.

The zip format with tensors stored as they are, aligned for mapping. Of containers and
scalars alone, `torch.load(weights_only=True)` takes the file; a Namespace in it needs
`weights_only=False`, which is how fairseq loads.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import os
import pathlib
import struct
import zipfile
from typing import Any

import numpy as np

from seqjax.interop.torch.names import DTYPES, STORAGES

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_CLASSES = {name: cls for cls, name in STORAGES.items()}
_ALIGNMENT = 64
_PREFIX = "archive"
_CHUNK = 64 << 20


def write_pt(path: str | os.PathLike[str], tree: Any) -> None:
    """Writes `tree` where `torch.load` finds it again.

    Args:
      path: written whole or not at all; an existing file is replaced.
      tree: dicts, lists, tuples, None, booleans, numbers, text, bytes, Namespaces, and
        numpy or jax arrays, which become tensors. Arrays that are the same memory in the
        same layout become tensors of one storage.

    Raises:
      TypeError: something else is in the tree; the message says where.
    """
    path = pathlib.Path(path)
    encoder = _Encoder()
    stream = b"\x80\x02" + encoder.encode(tree) + b"."
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            _add(archive, "data.pkl", np.frombuffer(stream, np.uint8))
            _add(archive, "byteorder", np.frombuffer(b"little", np.uint8))
            for key, array in enumerate(encoder.storages):
                _add(archive, f"data/{key}", _raw(array))
            _add(archive, "version", np.frombuffer(b"3\n", np.uint8))
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _raw(array: Any) -> np.ndarray:
    """The array's values as little-endian bytes in C order."""
    values = np.ascontiguousarray(np.asarray(array)).reshape(-1)
    if values.dtype.byteorder == ">" or (values.dtype.byteorder == "=" and not np.little_endian):
        values = values.byteswap()
    return values.view(np.uint8)


def _add(archive: zipfile.ZipFile, name: str, data: np.ndarray) -> None:
    info = zipfile.ZipInfo(f"{_PREFIX}/{name}")  # dated 1980: the same tree, the same file
    large = data.nbytes >= 1 << 31
    header = archive.fp.tell() + 30 + len(info.filename) + (20 if large else 0)  # type: ignore
    padding = -(header + 4) % _ALIGNMENT
    info.extra = struct.pack("<HH", 0x4246, padding) + bytes(padding)
    with archive.open(info, "w", force_zip64=large) as member:
        for start in range(0, data.nbytes, _CHUNK):
            member.write(data[start:start + _CHUNK].data)


@dataclasses.dataclass
class _Encoder:
    """Protocol 2 pickle of a tree; tensors are collected as `storages` on the way."""

    storages: list[Any] = dataclasses.field(default_factory=list)
    seen: dict[tuple, int] = dataclasses.field(default_factory=dict)

    def encode(self, value: Any, path: str = "") -> bytes:
        if value is None:
            return b"N"
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, bool):
            return b"\x88" if value else b"\x89"
        if isinstance(value, int):
            return _integer(value)
        if isinstance(value, float):
            return b"G" + struct.pack(">d", value)
        if isinstance(value, str):
            return _text(value)
        if isinstance(value, bytes):
            return _call("_codecs", "encode", _text(value.decode("latin1")), _text("latin1"))
        if isinstance(value, collections.OrderedDict):
            return _call("collections", "OrderedDict") + self._items(value, path)
        if isinstance(value, dict):
            return b"}" + self._items(value, path)
        if isinstance(value, list):
            parts = (self.encode(v, f"{path}[{i}]") for i, v in enumerate(value))
            return b"](" + b"".join(parts) + b"e"
        if isinstance(value, tuple):
            parts = (self.encode(v, f"{path}[{i}]") for i, v in enumerate(value))
            return b"(" + b"".join(parts) + b"t"
        if isinstance(value, argparse.Namespace):
            return b"cargparse\nNamespace\n)\x81" + self.encode(vars(value), path) + b"b"
        if hasattr(value, "dtype") and hasattr(value, "shape"):
            return self._tensor(value, path)
        raise TypeError(f"cannot write a {type(value).__name__} at {path or 'the top'}")

    def _items(self, mapping: dict, path: str) -> bytes:
        parts = []
        for key, value in mapping.items():
            if not isinstance(key, (str, int, float, bool, bytes, tuple, type(None))):
                raise TypeError(f"cannot write a {type(key).__name__} as a key of {path or 'all'}")
            parts += [self.encode(key, path), self.encode(value, f"{path}.{key}".lstrip("."))]
        return b"(" + b"".join(parts) + b"u"

    def _tensor(self, array: Any, path: str) -> bytes:
        dtype = np.dtype(array.dtype).newbyteorder("=")
        name = _NAMES.get(dtype)
        if name is None:
            raise TypeError(f"cannot write an array of {array.dtype} at {path or 'the top'}")
        key = self.seen.setdefault(_identity(array), len(self.storages))
        if key == len(self.storages):
            self.storages.append(array)
        size = int(np.prod(array.shape, dtype=np.int64))
        typed = name in _CLASSES
        kind = ("torch", _CLASSES[name]) if typed else ("torch.storage", "UntypedStorage")
        storage = b"(" + _text("storage") + _global(*kind) + _text(str(key)) + _text(
            "cpu") + _integer(size if typed else size * dtype.itemsize) + b"tQ"
        strides = [1] * len(array.shape)
        for axis in range(len(strides) - 2, -1, -1):
            strides[axis] = strides[axis + 1] * max(array.shape[axis + 1], 1)
        layout = (storage, b"K\x00", self.encode(tuple(map(int, array.shape))),
                  self.encode(tuple(strides)), b"\x89", _call("collections", "OrderedDict"))
        if typed:
            return _call("torch._utils", "_rebuild_tensor_v2", *layout)
        return _call("torch._utils", "_rebuild_tensor_v3", *layout, _global("torch", name))


def _identity(array: Any) -> tuple:
    """Equal for arrays of the same memory in the same layout."""
    if not isinstance(array, np.ndarray):
        return ("object", id(array))
    return (array.__array_interface__["data"][0], array.shape, array.strides, array.dtype,
            id(array) if array.size == 0 else 0)


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _call(module: str, name: str, *arguments: bytes) -> bytes:
    return _global(module, name) + b"(" + b"".join(arguments) + b"tR"


def _text(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def _integer(value: int) -> bytes:
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw
