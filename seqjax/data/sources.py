"""Raw text: files read line by line, checked before they are used, cut for several workers.

A line is what Python's text mode says it is, as in fairseq: `\\n`, `\\r` and `\\r\\n` end one,
U+2028 and the like do not. Compressed files are unpacked as they are read. Files are read in
pieces: memory does not grow with them.
"""

from __future__ import annotations

import codecs
import dataclasses
import io
import os
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from seqjax.data import compression

_BLOCK = 1 << 20  # bytes read at a time


class SourceError(ValueError):
    """Text that cannot be used; the message names the file, and the line where there is one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Span:
    """A range of bytes of a file, from the start of a line to the end of one."""

    start: int
    end: int


def count_lines(path: str | os.PathLike[str]) -> int:
    """Reads a whole text file and counts its lines.

    Raises:
      FileNotFoundError: there is no such file.
      SourceError: no lines, or a line that is not UTF-8.
      CompressionError: a compressed file that cannot be unpacked.
    """
    path = os.fspath(path)
    require_file(path)
    decoder = io.IncrementalNewlineDecoder(
        codecs.getincrementaldecoder("utf-8")(), translate=True
    )
    lines, last = 0, "\n"
    with compression.open_bytes(path) as file, compression.explained(path):
        while True:
            block = file.read(_BLOCK)
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                raise _not_utf8(path, lines, error) from None
            if text:
                lines += text.count("\n")
                last = text[-1]
            if not block:
                break
    lines += last != "\n"
    if lines == 0:
        raise SourceError(f"{path}: empty file (0 lines)")
    return lines


def _not_utf8(path: str, lines: int, error: UnicodeDecodeError) -> SourceError:
    good = error.object[: error.start].decode("utf-8", errors="ignore")
    line = lines + good.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1
    return SourceError(_broken_line(path, line, _byte(error)))


def _broken_line(name: str, line: int, byte: int) -> str:
    return (f"{name}: line {line} is not UTF-8 (byte 0x{byte:02x}). Convert the file, for instance"
            " with: iconv -f LATIN1 -t UTF-8")


def require_file(path: str) -> None:
    """Raises FileNotFoundError, with the names that are there, unless `path` is a file."""
    if os.path.isfile(path):
        return
    if os.path.isdir(path):
        raise SourceError(f"{path}: is a folder, expected a file")
    folder, name = os.path.split(path)
    if not os.path.isdir(folder or "."):
        raise FileNotFoundError(f"{path}: no such file (there is no folder {folder})")
    start = name.split(".")[0]
    similar = sorted(other for other in os.listdir(folder or ".") if other.startswith(start))
    hint = f" (there is {', '.join(similar[:6])})" if similar else ""
    raise FileNotFoundError(f"{path}: no such file{hint}")


def check_parallel(paths: Sequence[str]) -> int:
    """Counts the lines of files that belong together.

    Raises:
      SourceError: their numbers differ, or one cannot be used (`count_lines`).
    """
    counts = [count_lines(path) for path in paths]
    for path, count in zip(paths, counts, strict=True):
        if count != counts[0]:
            raise SourceError(
                f"{paths[0]} has {counts[0]} lines, but {path} has {count}: line i of one must"
                " be the translation of line i of the other."
            )
    return counts[0]


def split_spans(path: str | os.PathLike[str], *, max_bytes: int, at_least: int) -> list[Span]:
    """Cuts a file at line ends into spans of about equal size.

    Args:
      max_bytes: how long a span may be (a longer line makes a longer span).
      at_least: how many spans to aim for, however short the file.

    A compressed file is one span: it can be read from its start only.
    """
    size = os.path.getsize(path)
    if compression.kind_of(path) is not None:
        return [Span(start=0, end=size)]
    number = max(at_least, -(-size // max_bytes), 1)
    cuts = [0]
    with open(path, "rb") as file:
        for i in range(1, number):
            file.seek(max(size * i // number, cuts[-1]))
            # Only "\n" is looked for: a cut must not part "\r\n".
            file.readline()
            cuts.append(file.tell())
    cuts.append(size)
    pairs = zip(cuts, cuts[1:], strict=False)
    return [Span(start=start, end=end) for start, end in pairs if end > start]


class _SpanReader(io.RawIOBase):
    """The bytes of a span, as a file."""

    def __init__(self, path: str | os.PathLike[str], span: Span):
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (closed in close)
        self._file.seek(span.start)
        self._left = span.end - span.start

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # noqa: ANN001
        view = memoryview(buffer)[: self._left]
        count = self._file.readinto(view) or 0
        self._left -= count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def read_lines(
    path: str | os.PathLike[str], span: Span | None = None
) -> Iterator[list[str]]:
    """The lines of a file, or of a span of it, in lists of about a megabyte.

    Lines end in `\\n` (whatever ended them in the file), the last one perhaps not.
    """
    if compression.kind_of(path) is not None:
        raw = compression.open_bytes(path)
    else:
        whole = Span(start=0, end=os.path.getsize(path))
        raw = io.BufferedReader(_SpanReader(path, span or whole), _BLOCK)
    with io.TextIOWrapper(raw, encoding="utf-8") as file, compression.explained(path):
        while lines := file.readlines(_BLOCK):
            yield lines


def iterate_lines(paths: Sequence[str], *, every: int = 1) -> Iterator[str]:
    """Every `every`-th line of several files, without line ends."""
    number = 0
    for path in paths:
        for lines in read_lines(path):
            yield from (line.rstrip("\n") for line in lines[-number % every :: every])
            number += len(lines)


def split_tsv(path: str, columns: Sequence[int], outputs: Sequence[str]) -> int:
    """Writes columns of a tab-separated file (no header, no quotes) to files of lines.

    Args:
      columns: which ones, from 0.
      outputs: a file for each.

    Returns:
      The number of lines.

    Raises:
      SourceError: a line has too few columns, or the file cannot be used (`count_lines`).
    """
    total = count_lines(path)
    files = [open(output, "w", encoding="utf-8", newline="\n") for output in outputs]
    number = 0
    try:
        for lines in read_lines(path):
            for line in lines:
                number += 1
                cells = line.rstrip("\n").split("\t")
                if len(cells) <= max(columns):
                    raise SourceError(
                        f"{path}: line {number} has {len(cells)} columns (tabs separate them),"
                        f" column {max(columns)} is wanted (counted from 0)"
                    )
                for column, file in zip(columns, files, strict=True):
                    file.write(cells[column] + "\n")
    finally:
        for file in files:
            file.close()
    return total


def one_line(text: str) -> str:
    """Text of any source as one line: line ends become spaces."""
    return text.replace("\r\n", " ").replace("\n", " ").replace("\r", " ")


STDIN = "-"
"""The path that means stdin."""
_INVISIBLE = ("Cc", "Cf", "Zs", "Zl", "Zp")
"""Unicode's categories of white space, control and format characters."""


