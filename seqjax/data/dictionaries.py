"""Whether two dictionaries are the same, symbol by symbol, and which rows of one are the other's.

Weights tell words by their row alone, so whoever brings weights and data
together compares the dictionaries of both with this: symbols go in, a difference in words or
a row for each row comes out.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from seqjax.data.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Dictionary:
    """One of a task's dictionaries."""

    side: str
    """`source` or `target`."""
    name: str
    """Its file's name: `dict.de.txt`."""
    vocabulary: Vocabulary
    size: int | None = None
    """Entries that have rows of their own where not all of them have (None: all)."""

    @property
    def symbols(self) -> list[str]:
        """Symbol of each row."""
        return self.vocabulary.symbols[: self.size]


def digest(vocabulary: Vocabulary) -> str:
    """Names the symbols of a dictionary and their order; counts do not matter."""
    text = "\n".join(vocabulary.symbols)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def first_difference(
    there: Sequence[str], here: Sequence[str], *, names: tuple[str, str] = ("there", "here"),
) -> str | None:
    """What is other in a dictionary `here` than `there`, or None: the first id of another
    symbol, and how many entries both have.

    Args:
      there, here: the symbol of each id.
      names: what the two are called.
    """
    for index, (a, b) in enumerate(zip(there, here, strict=False)):
        if a != b:
            what = f"id {index} is {a!r} {names[0]} and {b!r} {names[1]}"
            break
    else:
        if len(there) == len(here):
            return None
        shorter = min(len(there), len(here))
        longer, where = (there, names[0]) if len(there) > len(here) else (here, names[1])
        what = f"id {shorter}, {longer[shorter]!r}, is {where} only"
    return f"{what} ({len(there):,} entries {names[0]}, {len(here):,} {names[1]})"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Matching:
    """Which row of an old dictionary each row of a new one is."""

    rows: np.ndarray
    """[entries of the new one] int64: ids in the old one, -1 for symbols it has not."""
    dropped: int
    """Entries of the old one that the new one has not."""

    @property
    def copied(self) -> int:
        """Entries that both have."""
        return int((self.rows >= 0).sum())

    def describe(self, name: str) -> str:
        """One line for people."""
        total = len(self.rows)
        return (f"{self.copied:,} of {total:,} rows of {name} copied by symbol, "
                f"{total - self.copied:,} new, {self.dropped:,} of the old ones dropped")


def match(there: Sequence[str], here: Sequence[str]) -> Matching:
    """Rows of `here` in `there`, by symbol.

    A symbol that stands in a dictionary more than once means its last entry; earlier ones
    match earlier ones, counted from the end.
    """
    ids = {key: index for key, index in _occurrences(there)}
    rows = np.full(len(here), -1, np.int64)
    for key, index in _occurrences(here):
        rows[index] = ids.get(key, -1)
    return Matching(rows=rows, dropped=len(there) - int((rows >= 0).sum()))


def _occurrences(symbols: Sequence[str]) -> list[tuple[tuple[str, int], int]]:
    """(symbol, how many of its kind come after it) and the id of each."""
    after: Counter[str] = Counter()
    found = []
    for index in range(len(symbols) - 1, -1, -1):
        symbol = symbols[index]
        found.append(((symbol, after[symbol]), index))
        after[symbol] += 1
    return found
