"""What the ids of a Hugging Face folder mean: its configuration and its tokenizer's files in;
vocabularies with their special ids, and tokenizers, out.

Where the folder has no tokenizer, ids stay ids: the vocabulary has the right size and
placeholders for words.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from seqjax.config import ConfigError
from seqjax.data import tokenizers
from seqjax.data.tokenizers import Tokenizer
from seqjax.data.tokenizers.huggingface import ROLES, fillers
from seqjax.data.vocabulary import FAIRSEQ_IDS, Vocabulary, placeholder
from seqjax.interop.huggingface.files import read_json
from seqjax.models.tables import HuggingFaceTable

FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", "sentencepiece.bpe.model", "spiece.model",
    "sentencepiece.model", "source.spm", "target.spm", "target_vocab.json", "vocab-src.json",
    "vocab-tgt.json", "bpecodes", "chat_template.jinja", "preprocessor_config.json",
    "processor_config.json",
)
"""What a tokenizer may be made of, and is written back as it was."""
FOLDER = "huggingface"
"""Of assets: files as they were."""
_NAMES = ("bos", "eos", "unk", "pad", "cls", "sep", "mask")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Special:
    """Ids with a meaning of their own."""

    bos: int | None
    pad: int | None
    """None: the model has none, and an id behind the vocabulary pads."""
    eos: int
    unk: int | None
    start: int | None
    """What the decoder reads first, where that is not eos."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side:
    """What text of one side becomes."""

    symbols: Sequence[str] | None
    """Of each id (None: nothing says)."""
    tokenizer: Tokenizer | None


def token_files(folder: str | pathlib.Path) -> dict[str, bytes]:
    """The files of the folder that are its tokenizer's, by name."""
    root = pathlib.Path(folder)
    return {name: (root / name).read_bytes() for name in FILES if (root / name).is_file()}


def special_names(folder: str | pathlib.Path) -> dict[str, Any]:
    """What `tokenizer_config.json` and `special_tokens_map.json` say, as one."""
    return {**(read_json(folder, "special_tokens_map.json") or {}),
            **(read_json(folder, "tokenizer_config.json") or {})}


def sides(
    folder: str | pathlib.Path, *, model_type: str, layout: str, sizes: tuple[int, int]
) -> tuple[Side, Side]:
    """Symbols and tokenizers of source and target, as the folder's files say them.

    Args:
      model_type: of its `config.json`.
      layout: where the ids of a SentencePiece model's pieces are, if nothing else says it: one of
        `tokenizers.layouts`.
      sizes: rows of the embeddings.

    Raises:
      TokenizerError: files that are no tokenizer's, or of another model.
    """
    there = token_files(folder)
    found = tokenizers.of_files(there, model_type=model_type, layout=layout)
    if found is None:
        none = Side(symbols=None, tokenizer=None)
        return none, none
    name = "tokenizer.json" if "tokenizer.json" in there else "its tokenizer"
    return (Side(symbols=_fitted(found.symbols, sizes[0], name), tokenizer=found.source),
            Side(symbols=_fitted(found.target_symbols, sizes[1], name), tokenizer=found.target))


def content(token: Any) -> str | None:
    """A token as these files have it: a string, or an object that says more of it."""
    return token.get("content") if isinstance(token, Mapping) else token


def _fitted(symbols: Sequence[str], size: int, name: str) -> list[str]:
    """The symbols, and placeholders for rows without one."""
    if len(symbols) > size:
        raise tokenizers.TokenizerError(
            f"{name} is not the model's: it has {len(symbols):,} symbols, the embedding {size:,} "
            f"rows; the first without one is {symbols[size]!r}")
    return [*symbols, *fillers(range(len(symbols), size), taken=set(symbols))]


