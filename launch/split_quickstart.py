"""Splits the embedded English-German corpus into plain text files for the demo.

    python launch/split_quickstart.py FOLDER

writes train, valid and test in `.en` and `.de`. The split is fixed: shuffle with
`random.Random(5)`; the first 300 pairs are the test set, pairs that share a source or a
target with them are dropped, the next 200 are the validation set, the rest is for training.
"""

from __future__ import annotations

import pathlib
import random
import sys

CORPUS = (
    pathlib.Path(__file__).resolve().parent.parent / "configs/quickstart/ha_medium.en-de.tsv"
)


def split(pairs: list[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """Split name -> its pairs."""
    pairs = list(pairs)
    random.Random(5).shuffle(pairs)
    test, rest = pairs[:300], pairs[300:]
    sources, targets = {s for s, _ in test}, {t for _, t in test}
    rest = [(s, t) for s, t in rest if s not in sources and t not in targets]
    return {"test": test, "valid": rest[:200], "train": rest[200:]}


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    lines = CORPUS.read_text(encoding="utf-8").splitlines()
    pairs = [(en, de) for en, _, de in (line.partition("\t") for line in lines)]
    for name, rows in split(pairs).items():
        for lang, column in (("en", 0), ("de", 1)):
            text = "".join(row[column] + "\n" for row in rows)
            (folder / f"{name}.{lang}").write_text(text, encoding="utf-8")
    print(f"{folder}: " + ", ".join(f"{n} {len(r)}" for n, r in split(pairs).items()))


if __name__ == "__main__":
    main()
