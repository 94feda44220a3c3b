"""Corpora of speech with texts, as they are published: folders in, utterances of each split out.

    librispeech(root, "train-clean-100")      ROOT/SPLIT/**/*.trans.txt beside ID.flac
    mustc(root, "train", "de")                ROOT/data/SPLIT/{wav/, txt/SPLIT.yaml, .en, .de}
    listed(root, "train", "wrd")              ROOT/SPLIT.tsv (preprocess audio), SPLIT.wrd

Sound is not read here.
"""

from __future__ import annotations

import dataclasses
import glob
import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

import yaml

from seqjax.data.audio.manifests import AudioManifest
from seqjax.data.sources import SourceError, iterate_lines, require_file

LIBRISPEECH = ("train-clean-100", "train-clean-360", "train-other-500", "dev-clean", "dev-other",
               "test-clean", "test-other")
MUSTC = ("train", "dev", "tst-COMMON", "tst-HE")
_NUMBERS = ("offset", "duration")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Utterance:
    """A recording, or a part of one, and what is said in it."""

    id: str
    """Of no other one of its split."""
    path: str
    """The file that it is in."""
    text: str
    """The target: a transcript, or its translation."""
    place: str
    """Where it is written down, for errors."""
    seconds: tuple[float, float] | None = None
    """Where it begins in the file, and how long it is; None: it is all of it."""
    speaker: str = ""


def librispeech(root: str, split: str) -> list[Utterance]:
    """Utterances of a split of LibriSpeech.

    Raises:
      SourceError: no transcripts, a line without a text, an utterance that comes twice; names the
        file and the line.
    """
    folder = os.path.join(root, split)
    files = sorted(glob.glob(os.path.join(glob.escape(folder), "**", "*.trans.txt"),
                             recursive=True))
    if not files:
        raise SourceError(f"{folder}: no *.trans.txt below it; LibriSpeech's splits are "
                          f"{', '.join(LIBRISPEECH)}")
    found = []
    for file in files:
        for number, line in enumerate(iterate_lines([file]), 1):
            name, _, text = line.strip().partition(" ")
            if not text:
                raise SourceError(f"{file}: line {number} is {line!r}; expected an utterance's "
                                  "name and its text")
            found.append(Utterance(
                id=name, path=os.path.join(os.path.dirname(file), f"{name}.flac"), text=text,
                place=f"{file}: line {number}", speaker=name.partition("-")[0]))
    return _distinct(found)


def mustc(root: str, split: str, lang: str) -> list[Utterance]:
    """Segments of the talks of a split of MuST-C, with lines of one language (`en`: transcripts).
    Those of a talk are numbered in the order of their lines.

    Args:
      root: the folder of a pair, `en-de`.

    Raises:
      FileNotFoundError: a file is missing.
      SourceError: files of different lengths, a segment without its keys; names it.
    """
    folder = os.path.join(root, "data", split)
    path, lines_path = (os.path.join(folder, "txt", f"{split}.{end}") for end in ("yaml", lang))
    require_file(path)
    require_file(lines_path)
    with open(path, encoding="utf-8") as file:
        try:
            segments = yaml.load(file, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
        except yaml.YAMLError as error:
            raise SourceError(f"{path}: {' '.join(str(error).split())}") from None
    lines = list(iterate_lines([lines_path]))
    if not isinstance(segments, list) or len(segments) != len(lines):
        count = len(segments) if isinstance(segments, list) else 0
        raise SourceError(f"{path} has {count} segments, {lines_path} {len(lines)} lines: they "
                          "must match line by line")
    numbers: Counter[str] = Counter()
    found = []
    for number, (segment, text) in enumerate(zip(segments, lines, strict=True), 1):
        begin, length = _span(segment, f"{path}: segment {number}")
        talk = os.path.splitext(segment["wav"])[0]
        found.append(Utterance(
            id=f"{talk}_{numbers[talk]}", path=os.path.join(folder, "wav", segment["wav"]),
            text=text.strip(), place=f"{path}: segment {number}", seconds=(begin, length),
            speaker=str(segment.get("speaker_id", ""))))
        numbers[talk] += 1
    return _distinct(found)


def _span(segment: Any, place: str) -> tuple[float, float]:
    """Beginning and length in seconds."""
    keys = ("wav", *_NUMBERS)
    missing = [k for k in keys if not isinstance(segment, dict) or not segment.get(k)]
    if missing:
        raise SourceError(f"{place} has no {', '.join(missing)}")
    try:
        begin, length = (float(segment[k]) for k in _NUMBERS)
    except ValueError:
        begin = length = -1.0
    if not (begin >= 0 and 0 < length < float("inf")):
        raise SourceError(f"{place}: offset is {segment['offset']!r} and duration "
                          f"{segment['duration']!r}; expected seconds")
    return begin, length


def listed(root: str, split: str, kind: str) -> list[Utterance]:
    """Recordings of a manifest, `SPLIT.tsv`, and the lines of `SPLIT.KIND`.

    Raises:
      FileNotFoundError: one of the files is missing.
      SourceError: they have different lengths; a recording that comes twice.
    """
    manifest = AudioManifest.read(os.path.join(root, f"{split}.tsv"))
    path = os.path.join(root, f"{split}.{kind}")
    require_file(path)
    lines = list(iterate_lines([path]))
    if len(lines) != len(manifest):
        raise SourceError(f"{manifest.path} has {len(manifest)} recordings, {path} {len(lines)} "
                          "lines: they must match line by line")
    return _distinct(Utterance(
        id=os.path.splitext(name)[0].replace(os.sep, "-"), path=manifest.file(i),
        text=lines[i].strip(), place=manifest.place(i)) for i, name in enumerate(manifest.names))


def splits_of(root: str, layout: str) -> list[str]:
    """The splits of a corpus that are there.

    Args:
      layout: `librispeech`, `mustc` or `manifest`.

    Raises:
      SourceError: there are none.
    """
    if not os.path.isdir(root):
        raise SourceError(f"{root}: no such folder")
    if layout == "manifest":
        known = sorted(name[:-4] for name in os.listdir(root) if name.endswith(".tsv"))
        wanted = "SPLIT.tsv that preprocess audio made"
    elif layout == "mustc":
        known = [s for s in MUSTC if os.path.isdir(os.path.join(root, "data", s))]
        wanted = f"data/SPLIT, of {', '.join(MUSTC)}"
    else:
        known = [s for s in LIBRISPEECH if os.path.isdir(os.path.join(root, s))]
        wanted = f"folder of {', '.join(LIBRISPEECH)}"
    if not known:
        raise SourceError(f"{root}: has no {wanted} (--layout {layout}); name others with --splits")
    return known


def _distinct(utterances: Iterable[Utterance]) -> list[Utterance]:
    seen: dict[str, str] = {}
    found = list(utterances)
    for utterance in found:
        first = seen.setdefault(utterance.id, utterance.place)
        if first != utterance.place:
            raise SourceError(f"{utterance.place}: {utterance.id} is in {first} already")
    return found
