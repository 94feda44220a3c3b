"""A data folder (fairseq's `data-bin`): the names of its files, its manifest, its tokenizers.

    dict.LANG.txt                        words of a language (dict.txt when there is no language)
    vocabulary.LANG.json                 the same where special symbols are not fairseq's
    SPLIT.SRC-TGT.LANG.bin, .idx         sentences; more shards of a split are SPLIT1, SPLIT2, ...
    SPLIT.bin, .idx                      sentences of a folder without languages
    preprocess.json                      the manifest, in folders that seqjax made
    sentencepiece.model, bpecodes.de ... models of the tokenizers that the manifest names

Folders made by fairseq have no manifest: everything works but the way from and to raw text.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from seqjax.data import indexed, tokenizers, whole_files
from seqjax.data.dictionaries import digest
from seqjax.data.vocabulary import Vocabulary, VocabularyError

MANIFEST = "preprocess.json"
# What a model's bytes are called on disk, by the name of its option.
_MODEL_FILES = {
    "model": "sentencepiece{tag}.model", "codes": "bpecodes{tag}",
    "encoder_json": "encoder{tag}.json", "vocab_bpe": "vocab{tag}.bpe",
    "vocab_json": "vocab{tag}.json", "merges": "merges{tag}.txt", "vocab": "vocab{tag}.txt",
    "tokenizer_json": "tokenizer{tag}.json",
}

Path = str | os.PathLike[str]


class FolderError(ValueError):
    """A data folder that lacks something; the message says what is there."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """What `python -m seqjax.preprocess` did."""

    source_lang: str | None
    target_lang: str | None
    """None in a folder of one language."""
    joined_dictionary: bool = False
    tokenizers: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """Per language ("" for none) the tokenizer's options; `load_tokenizers` reads them."""
    splits: Mapping[str, Mapping[str, Mapping[str, Any]]] = dataclasses.field(default_factory=dict)
    """Split (`train`, `valid`, `valid1`, ...) -> language -> file, sentences, tokens, unknown."""
    vocabularies: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Language -> size of its dictionary."""
    dictionaries: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Language -> `digest` of its dictionary."""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The command's options that differ from their defaults."""
    format: int = 1


def load_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder; None if it has none, as those that fairseq made.

    Raises:
      FolderError: the file is damaged or of a later version.
    """
    path = pathlib.Path(folder) / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        state = json.loads(text)
        if state["format"] != 1:
            raise FolderError(f"{path}: format {state['format']}, this version reads format 1")
        known = {field.name for field in dataclasses.fields(Manifest)}
        return Manifest(**{key: value for key, value in state.items() if key in known})
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, FolderError):
            raise
        raise FolderError(f"{path}: damaged ({error}). Run seqjax.preprocess again.") from None


def save_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes `preprocess.json`, whole or not at all."""
    text = json.dumps(dataclasses.asdict(manifest), indent=2, ensure_ascii=False)
    whole_files.write(pathlib.Path(folder) / MANIFEST, f"{text}\n".encode())


def save_tokenizer(folder: Path, tokenizer: tokenizers.Tokenizer, *, tag: str) -> dict[str, Any]:
    """Writes a tokenizer's model files; gives what the manifest says of it.

    Args:
      tag: `.de` makes `sentencepiece.de.model`; empty for a model of all languages.
    """
    spec: dict[str, Any] = {}
    for key, value in tokenizer.to_state().items():
        if isinstance(value, bytes):
            name = _MODEL_FILES[key.rpartition(".")[2]].format(tag=tag)
            (pathlib.Path(folder) / name).write_bytes(value)
            spec[key] = {"file": name}
        else:
            spec[key] = value
    return spec


def load_tokenizers(folder: Path) -> dict[str, tokenizers.Tokenizer]:
    """Tokenizer of each language ("" for none); empty for a folder without a manifest.

    Raises:
      FolderError: a model file that the manifest names is missing.
    """
    manifest = load_manifest(folder)
    if manifest is None:
        return {}
    return {lang: load_tokenizer(folder, spec) for lang, spec in manifest.tokenizers.items()}


