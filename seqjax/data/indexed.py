"""The token store: fairseq's memory-mapped `.bin` and `.idx` files, read and written.

A store is a sequence of token arrays. `PREFIX.bin` holds the tokens of all of them one
after the other, `PREFIX.idx` their lengths and where they start:

    9 bytes   magic `MMIDIDX`, NUL, NUL
    uint64    version, 1
    uint8     code of the tokens' type (`DTYPES`)
    uint64    N, the number of arrays
    N int32   lengths in tokens
    N int64   starts in bytes

all little-endian. Nothing is read ahead: memory stays flat whatever the corpus. The legacy
`TNTIDX` format is read too (into memory).
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import struct
from types import TracebackType

import numpy as np

MAGIC = b"MMIDIDX\x00\x00"
LEGACY_MAGIC = b"TNTIDX\x00\x00"
VERSION = 1
HEADER_BYTES = len(MAGIC) + 8 + 1 + 8

# Code 6 was float32 in some old versions of fairseq and float64 in others: the size of the
# .bin file tells which (`_resolve_dtype`).
DTYPES: dict[int, np.dtype] = {
    1: np.dtype("u1"),
    2: np.dtype("i1"),
    3: np.dtype("<i2"),
    4: np.dtype("<i4"),
    5: np.dtype("<i8"),
    6: np.dtype("<f8"),
    7: np.dtype("<f8"),
    8: np.dtype("<u2"),
    9: np.dtype("<u4"),
    10: np.dtype("<u8"),
}
_CHUNK = 1 << 18  # array lengths that are handled at a time when an .idx is written


class IndexedDatasetError(ValueError):
    """A store that is damaged or of another format; the message names the file."""


def dtype_for(vocab_size: int | None) -> np.dtype:
    """The type that fairseq writes tokens of a vocabulary in."""
    if vocab_size is None:
        return np.dtype("<u4")
    if vocab_size < 65500:
        return np.dtype("<u2")
    return np.dtype("<u4") if vocab_size < 2**32 - 1 else np.dtype("<i8")


def exists(prefix: str | os.PathLike[str]) -> bool:
    """Whether there are both a `.bin` and an `.idx`."""
    return all(os.path.isfile(f"{os.fspath(prefix)}.{end}") for end in ("bin", "idx"))


class IndexedDataset:
    """Read access to one store.

    `dataset[i]` copies one array out as int64 [length]. For many at once:

        tokens = dataset.tokens          # all of them, flat, memory-mapped
        starts = dataset.starts(rows)    # int64, where rows begin in `tokens`
        lengths = dataset.lengths[rows]

    Attributes:
      lengths: int32 [N], in tokens.
      tokens: flat tokens in the type they are stored in, not to be written to.
      dtype: that type.

    Raises:
      FileNotFoundError: the `.bin`, the `.idx` or both are missing.
      IndexedDatasetError: wrong magic or version, or sizes that do not agree.
    """

    def __init__(self, path_prefix: str | os.PathLike[str]):
        self.prefix = os.fspath(path_prefix)
        self._bin, self._idx = f"{self.prefix}.bin", f"{self.prefix}.idx"
        _require_files(self._bin, self._idx)
        with open(self._idx, "rb") as file:
            magic = file.read(len(MAGIC))
        if magic == MAGIC:
            self._open_mmap()
        elif magic[: len(LEGACY_MAGIC)] == LEGACY_MAGIC:
            self._read_legacy()
        else:
            raise IndexedDatasetError(
                f"{self._idx}: not an index of a token store: it starts with {magic!r}, expected"
                f" {MAGIC!r} or {LEGACY_MAGIC!r}. Make it with python -m seqjax.preprocess."
            )

    def _open_mmap(self) -> None:
        found = os.path.getsize(self._idx)
        with open(self._idx, "rb") as file:
            header = file.read(HEADER_BYTES)
        if len(header) < HEADER_BYTES:
            raise IndexedDatasetError(
                f"{self._idx}: truncated: {HEADER_BYTES} bytes of header expected, {found} found."
            )
        version, code, count = struct.unpack("<QBQ", header[len(MAGIC) :])
        if version != VERSION:
            raise IndexedDatasetError(f"{self._idx}: version {version}, expected {VERSION}")
        if code not in DTYPES:
            raise IndexedDatasetError(f"{self._idx}: token type {code} is unknown")
        expected = HEADER_BYTES + 12 * count
        if found != expected:
            raise IndexedDatasetError(
                f"{self._idx}: {'truncated' if found < expected else 'too long'}: {expected} bytes"
                f" expected for {count} sentences, {found} found. Copy or make it again."
            )
        # np.memmap keeps the file's pages out of the process: lengths of a billion sentences
        # cost nothing until they are used.
        self.lengths = _map(self._idx, np.dtype("<i4"), HEADER_BYTES, count)
        self._starts = _map(self._idx, np.dtype("<i8"), HEADER_BYTES + 4 * count, count)
        self.dtype = self._resolve_dtype(code)
        self._itemsize = self.dtype.itemsize
        self.tokens = _map(self._bin, self.dtype, 0, self._token_count(self._itemsize))

    def _token_count(self, itemsize: int) -> int:
        if len(self.lengths) == 0:
            return 0
        return int(self._starts[-1]) // itemsize + int(self.lengths[-1])

    def _resolve_dtype(self, code: int) -> np.dtype:
        """The stored type, after a check of the size of the `.bin`."""
        found = os.path.getsize(self._bin)
        choices = [DTYPES[code]] + ([np.dtype("<f4")] if code == 6 else [])
        for dtype in choices:
            if self._token_count(dtype.itemsize) * dtype.itemsize == found:
                return dtype
        expected = self._token_count(choices[0].itemsize) * choices[0].itemsize
        raise IndexedDatasetError(
            f"{self._bin}: {'truncated' if found < expected else 'too long'}: {expected} bytes"
            f" expected for {len(self.lengths)} sentences, {found} found. Copy or make it again."
        )

    def _read_legacy(self) -> None:
        """`TNTIDX`: offsets in elements, tokens stored plus one. Read into memory."""
        with open(self._idx, "rb") as file:
            data = file.read()
        try:
            version, code, itemsize, count, total = struct.unpack_from("<5Q", data, 8)
            arrays = np.frombuffer(data, "<i8", 2 * (count + 1) + total, 48)
        except (struct.error, ValueError):
            raise IndexedDatasetError(
                f"{self._idx}: truncated ({len(data)} bytes). Copy or make it again."
            ) from None
        if version != VERSION or code not in DTYPES:
            raise IndexedDatasetError(f"{self._idx}: version {version}, token type {code}")
        dims, starts, sizes = np.split(arrays, [count + 1, 2 * (count + 1)])
        if count and not (np.diff(dims) == 1).all():
            raise IndexedDatasetError(f"{self._idx}: holds arrays that are not one-dimensional")
        dtype = DTYPES[code] if DTYPES[code].itemsize == itemsize else np.dtype("<f4")
        expected, found = int(starts[-1]) * itemsize, os.path.getsize(self._bin)
        if found != expected:
            raise IndexedDatasetError(
                f"{self._bin}: {expected} bytes expected for {count} sentences, {found} found."
            )
        self.dtype, self._itemsize = dtype, 1
        self.lengths = sizes.astype(np.int32)
        self._starts = starts[:-1]
        self.tokens = np.fromfile(self._bin, dtype) - dtype.type(1)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> np.ndarray:
        """One array, int64 [length]; a copy."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.prefix}: sentence {index} of {len(self)}")
        start = int(self._starts[index]) // self._itemsize
        return np.array(self.tokens[start : start + int(self.lengths[index])], np.int64)

    def starts(self, indices: np.ndarray | slice) -> np.ndarray:
        """Where arrays begin in `tokens`, int64, for the given indices only."""
        return np.asarray(self._starts[indices]) // self._itemsize

    @functools.cached_property
    def offsets(self) -> np.ndarray:
        """Where every array begins in `tokens`, int64 [N] (8 bytes a sentence in memory)."""
        return self.starts(slice(None))

    @property
    def num_tokens(self) -> int:
        """Tokens of all arrays."""
        return len(self.tokens)

    def __repr__(self) -> str:
        return f"IndexedDataset({self.prefix!r}, {len(self)} sentences, {self.num_tokens} tokens)"

    def __reduce__(self) -> tuple[type[IndexedDataset], tuple[str]]:
        return (IndexedDataset, (self.prefix,))  # other processes map the files themselves


