"""A folder of recordings becomes manifests and labels: `train.tsv`, `train.ltr`, `dict.ltr.txt`.

Folders and transcripts in, files in fairseq's formats out. As its `wav2vec_manifest.py` does, each
recording is drawn for training or validation by a random number of its own; here they are taken in
the order of their names, so that a folder gives the same lists everywhere.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np

from seqjax.data import whole_files
from seqjax.data.audio.manifests import AudioManifest
from seqjax.data.audio.reading import AudioError, Head, in_parallel, read_head
from seqjax.data.sources import SourceError, iterate_lines, require_file
from seqjax.data.vocabulary import Vocabulary

Case = Literal["keep", "lower", "upper"]
Tell = Callable[[int], object]
"""Called with how many more are done."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recording:
    """One file of a folder."""

    name: str
    """Its path, relative to the folder."""
    samples: int
    rate: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """What a folder holds."""

    root: str
    recordings: list[Recording]
    bad: list[AudioError]
    """Why others cannot be used."""


def find_files(root: str, ext: str, *, must_contain: str | None = None) -> list[str]:
    """Absolute paths of all files of a folder and those below that end in `.EXT`, by name.

    Args:
      must_contain: what their whole path must contain.

    Raises:
      SourceError: there is no such folder, or no such file; says which ends there are.
    """
    if not os.path.isdir(root):
        raise SourceError(f"{root}: no such folder")
    root, ext = os.path.realpath(root), ext.lstrip(".")
    pattern = os.path.join(glob.escape(root), "**", f"*.{ext}")
    paths = sorted(os.path.realpath(p) for p in glob.iglob(pattern, recursive=True))
    paths = [p for p in dict.fromkeys(paths) if must_contain is None or must_contain in p]
    if paths:
        return paths
    ends = Counter(os.path.splitext(name)[1] for _, _, names in os.walk(root) for name in names)
    there = ", ".join(f"{n} {end or 'without an end'}" for end, n in ends.most_common(5))
    wanted = f" with {must_contain!r} in its path" if must_contain else ""
    raise SourceError(f"{root}: has no .{ext} file{wanted} (there are: {there or 'no files'}); "
                      "give --ext")


def scan(
    root: str, paths: Sequence[str], *, threads: int, tell: Tell,
) -> Found:
    """Lengths and rates of files, of several at a time; `tell` is called with 1 for each."""
    def head(path: str) -> Head | AudioError:
        try:
            found = read_head(path)
            if not found.rate:
                raise AudioError(f"{path}: an array, no sound")
            return found
        except AudioError as error:
            return error
        finally:
            tell(1)

    root = os.path.realpath(root)
    recordings, bad = [], []
    for path, found in zip(paths, in_parallel(head, paths, threads), strict=True):
        if isinstance(found, AudioError):
            bad.append(found)
        else:
            recordings.append(Recording(name=os.path.relpath(path, root), samples=found.length,
                                        rate=found.rate))
    return Found(root=root, recordings=recordings, bad=bad)


def split(
    recordings: Iterable[Recording], *, valid_percent: float, seed: int
) -> dict[str, list[Recording]]:
    """`train` and, unless `valid_percent` (a share, from 0 to 1) is 0, `valid`."""
    rng = random.Random(seed)
    parts: dict[str, list[Recording]] = {"train": []} | (
        {"valid": []} if valid_percent > 0 else {})
    for recording in recordings:
        parts["train" if rng.random() > valid_percent else "valid"].append(recording)
    return parts


def write_manifest(dest: str, name: str, root: str, recordings: Sequence[Recording]) -> str:
    """`DEST/NAME.tsv`; gives its path."""
    path = os.path.join(dest, f"{name}.tsv")
    AudioManifest(path=path, root=root, names=tuple(r.name for r in recordings),
                  frames=np.array([r.samples for r in recordings], np.int64)).save()
    return path


