"""Compressed files of text: a path goes in, its unpacked bytes come out.

What a file is compressed with is told by its first bytes, not by its name. gzip, bzip2 and xz
are unpacked as they are read; of others the error names the command that unpacks them.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

_OPENERS: dict[bytes, tuple[str, Callable[..., Any]]] = {
    b"\x1f\x8b": ("gzip", gzip.open),
    b"BZh": ("bzip2", bz2.open),
    b"\xfd7zXZ\x00": ("xz", lzma.open),
}
_OTHERS = {
    b"\x28\xb5\x2f\xfd": "zstd -d",
    b"\x04\x22\x4d\x18": "lz4 -d",
    b"PK\x03\x04": "unzip",
    b"7z\xbc\xaf\x27\x1c": "7z x",
}
SUFFIXES = (".gz", ".bz2", ".xz")
"""Usual ends of the names of files that are unpacked here."""


class CompressionError(ValueError):
    """A compressed file that cannot be read; the message names it and says what to do."""


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """`gzip`, `bzip2` or `xz`; None for a file that is none of them.

    Raises:
      CompressionError: it is compressed in a way that is not read here.
    """
    with open(path, "rb") as file:
        head = file.read(8)
    for start, (kind, _) in _OPENERS.items():
        if head.startswith(start):
            return kind
    for start, command in _OTHERS.items():
        if head.startswith(start):
            raise CompressionError(f"{os.fspath(path)}: a compressed file that is not read here;"
                                   f" unpack it first: {command} {os.fspath(path)}")
    return None


def open_bytes(path: str | os.PathLike[str]) -> IO[bytes]:
    """The bytes of a file, unpacked where it is compressed.

    Raises:
      CompressionError: as `kind_of`.
    """
    kind = kind_of(path)
    for name, opener in _OPENERS.values():
        if name == kind:
            return opener(path, "rb")
    return open(path, "rb")


@contextlib.contextmanager
def explained(path: str | os.PathLike[str]) -> Iterator[None]:
    """Errors of unpacking become a `CompressionError` that names the file."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise CompressionError(f"{os.fspath(path)}: the compressed file is damaged or cut off"
                               f" ({error})") from None
    except OSError as error:
        if error.errno is None:  # bz2's
            raise CompressionError(f"{os.fspath(path)}: the compressed file is damaged"
                                   f" ({error})") from None
        raise
