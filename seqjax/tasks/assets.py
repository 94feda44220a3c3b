"""Vocabularies and tokenizers as named files, so that a checkpoint holds all it needs."""

from __future__ import annotations

import json
from collections.abc import Mapping

from seqjax.data import tokenizers
from seqjax.data.folder import whole_name
from seqjax.data.vocabulary import Vocabulary


def vocabulary_name(lang: str) -> str:
    """File name of a dictionary, as in fairseq's data folders."""
    return f"dict.{lang}.txt" if lang else "dict.txt"


def pack_tokenizer(lang: str, tokenizer: tokenizers.Tokenizer) -> dict[str, bytes]:
    """A tokenizer as files: `tokenizer.LANG.json`, and one more for each binary part."""
    stem = f"tokenizer.{lang}" if lang else "tokenizer"
    files: dict[str, bytes] = {}
    described: dict[str, object] = {}
    for key, value in tokenizer.to_state().items():
        if isinstance(value, bytes):
            files[f"{stem}.{key}"] = value
            described[key] = {"file": f"{stem}.{key}"}
        else:
            described[key] = value
    files[f"{stem}.json"] = json.dumps(described, indent=1, ensure_ascii=False).encode()
    return files


def unpack_tokenizer(lang: str, files: Mapping[str, bytes]) -> tokenizers.Tokenizer | None:
    """What `pack_tokenizer` packed, or None if there is no such file."""
    state = tokenizer_state(f"tokenizer.{lang}.json" if lang else "tokenizer.json", files)
    return None if state is None else tokenizers.from_state(state)


def tokenizer_state(name: str, files: Mapping[str, bytes]) -> tokenizers.State | None:
    """What a tokenizer is, whichever language's, by the name of its JSON file; None if there is
    no such file."""
    if name not in files:
        return None
    state: tokenizers.State = {}
    for key, value in json.loads(files[name]).items():
        state[key] = files[value["file"]] if isinstance(value, dict) else value
    return state


def pack_vocabulary(lang: str, vocabulary: Vocabulary) -> dict[str, bytes]:
    """A dictionary as its `dict.LANG.txt`, or as `vocabulary.LANG.json` where its special
    symbols are not fairseq's."""
    if not vocabulary.is_fairseq:
        return {whole_name(lang): vocabulary.to_bytes()}
    return {vocabulary_name(lang): vocabulary.to_text().encode()}


def unpack_sides(
    files: Mapping[str, bytes], langs: tuple[str, str] = ("", "")
) -> tuple[Vocabulary, Vocabulary]:
    """The vocabularies of sources and targets: one for both (""), or each its own, under `source`
    and `target` or under its language.

    Raises:
      KeyError: they are not there.
    """
    found = []
    for side, lang in zip(("source", "target"), langs, strict=True):
        for name in ("", side, lang):
            try:
                found.append(unpack_vocabulary(name, files))
                break
            except KeyError:
                continue
        else:
            raise KeyError(vocabulary_name(""))
    return found[0], found[1]


def unpack_vocabulary(lang: str, files: Mapping[str, bytes]) -> Vocabulary:
    """What `pack_vocabulary` packed.

    Raises:
      KeyError: there is no such file.
    """
    if whole_name(lang) in files:
        return Vocabulary.from_bytes(files[whole_name(lang)])
    name = vocabulary_name(lang)
    return Vocabulary.parse(files[name].decode(), name=name)
