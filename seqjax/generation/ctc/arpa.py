"""An ARPA file, plain or gzipped, to its n-grams by order.

The format is SRILM's and KenLM's: `\\data\\` with counts, then `\\1-grams:` and so on, lines of
log10 probability, words, and a backoff weight where there is one, then `\\end\\`.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from seqjax.config import ConfigError


class Entry(NamedTuple):
    """One n-gram."""

    words: str
    """Its words, one space between them."""
    log10: float
    backoff: float


class _Lines:
    """Lines of a file and the number of the last one."""

    def __init__(self, path: Path, file: TextIO):
        self.path, self.number, self._file = path, 0, iter(file)

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._file)
        self.number += 1
        return line.rstrip("\r\n")

    def error(self, what: str) -> ConfigError:
        return ConfigError(f"{self.path}:{self.number}: {what}")


def read_arpa(path: str | Path) -> list[list[Entry]]:
    """N-grams of order 1, 2, ...

    Raises:
      ConfigError: the file is not there, is not ARPA, has a line that is none, lacks n-grams
        that it counts or has one twice, or ends before `\\end\\`.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such language model")
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            return _read(_Lines(path, file))
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise ConfigError(
            f"{path}: this is no ARPA text ({error}); a KenLM binary needs the `kenlm` package "
            "and a name that ends in .bin, .binary or .klm") from error


def _read(lines: _Lines) -> list[list[Entry]]:
    counts = _counts(lines)
    orders: list[list[Entry]] = []
    for order, count in enumerate(counts, 1):
        entries = list(_section(lines, order))
        if len(entries) != count:
            raise lines.error(
                f"{len(entries)} {order}-grams end here, but \\data\\ counts {count}; the file is "
                "cut short or was put together by hand")
        seen: set[str] = set()
        for entry in entries:
            if entry.words in seen:
                raise lines.error(f"{entry.words!r} stands twice among the {order}-grams that end "
                                  "here")
            seen.add(entry.words)
        orders.append(entries)
    return orders


def _counts(lines: _Lines) -> list[int]:
    for line in lines:
        if line.strip() == "\\data\\":
            break
    else:
        raise lines.error("there is no \\data\\ line; this is no ARPA file")
    counts: list[int] = []
    for line in lines:
        if line.startswith("ngram "):
            order, _, count = line[6:].partition("=")
            if not (order.strip().isdigit() and count.strip().isdigit()
                    and int(order) == len(counts) + 1):
                raise lines.error(f"expected 'ngram {len(counts) + 1}=COUNT', got {line!r}")
            counts.append(int(count))
        elif line.startswith("\\"):
            if line.strip() != "\\1-grams:" or not counts:
                raise lines.error(f"expected counts and then \\1-grams:, got {line!r}")
            return counts
    raise lines.error("the file ends before \\1-grams:")


def _section(lines: _Lines, order: int) -> Iterator[Entry]:
    for line in lines:
        if not line.strip():
            continue
        if line.startswith("\\") and line.strip() in ("\\end\\", f"\\{order + 1}-grams:"):
            return
        fields = line.split()
        if len(fields) not in (order + 1, order + 2):
            raise lines.error(f"a {order}-gram is a log10 probability, {order} word(s) and perhaps "
                              f"a backoff weight; got {len(fields)} fields")
        try:
            numbers = float(fields[0]), float(fields[order + 1]) if len(fields) > order + 1 else 0.0
        except ValueError:
            raise lines.error(f"no number: {line!r}") from None
        if math.isnan(sum(numbers)) or numbers[0] > 0:
            raise lines.error(f"{fields[0]} is no log10 of a probability")
        yield Entry(" ".join(fields[1:order + 1]), *numbers)
    raise lines.error(f"the file ends inside its {order}-grams, without \\end\\")