def _require_files(bin_path: str, idx_path: str) -> None:
    missing = [path for path in (bin_path, idx_path) if not os.path.isfile(path)]
    if len(missing) == 2:
        raise FileNotFoundError(f"{bin_path[:-4]}: no token store (.bin and .idx) of that name")
    if missing:
        other = idx_path if missing[0] == bin_path else bin_path
        raise FileNotFoundError(f"{missing[0]}: missing, though {other} is there")


def _map(path: str, dtype: np.dtype, offset: int, count: int) -> np.ndarray:
    if count == 0:
        return np.zeros((0,), dtype)  # an empty range cannot be mapped
    return np.memmap(path, dtype, "r", offset=offset, shape=(count,)).view(np.ndarray)


class IndexedWriter:
    """Writes a store, whole or not at all, in constant memory.

    Use it as a context manager: both files appear under their names on a clean exit, and
    nothing is left after an exception.

    Args:
      path_prefix: `PREFIX.bin` and `PREFIX.idx` are written.
      dtype: type of the stored tokens: `dtype_for(len(vocabulary))`.
    """

    def __init__(self, path_prefix: str | os.PathLike[str], *, dtype: np.dtype):
        self.prefix = os.fspath(path_prefix)
        self.dtype = np.dtype(dtype)
        # 7 is never written: 6 and 7 are the same type today.
        self._code = next(code for code, known in DTYPES.items() if known == self.dtype)
        self.num_sentences = self.num_tokens = 0
        tag = f".tmp{os.getpid()}"
        self._parts = {end: f"{self.prefix}.{end}{tag}" for end in ("bin", "idx", "lengths")}
        self._bin = open(self._parts["bin"], "wb")  # noqa: SIM115 (closed in close or discard)
        self._lengths = open(self._parts["lengths"], "wb")  # noqa: SIM115

    def append(self, tokens: np.ndarray) -> None:
        """Adds one array [length]."""
        self.extend(tokens, np.array([len(tokens)], np.int32))

    def extend(self, tokens: np.ndarray, lengths: np.ndarray) -> None:
        """Adds many arrays: their tokens one after the other, and their lengths."""
        if self.dtype.kind in "iu" and len(tokens):
            limits = np.iinfo(self.dtype)
            if int(tokens.min()) < limits.min or int(tokens.max()) > limits.max:
                raise ValueError(f"{self.prefix}: a token does not fit into {self.dtype}")
        self._bin.write(np.ascontiguousarray(tokens, self.dtype).data)
        self._lengths.write(np.ascontiguousarray(lengths, np.dtype("<i4")).data)
        self.num_sentences += len(lengths)
        self.num_tokens += len(tokens)

    def merge(self, path_prefix: str | os.PathLike[str]) -> None:
        """Adds a whole store of the same type (a worker's part)."""
        other = IndexedDataset(path_prefix)
        if other.dtype != self.dtype:
            raise ValueError(f"{other.prefix} holds {other.dtype}, {self.prefix} {self.dtype}")
        with open(f"{other.prefix}.bin", "rb") as file:
            shutil.copyfileobj(file, self._bin, 1 << 20)
        for start in range(0, len(other), _CHUNK):
            self._lengths.write(np.ascontiguousarray(other.lengths[start : start + _CHUNK]).data)
        self.num_sentences += len(other)
        self.num_tokens += other.num_tokens

    def close(self) -> None:
        """Writes the index and gives both files their names."""
        self._bin.close()
        self._lengths.close()
        with open(self._parts["idx"], "wb") as file, open(self._parts["lengths"], "rb") as lengths:
            file.write(MAGIC + struct.pack("<QBQ", VERSION, self._code, self.num_sentences))
            shutil.copyfileobj(lengths, file, 1 << 20)
            lengths.seek(0)
            start = 0
            while chunk := lengths.read(4 * _CHUNK):
                ends = start + np.cumsum(np.frombuffer(chunk, "<i4"), dtype=np.int64)
                starts = np.concatenate([np.array([start], np.int64), ends[:-1]])
                file.write((starts * self.dtype.itemsize).astype("<i8").data)
                start = int(ends[-1])
        os.remove(self._parts["lengths"])
        # The index last: a store counts as there only with both.
        os.replace(self._parts["bin"], f"{self.prefix}.bin")
        os.replace(self._parts["idx"], f"{self.prefix}.idx")

    def discard(self) -> None:
        """Removes what was written so far."""
        for file in (self._bin, self._lengths):
            with contextlib.suppress(OSError):  # a full disk: the rest cannot be written
                file.close()
        for path in self._parts.values():
            if os.path.exists(path):
                os.remove(path)

    def __enter__(self) -> IndexedWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.discard()
            return
        try:
            self.close()
        except BaseException:
            self.discard()
            raise