# ---- transcripts ----


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextForm:
    """How transcripts are written."""

    case: Case = "keep"
    """Of their letters."""
    punctuation: bool = True
    """Keep what is neither letter, digit nor apostrophe; without it, it becomes a space."""

    def __call__(self, text: str) -> str:
        """The words of a line, with single spaces between them."""
        text = unicodedata.normalize("NFC", text)
        if self.case != "keep":
            text = text.lower() if self.case == "lower" else text.upper()
        if not self.punctuation:
            text = re.sub(r"[^\w']|_", " ", text.replace("\u2019", "'"))
        return " ".join(text.split())


def read_transcripts(path: str) -> dict[str, str]:
    """Texts by name, of a file or of every `*.trans.txt` below a folder (as LibriSpeech has them).

    A line is a name (a recording's path in its folder, with its end or without, or the last part of
    it alone), white space or a colon and white space, and the text.

    Raises:
      SourceError: a line without a name or text, a name that comes twice, no files; names the line.
    """
    if os.path.isdir(path):
        files = sorted(glob.glob(os.path.join(glob.escape(path), "**", "*.trans.txt"),
                                 recursive=True))
        if not files:
            raise SourceError(f"{path}: no *.trans.txt below it")
    else:
        require_file(path)
        files = [path]
    found: dict[str, str] = {}
    for file in files:
        for number, line in enumerate(iterate_lines([file]), 1):
            if not line.strip():
                continue
            name, _, text = line.strip().partition("\t") if "\t" in line else (
                (*line.split(None, 1), "")[0], "", (*line.split(None, 1), "")[1])
            name = name.strip().removesuffix(":")
            if not name or not text.strip():
                raise SourceError(f"{file}: line {number} is {line!r}; expected a recording's name "
                                  "and its text")
            if found.setdefault(name, text) != text:
                raise SourceError(f"{file}: line {number}: {name} has another text already")
    return found


def text_of(recording: Recording, transcripts: dict[str, str]) -> str | None:
    """The text of a recording, by its path, its path without the end, or the last part of that."""
    stem = os.path.splitext(recording.name)[0]
    for name in (recording.name, stem, os.path.basename(stem)):
        if name in transcripts:
            return transcripts[name]
    return None


def letters(text: str) -> str:
    """`to be` -> `t o | b e |`, as wav2vec's `libri_labels.py` writes them."""
    return " ".join(text.replace(" ", "|")) + " |"


def write_labels(
    dest: str, texts: dict[str, list[str]], *, keep: bool = False
) -> tuple[list[str], list[str]]:
    """`.wrd` and `.ltr` of each split's texts, and the dictionaries of the first split.

    Args:
      keep: dictionaries that are there already stay as they are.

    Returns:
      What was written, and letters of the texts that a dictionary that was kept has not.

    Raises:
      SourceError: a text with a character that stands between words in `.ltr`.
    """
    for name, lines in texts.items():
        for number, line in enumerate(lines, 1):
            if "|" in line:
                raise SourceError(f"transcript {number} of {name}: {line!r} contains '|', which "
                                  "stands between words: take it out (--no-punctuation)")
    written, unknown = [], []
    first = next(iter(texts.values()))
    for kind, form in (("wrd", str), ("ltr", letters)):
        for name, lines in texts.items():
            written.append(_write(os.path.join(dest, f"{name}.{kind}"),
                                  "".join(f"{form(line)}\n" for line in lines)))
        counts = Counter(word for line in first for word in form(line).split())
        path = os.path.join(dest, f"dict.{kind}.txt")
        if keep and os.path.isfile(path):
            known = Vocabulary.load(path)
            unknown += [w for w in sorted(counts) if w not in known] if kind == "ltr" else []
            continue
        vocabulary = Vocabulary()
        vocabulary.add_counts(counts)
        vocabulary.finalize(padding_factor=1)
        written.append(_write(path, vocabulary.to_text()))
    return written, unknown


def _write(path: str, text: str) -> str:
    whole_files.write(path, text.encode("utf-8"))
    return path
