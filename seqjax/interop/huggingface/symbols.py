"""What the ids of a Hugging Face folder mean: its configuration and its tokenizer's files in, a
vocabulary with special ids out.

Where the folder has no tokenizer, ids stay ids: the vocabulary has the right size and
placeholders for words.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from seqjax.checkpoints import CheckpointError
from seqjax.config import ConfigError
from seqjax.data.vocabulary import Vocabulary
from seqjax.interop.huggingface.files import read_json
from seqjax.models.tables import HuggingFaceTable

FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", "sentencepiece.bpe.model", "spiece.model",
    "source.spm", "target.spm", "sentencepiece.model", "target_vocab.json", "vocab-src.json",
    "vocab-tgt.json", "dict.txt", "bpe.codes", "chat_template.jinja",
)
"""What a tokenizer may be made of, and is written back as it was."""
FOLDER = "huggingface"
"""Of assets: files as they were."""
_NAMES = ("bos", "eos", "unk", "pad", "cls", "sep", "mask")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Special:
    """Ids with a meaning of their own."""

    bos: int
    pad: int
    """The size of the vocabulary where the model has none."""
    eos: int
    unk: int
    start: int | None
    """What the decoder reads first, where that is not eos."""


def token_files(folder: str | pathlib.Path) -> dict[str, bytes]:
    """The files of the folder that are its tokenizer's, by name."""
    root = pathlib.Path(folder)
    return {name: (root / name).read_bytes() for name in FILES if (root / name).is_file()}


def special_names(folder: str | pathlib.Path) -> dict[str, str]:
    """`bos`, `eos`, `unk`, `pad`, `cls`, `sep`, `mask` -> the symbol, as far as the tokenizer's
    files say."""
    found: dict[str, str] = {}
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        said = read_json(folder, file) or {}
        for name in _NAMES:
            value = said.get(f"{name}_token")
            value = value.get("content") if isinstance(value, Mapping) else value
            if isinstance(value, str):
                found.setdefault(name, value)
    return found


def read_symbols(folder: str | pathlib.Path) -> dict[int, str] | None:
    """Id -> symbol, as far as JSON and text files of the folder say; None where they are none
    that do.

    Raises:
      CheckpointError: a file that holds something else.
    """
    root = pathlib.Path(folder)
    whole = read_json(root, "tokenizer.json")
    if whole is not None:
        return _of_tokenizer(whole, str(root / "tokenizer.json"))
    listed = read_json(root, "vocab.json")
    if listed is not None:
        return _numbered({**listed, **(read_json(root, "added_tokens.json") or {})},
                         str(root / "vocab.json"))
    if (root / "vocab.txt").is_file():
        words = (root / "vocab.txt").read_text(encoding="utf-8").split("\n")
        words = words[:-1] if words[-1] == "" else words
        return dict(enumerate(word.rstrip("\r") for word in words))
    return None


def _of_tokenizer(whole: Mapping[str, Any], name: str) -> dict[int, str]:
    model = whole.get("model")
    vocab = model.get("vocab") if isinstance(model, Mapping) else None
    if isinstance(vocab, list):  # Unigram: pieces and their scores
        found = {i: str(piece[0]) for i, piece in enumerate(vocab)}
    elif isinstance(vocab, Mapping):
        found = _numbered(vocab, name)
    else:
        raise CheckpointError(f"{name}: has no vocabulary of its model")
    for token in whole.get("added_tokens") or []:
        found[int(token["id"])] = str(token["content"])
    return found


def _numbered(vocab: Mapping[str, Any], name: str) -> dict[int, str]:
    wrong = [word for word, i in vocab.items() if not isinstance(i, int) or i < 0]
    if wrong:
        raise CheckpointError(f"{name}: {wrong[0]!r} has no id")
    return {i: word for word, i in vocab.items()}


def vocabulary(
    symbols: Mapping[int, str] | None, *, size: int, special: Special
) -> Vocabulary:
    """A vocabulary of `size` symbols, placeholders where nothing says which.

    Raises:
      CheckpointError: symbols beyond the size.
    """
    known = dict(symbols or {})
    beyond = sorted(i for i in known if i >= size)
    if beyond:
        raise CheckpointError(
            f"the tokenizer is not this model's: it has an id {beyond[-1]} "
            f"({known[beyond[-1]]!r}), but the embedding has {size} rows")
    if symbols is None:
        names = {"<s>": special.bos, "<pad>": special.pad, "</s>": special.eos,
                 "<unk>": special.unk}
        for name, i in names.items():
            known.setdefault(i, name)
    taken = set(known.values())
    words = []
    for i in range(size):
        word = known.get(i, f"<{i}>")
        while i not in known and word in taken:
            word = f"<{word}>"
        words.append(word)
    return Vocabulary.of_symbols(
        words, bos=special.bos, pad=special.pad, eos=special.eos, unk=special.unk)


def special_ids(
    hf: Mapping[str, Any], generation: Mapping[str, Any], table: HuggingFaceTable, *,
    size: int, symbols: Mapping[int, str] | None = None, names: Mapping[str, str] | None = None,
) -> Special:
    """The special ids of a model of `size` words.

    What `config.json` says comes before `generation_config.json`, then what transformers takes
    them to be, then the tokenizer's names.

    Args:
      names: see `special_names`.

    Raises:
      ConfigError: one that is no id.
    """
    by_symbol = {word: i for i, word in (symbols or {}).items()}
    named = {key: by_symbol[word] for key, word in (names or {}).items() if word in by_symbol}

    def found(key: str, *fallbacks: int | None) -> int | None:
        name = f"{key}_token_id"
        for said in (hf.get(name), generation.get(name), *fallbacks, table.special.get(name)):
            value = said[0] if isinstance(said, list) and said else said
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ConfigError(f"{name}: {value!r} is no id")
            return value
        return None

    pad = found("pad")
    pad = size if pad is None or pad >= size else pad
    eos = found("eos", named.get("sep"), named.get("eos"))
    bos = found("bos", named.get("cls"), named.get("bos"))
    eos = eos if eos is not None else bos if bos is not None else 0
    bos = bos if bos is not None else eos
    unk = named.get("unk")
    unk = unk if unk is not None else found("unk")
    start = found("decoder_start")
    return Special(bos=bos, pad=pad, eos=eos, unk=eos if unk is None else unk,
                   start=None if start == eos else start)


def packed(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The tokenizer's files as assets of a checkpoint."""
    return {f"{FOLDER}/{name}": content for name, content in files.items()}


def unpacked(assets: Mapping[str, bytes]) -> dict[str, bytes]:
    """What `packed` packed."""
    return {name.removeprefix(f"{FOLDER}/"): content for name, content in assets.items()
            if name.startswith(f"{FOLDER}/")}
