"""Tokenizers: text -> pieces joined by spaces, and back.

Each one is what fairseq calls by the same name (`--tokenizer moses`, `--bpe subword_nmt`,
`sentencepiece`, `gpt2`, ...), so a vocabulary made here or there reads the pieces of both; or
what a Hugging Face folder has (`hf`, `marian`, `fsmt`). A tokenizer is a few strings and the
bytes of its files: `to_state` gives them as a flat dict, which a checkpoint or a data folder can
hold, and `from_state` builds it again.

    tokenizer = SentencePieceTokenizer(model=open("spm.model", "rb").read())
    tokenizer.encode("Hello world!")          # "▁Hello ▁world !"
    tokenizer.decode("▁Hello ▁world !")       # "Hello world!"

The libraries are imported when a tokenizer that needs them is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seqjax.data.tokenizers.base import State, Tokenizer, TokenizerError
from seqjax.data.tokenizers.byte_level import GPT2Tokenizer, HFByteBPETokenizer
from seqjax.data.tokenizers.characters import BytesTokenizer, CharactersTokenizer
from seqjax.data.tokenizers.folders import FolderTokenizers, of_files
from seqjax.data.tokenizers.fsmt import FSMTTokenizer
from seqjax.data.tokenizers.huggingface import HuggingFaceTokenizer
from seqjax.data.tokenizers.layouts import vocabulary_of_json, vocabulary_of_sentencepiece
from seqjax.data.tokenizers.sentencepieces import (
    ByteBPETokenizer,
    MarianTokenizer,
    SentencePieceTokenizer,
)
from seqjax.data.tokenizers.subwords import SubwordNMTTokenizer
from seqjax.data.tokenizers.training import train_sentencepiece, train_subword_nmt
from seqjax.data.tokenizers.wordpiece import BertTokenizer
from seqjax.data.tokenizers.words import (
    UNICODE_FORMS,
    MosesTokenizer,
    UnicodeTokenizer,
    WhitespaceTokenizer,
)

__all__ = [
    "TOKENIZERS", "UNICODE_FORMS", "BertTokenizer", "ByteBPETokenizer", "BytesTokenizer",
    "ChainTokenizer", "CharactersTokenizer", "FSMTTokenizer", "FolderTokenizers",
    "GPT2Tokenizer", "HFByteBPETokenizer",
    "HuggingFaceTokenizer", "MarianTokenizer", "MosesTokenizer", "SentencePieceTokenizer",
    "State", "SubwordNMTTokenizer", "Tokenizer", "TokenizerError", "UnicodeTokenizer",
    "WhitespaceTokenizer", "chain", "from_state", "of_files", "train_sentencepiece",
    "train_subword_nmt", "vocabulary_of_json", "vocabulary_of_sentencepiece",
]


class ChainTokenizer(Tokenizer):
    """One tokenizer after the other (fairseq's `--tokenizer moses --bpe subword_nmt`)."""

    kind = "chain"

    def __init__(self, *parts: Tokenizer):
        if not parts:
            raise TokenizerError("a chain needs at least one tokenizer")
        self.parts = parts

    def encode(self, text: str) -> str:
        for part in self.parts:
            text = part.encode(text)
        return text

    def decode(self, pieces: str) -> str:
        for part in reversed(self.parts):
            pieces = part.decode(pieces)
        return pieces

    def symbols(self) -> Sequence[str] | None:
        return self.parts[-1].symbols()

    def begins_word(self, piece: str) -> bool:
        return self.parts[-1].begins_word(piece)

    def options(self) -> State:
        return {
            f"{i}.{key}": value
            for i, part in enumerate(self.parts)
            for key, value in part.to_state().items()
        }


TOKENIZERS: dict[str, type[Tokenizer]] = {
    "sentencepiece": SentencePieceTokenizer,
    "subword_nmt": SubwordNMTTokenizer,
    "moses": MosesTokenizer,
    "characters": CharactersTokenizer,
    "bytes": BytesTokenizer,
    "whitespace": WhitespaceTokenizer,
    "unicode": UnicodeTokenizer,
    "gpt2": GPT2Tokenizer,
    "hf_byte_bpe": HFByteBPETokenizer,
    "byte_bpe": ByteBPETokenizer,
    "bert": BertTokenizer,
    "hf": HuggingFaceTokenizer,
    "marian": MarianTokenizer,
    "fsmt": FSMTTokenizer,
}


def from_state(state: Mapping[str, str | bytes]) -> Tokenizer:
    """The tokenizer whose `to_state` this is.

    Raises:
      TokenizerError: an unknown kind or unusable options.
    """
    options: dict[str, Any] = dict(state)
    kind = options.pop("kind", None)
    if kind == ChainTokenizer.kind:
        return ChainTokenizer(*_parts_from_state(options))
    if kind not in TOKENIZERS:
        raise TokenizerError(
            f"tokenizer {kind!r} is unknown. Known: {', '.join(TOKENIZERS)}."
        )
    try:
        return TOKENIZERS[kind](**options)
    except TypeError as error:
        raise TokenizerError(f"tokenizer {kind!r}: {error}") from None


def _parts_from_state(options: Mapping[str, str | bytes]) -> list[Tokenizer]:
    parts: dict[int, State] = {}
    for name, value in options.items():
        number, _, key = name.partition(".")
        parts.setdefault(int(number), {})[key] = value
    return [from_state(parts[number]) for number in sorted(parts)]


def chain(parts: Sequence[Tokenizer]) -> Tokenizer:
    """A single tokenizer as it is, several as a chain."""
    return parts[0] if len(parts) == 1 else ChainTokenizer(*parts)
