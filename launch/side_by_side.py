"""Shows sources, translations and references in three columns.

    python launch/side_by_side.py SOURCE TRANSLATION REFERENCE [ROWS]
"""

from __future__ import annotations

import pathlib
import sys


def main() -> None:
    columns = [pathlib.Path(p).read_text(encoding="utf-8").splitlines() for p in sys.argv[1:4]]
    rows = int(sys.argv[4]) if len(sys.argv) > 4 else 15
    every = max(len(columns[0]) // rows, 1)
    table = [("source", "translation", "reference"), *list(zip(*columns, strict=True))[::every]]
    table = table[: rows + 1]
    widths = [min(max(len(row[i]) for row in table), 44) for i in range(3)]
    for number, row in enumerate(table):
        print("  ".join(cell[:44].ljust(width) for cell, width in zip(row, widths, strict=True)))
        if number == 0:
            print("  ".join("-" * width for width in widths))


if __name__ == "__main__":
    main()