def read_text(path: str) -> list[str]:
    """All lines of a file or, as `-`, of stdin, without line ends.

    Raises:
      FileNotFoundError: there is no such file.
      SourceError: no lines, or a line that is not UTF-8.
    """
    if path == STDIN:
        found = list(stream_lines(stdin_bytes(), name="stdin"))
    else:
        count_lines(path)  # finds what is wrong with it
        found = list(iterate_lines([path]))
    if not found:
        raise SourceError("stdin: empty (0 lines)")
    return found


def stdin_bytes() -> Any:
    """stdin as a stream of bytes: its text would follow the locale, and would end lines by
    other rules than files do."""
    if hasattr(sys.stdin, "buffer"):
        return sys.stdin.buffer
    return io.BytesIO(sys.stdin.read().encode("utf-8"))  # replaced by text, as in notebooks


def stream_lines(file: Any, *, name: str) -> Iterator[str]:
    """The lines of a binary stream without line ends, each as soon as its end is there; the
    same lines that `read_lines` finds in a file.

    Raises:
      SourceError: a line that is not UTF-8, after the lines before it.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    # What is there, without waiting for a whole block.
    read = file.read1 if hasattr(file, "read1") else file.read
    pending, number, after_return = "", 0, False
    while True:
        block, broken = read(_BLOCK), None
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            text, broken = error.object[: error.start].decode("utf-8"), error
        if after_return and text.startswith("\n"):
            text, after_return = text[1:], False  # of a "\r\n" that came in two pieces
        after_return = text.endswith("\r") or (after_return and not text)
        first, *more = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        pending += first
        for following in more:
            yield pending
            pending, number = following, number + 1
        if broken is not None:
            raise SourceError(_broken_line(name, number + 1, _byte(broken)))
        if not block:
            break
    if pending:
        yield pending


def _byte(error: UnicodeDecodeError) -> int:
    """The byte that could not be decoded."""
    return error.object[error.start]


def is_blank(line: str) -> bool:
    """Whether nothing of a line can be seen: no characters but white space, control and
    format characters (a byte-order mark, zero-width spaces and joiners)."""
    return not line.strip() or all(unicodedata.category(c) in _INVISIBLE for c in line)