def vocabulary(
    side: Side, *, size: int, special: Special, masks: bool = False
) -> Vocabulary:
    """The vocabulary of a side; one of fairseq's kind where it can be.

    Args:
      masks: where nothing says what ids mean, the last one is `<mask>`, as RoBERTa has it.
    """
    symbols = side.symbols
    if symbols is None:
        placeholders = [placeholder(i) for i in range(size)]
        placeholders[-1] = "<mask>" if masks else placeholders[-1]
        for name, index in (("<unk>", special.unk), ("<pad>", special.pad),
                            ("<s>", special.bos), ("</s>", special.eos)):
            if index is not None and index < size:
                placeholders[index] = name
        symbols = placeholders
    ids = (special.bos, special.pad, special.eos, special.unk)
    usual = Vocabulary().symbols
    if ids == FAIRSEQ_IDS and list(symbols[:4]) == usual and len(set(symbols)) == len(symbols):
        return Vocabulary(symbols[4:])
    return Vocabulary.of_symbols(
        symbols, bos=special.bos, pad=special.pad, eos=special.eos, unk=special.unk)


def special_ids(
    hf: Mapping[str, Any], generation: Mapping[str, Any], table: HuggingFaceTable, *,
    size: int, symbols: Sequence[str] | None = None, said: Mapping[str, Any] | None = None,
) -> Special:
    """The special ids of a model of `size` words.

    What `config.json` says comes before `generation_config.json`, then the tokenizer's names,
    then what transformers takes them to be; at last symbols by their usual names, as
    `seqjax.preprocess` knows them. Of an encoder, of which transformers takes nothing to be an
    id but the tokenizer's, these come before.

    Args:
      said: see `special_names`.

    Raises:
      ConfigError: one that is no id, or none that ends a text.
    """
    by_symbol = {word: i for i, word in enumerate(symbols or ())}
    named = {key: by_symbol.get(content((said or {}).get(f"{key}_token")) or "")
             for key in _NAMES}
    usual = {key: next((by_symbol[name] for name in names if name in by_symbol), None)
             for key, names in ROLES.items() if key != "bos" or table.kind == "encoder"}

    def found(key: str, *named: int | None) -> int | None:
        name = f"{key}_token_id"
        taken = (table.special.get(name), usual.get(key))
        for value in (hf.get(name), generation.get(name), *named,
                      *(taken[::-1] if table.kind == "encoder" else taken)):
            value = value[0] if isinstance(value, list) and value else value
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ConfigError(f"{name}: {value!r} is no id")
            if value < size:
                return value
        return None

    eos = found("eos", named["sep"], named["eos"])
    bos = found("bos", named["cls"], named["bos"])
    eos = bos if eos is None else eos
    if eos is None:
        raise ConfigError("eos_token_id: neither config.json nor a tokenizer says what ends a text")
    start = generation.get("decoder_start_token_id")
    start = found("decoder_start") if start is None else start
    return Special(
        bos=bos, pad=found("pad", named["pad"]), eos=eos, unk=found("unk", named["unk"]),
        start=None if start == eos else start)


def prompt_start(
    tokenizer: Tokenizer | None, special: Special, said: Mapping[str, Any]
) -> tuple[int, ...]:
    """Ids that transformers' tokenizer puts in front of a prompt."""
    if isinstance(tokenizer, tokenizers.HuggingFaceTokenizer):
        first = tokenizer.around().first
        if first or not said.get("add_bos_token"):
            return first
    if said.get("add_bos_token"):
        return (special.eos if special.bos is None else special.bos,)
    return (special.eos,) if isinstance(tokenizer, tokenizers.SentencePieceTokenizer) else ()


def packed(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The tokenizer's files as assets of a checkpoint."""
    return {f"{FOLDER}/{name}": content for name, content in files.items()}


def unpacked(assets: Mapping[str, bytes]) -> dict[str, bytes]:
    """What `packed` packed."""
    return {name.removeprefix(f"{FOLDER}/"): content for name, content in assets.items()
            if name.startswith(f"{FOLDER}/")}
