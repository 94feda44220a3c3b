"""The files that a tokenizer is made of: what they are called, fairseq's flags for them, and
reading them.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from seqjax.data import compression
from seqjax.data.tokenizers.base import Tokenizer, TokenizerError
from seqjax.data.tokenizers.byte_level import GPT2Tokenizer, HFByteBPETokenizer
from seqjax.data.tokenizers.huggingface import HuggingFaceTokenizer
from seqjax.data.tokenizers.sentencepieces import ByteBPETokenizer, SentencePieceTokenizer
from seqjax.data.tokenizers.subwords import SubwordNMTTokenizer, codes_without_counts
from seqjax.data.tokenizers.wordpiece import BertTokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """One file of a tokenizer."""

    option: str
    """Of the tokenizer's class."""
    flag: str
    """fairseq's name for it (`bpe_codes`: --bpe-codes)."""
    names: tuple[str, ...]
    """What it is called where it is published."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """A tokenizer that is made of files."""

    cls: type[Tokenizer]
    parts: tuple[Part, ...]
    switches: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """fairseq's name of an option that is true or false -> that of the class."""


_CODES = Part(option="codes", flag="bpe_codes", names=("code", "bpecodes"))
KINDS: dict[str, Kind] = {
    "subword_nmt": Kind(cls=SubwordNMTTokenizer, parts=(_CODES,)),
    "fastbpe": Kind(cls=SubwordNMTTokenizer, parts=(_CODES,)),
    "sentencepiece": Kind(cls=SentencePieceTokenizer, parts=(Part(
        option="model", flag="sentencepiece_model",
        names=("sentencepiece.bpe.model", "sentencepiece.model", "spm.model")),)),
    "gpt2": Kind(cls=GPT2Tokenizer, parts=(
        Part(option="encoder_json", flag="gpt2_encoder_json", names=("encoder.json",)),
        Part(option="vocab_bpe", flag="gpt2_vocab_bpe", names=("vocab.bpe",)))),
    "hf_byte_bpe": Kind(cls=HFByteBPETokenizer, parts=(
        Part(option="vocab_json", flag="bpe_vocab", names=("vocab.json",)),
        Part(option="merges", flag="bpe_merges", names=("merges.txt",))),
        switches={"bpe_add_prefix_space": "add_prefix_space"}),
    "byte_bpe": Kind(cls=ByteBPETokenizer, parts=(Part(
        option="model", flag="sentencepiece_model_path",
        names=("sentencepiece.model", "spm.model")),)),
    "bert": Kind(cls=BertTokenizer, parts=(
        Part(option="vocab", flag="bpe_vocab_file", names=("vocab.txt",)),),
        switches={"bpe_cased": "cased"}),
    "hf": Kind(cls=HuggingFaceTokenizer, parts=(
        Part(option="tokenizer_json", flag="", names=("tokenizer.json",)),)),
}
"""fairseq's name of a `--bpe` (and `hf`) -> its files."""
FILE_FLAGS = tuple(dict.fromkeys(p.flag for kind in KINDS.values() for p in kind.parts if p.flag))
SWITCH_FLAGS = tuple(flag for kind in KINDS.values() for flag in kind.switches)


def kinds_of_flag(flag: str) -> list[str]:
    """The kinds that one of these flags is of."""
    return [name for name, kind in KINDS.items()
            if flag in kind.switches or flag in [part.flag for part in kind.parts]]


def kind_of_flags(flags: Sequence[str]) -> str | None:
    """The first kind that one of these flags is of."""
    return next((name for flag in flags for name in kinds_of_flag(flag)), None)


def find(
    name: str, given: Mapping[str, Any], *, places: Sequence[str]
) -> tuple[dict[str, str], list[Part]]:
    """The files of a tokenizer: path of each option, and the parts that are nowhere.

    Args:
      name: one of `KINDS`.
      given: paths, by fairseq's flag; one that is no file (fairseq's defaults are addresses) is
        looked for like one that is not given.
      places: folders where the others lie under their usual names.
    """
    found: dict[str, str] = {}
    missing = []
    for part in KINDS[name].parts:
        said = given.get(part.flag)
        candidates = [said] if said else []
        candidates += [os.path.join(place, usual) for place in places for usual in part.names]
        path = next((str(path) for path in candidates if os.path.isfile(path)), None)
        if path is None:
            missing.append(part)
        else:
            found[part.option] = path
    return found, missing


def read(name: str, paths: Mapping[str, str], options: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of these files (plain, or compressed).

    Args:
      name: one of `KINDS`.
      paths: of the class's options, as `find` gives them.
      options: switches, by fairseq's flag; others are not looked at.

    Raises:
      TokenizerError: naming the files.
      OSError: one cannot be read.
    """
    kind = KINDS[name]
    content: dict[str, Any] = {}
    for option, path in paths.items():
        with compression.open_bytes(path) as file, compression.explained(path):
            content[option] = file.read()
    if name == "fastbpe":
        content["codes"] = codes_without_counts(content["codes"])
    for flag, option in kind.switches.items():
        if options.get(flag) is not None:
            content[option] = bool(options[flag])
    try:
        return kind.cls(**content)
    except TokenizerError as error:
        raise TokenizerError(f"{', '.join(paths.values())}: {error}") from None


def in_place(name: str, path: str, options: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a file, or of a folder that has its files under their usual names.

    Raises:
      TokenizerError: a file that is missing, or is something else.
    """
    parts = KINDS[name].parts
    if not os.path.exists(path):
        raise TokenizerError(f"--tokenizer {name}:{path}: no such file or folder")
    if not os.path.isdir(path):
        options_of_files = [part.option for part in parts]
        if len(options_of_files) > 1:
            names = " and ".join(part.names[0] for part in parts)
            raise TokenizerError(f"--tokenizer {name}:{path}: name the folder that has {names}")
        return read(name, dict.fromkeys(options_of_files, path), options)
    found, missing = find(name, {}, places=[path])
    if missing:
        raise TokenizerError(f"--tokenizer {name}:{path}: there is no "
                             + " and no ".join(" or ".join(p.names) for p in missing))
    return read(name, found, options)