def load_tokenizer(folder: Path, spec: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """The tokenizer of what a manifest says of one language (`save_tokenizer`)."""
    state: tokenizers.State = {}
    for key, value in spec.items():
        if not isinstance(value, Mapping):
            state[key] = value
            continue
        path = pathlib.Path(folder) / value["file"]
        try:
            state[key] = path.read_bytes()
        except FileNotFoundError:
            raise FolderError(f"{path}: missing, though {MANIFEST} names it") from None
    return tokenizers.from_state(state)


def find_pair(folder: Path) -> tuple[str, str]:
    """Source and target language, from names such as `train.de-en.de.idx`.

    Raises:
      FileNotFoundError: there is no such folder.
      FolderError: no such files, or several pairs.
    """
    folder = os.fspath(folder)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{folder}: no such data folder")
    stems: dict[str, set[str]] = {}
    for name in os.listdir(folder):
        parts = name.split(".")
        if len(parts) == 4 and parts[3] == "idx" and parts[2] != "None":
            stems.setdefault(parts[1], set()).add(parts[2])
    pairs = {pair for stem, langs in stems.items() for pair in _pairs_of(folder, stem, langs)}
    if len(pairs) == 1:
        return pairs.pop()
    if not pairs:
        raise FolderError(
            f"{folder}: no files such as train.de-en.de.idx are there to tell the languages from."
            " Make them with python -m seqjax.preprocess, or name the languages."
        )
    shown = ", ".join("-".join(pair) for pair in sorted(pairs))
    raise FolderError(f"{folder}: holds several pairs ({shown}): name source and target language")


def load_dictionary(folder: Path, lang: str | None = None) -> Vocabulary:
    """The dictionary of a language, which must be the one that the manifest names.

    Raises:
      FileNotFoundError: there is no such file.
      VocabularyError: it is not a dictionary.
      FolderError: the folder's sentences were made with another dictionary.
    """
    path = dictionary_path(folder, lang)
    vocabulary = _load_whole(path) if path.endswith(".json") else Vocabulary.load(path)
    manifest = load_manifest(folder)
    if manifest is None:
        return vocabulary
    wanted = manifest.vocabularies.get(lang or "")
    if wanted is not None and wanted != len(vocabulary):
        raise FolderError(
            f"{path}: has {len(vocabulary):,} entries, but {MANIFEST} says that the folder was "
            f"made with {wanted:,}: it is another dictionary, or lines of it are lost. Run "
            "seqjax.preprocess again, or put the dictionary back")
    known = manifest.dictionaries.get(lang or "")
    if known is not None and known != digest(vocabulary):
        raise FolderError(
            f"{path}: has other words, or another order, than the dictionary that {MANIFEST} says "
            "the folder was made with. Run seqjax.preprocess again, or put the dictionary back")
    return vocabulary


def _load_whole(path: str) -> Vocabulary:
    with open(path, "rb") as file:
        try:
            return Vocabulary.from_bytes(file.read())
        except VocabularyError as error:
            raise VocabularyError(f"{path}: {error}") from None


def save_dictionary(folder: Path, vocabulary: Vocabulary, lang: str | None = None) -> None:
    """Writes a dictionary, whole or not at all.

    One whose special symbols are fairseq's becomes `dict.LANG.txt`, another
    `vocabulary.LANG.json`.
    """
    if vocabulary.is_fairseq:
        vocabulary.save(dict_path(folder, lang))
    else:
        whole_files.write(
            os.path.join(os.fspath(folder), whole_name(lang)), vocabulary.to_bytes())


def dictionary_path(folder: Path, lang: str | None = None) -> str:
    """Of the file that `load_dictionary` reads: `vocabulary.LANG.json` where there is one."""
    whole = os.path.join(os.fspath(folder), whole_name(lang))
    return whole if os.path.exists(whole) else dict_path(folder, lang)


def whole_name(lang: str | None = None) -> str:
    """`vocabulary.LANG.json`, or `vocabulary.json`."""
    return f"vocabulary.{lang}.json" if lang else "vocabulary.json"


def _pairs_of(folder: str, stem: str, langs: set[str]) -> list[tuple[str, str]]:
    """How `en-zh-CN` may be source and target, where stores of `langs` bear that name.

    A code may hold hyphens itself: what has stores, and then what has a dictionary, decides.
    """
    cuts = [i for i, c in enumerate(stem) if c == "-" and 0 < i < len(stem) - 1]
    ways = [(stem[:i], stem[i + 1 :]) for i in cuts]
    ways = [way for way in ways if langs & set(way) and way[1] != "None"]

    def stores(way: tuple[str, str]) -> int:
        return len(langs & set(way))

    def dictionaries(way: tuple[str, str]) -> int:
        return sum(os.path.exists(dict_path(folder, lang)) for lang in way)

    for known in (stores, dictionaries):
        most = max(map(known, ways), default=0)
        ways = [way for way in ways if known(way) == most]
    return ways


def dict_path(folder: Path, lang: str | None = None) -> str:
    """`FOLDER/dict.LANG.txt`, or `FOLDER/dict.txt`."""
    return os.path.join(os.fspath(folder), f"dict.{lang}.txt" if lang else "dict.txt")


def store_name(split: str, *, source: str | None, target: str | None, lang: str | None) -> str:
    """Name of a store without `.bin`: `train.de-en.de`, `train.en-None.en` or `train`."""
    return f"{split}.{source}-{target}.{lang}" if lang else split


def pair_prefixes(
    folder: Path, split: str, *, source: str, target: str, combine: bool = False
) -> list[str]:
    """`FOLDER/split.src-tgt.`, to which a language is added for the prefix of its store.

    Only the source must be there: the target may be missing when it is to be made.

    Args:
      combine: also those of the further shards `split1`, `split2`, ...

    Raises:
      FileNotFoundError: there is no such split; the message names those that are there.
    """
    folder = os.fspath(folder)

    def find(shard: str) -> str | None:
        for first, second in ((source, target), (target, source)):
            stem = os.path.join(folder, f"{shard}.{first}-{second}.")
            if indexed.exists(stem + source):
                return stem
        return None

    return _shards(folder, split, find, f"{split}.{source}-{target}.{source}.bin", combine)


def mono_prefixes(
    folder: Path, split: str, *, lang: str | None = None, combine: bool = False
) -> list[str]:
    """Prefixes of the stores of a split of one language.

    Args:
      lang: None for a folder without languages (`train.bin`); a language for one made with
        `--only-source --source-lang` (`train.en-None.en.bin`).
      combine: also those of the further shards `split1`, `split2`, ...

    Raises:
      FileNotFoundError: there is no such split; the message names those that are there.
    """
    folder = os.fspath(folder)

    def find(shard: str) -> str | None:
        name = store_name(shard, source=lang, target=None, lang=lang)
        prefix = os.path.join(folder, name)
        return prefix if indexed.exists(prefix) else None

    wanted = store_name(split, source=lang, target=None, lang=lang)
    return _shards(folder, split, find, f"{wanted}.bin", combine)


def _shards(folder: str, split: str, find, wanted: str, combine: bool) -> list:  # noqa: ANN001
    found = []
    for number in itertools.count():
        prefix = find(f"{split}{number or ''}")
        if prefix is None:
            break
        found.append(prefix)
        if not combine:
            break
    if found:
        return found
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{folder}: no such data folder")
    there = sorted({name[:-4] for name in os.listdir(folder) if name.endswith(".idx")})
    raise FileNotFoundError(
        f"{os.path.join(folder, wanted)}: no such store (with its .idx)."
        f" In the folder: {', '.join(there) or 'none'}."
    )
