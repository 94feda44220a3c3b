"""Text -> ids of byte-level BPE, written as integers: GPT-2's pieces, as RoBERTa's and BART's
dictionaries have them.

The words of such a dictionary are `31414`, `232`, ...: ids of another vocabulary, in the order
of their frequency.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from seqjax.data.tokenizers.base import State, Tokenizer, TokenizerError, boolean, text_of


class _ByteLevelTokenizer(Tokenizer):
    """Integers of a byte-level BPE.

    A piece that is no id stands for its own characters, as fairseq decodes `<mask>`.
    """

    def __init__(
        self, ids: Mapping[str, int], merges: Sequence[tuple[str, str]], *, prefix_space: bool
    ):
        import tokenizers as library

        self._symbols = {str(index): symbol for symbol, index in ids.items()}
        self._tokenizer = library.Tokenizer(library.models.BPE(dict(ids), list(merges)))
        self._tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(
            add_prefix_space=prefix_space)
        self._decoder = library.decoders.ByteLevel()
        self._missing = set(library.pre_tokenizers.ByteLevel.alphabet()) - ids.keys()
        self._bytes = library.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)

    def encode(self, text: str) -> str:
        if self._missing:
            self._check(text)
        return " ".join(map(str, self._tokenizer.encode(text, add_special_tokens=False).ids))

    def _check(self, text: str) -> None:
        """The library leaves out what the vocabulary cannot say."""
        for character in dict.fromkeys(text):
            pieces = self._bytes.pre_tokenize_str(character)
            if self._missing.intersection(*(piece for piece, _ in pieces)):
                raise TokenizerError(
                    f"{self.kind}: its vocabulary has no piece for {character!r}: it lacks "
                    f"{len(self._missing)} of the 256 bytes")

    def decode(self, pieces: str) -> str:
        symbols = self._symbols
        return self._decoder.decode([symbols.get(piece, piece) for piece in pieces.split()])

    def symbols(self) -> Sequence[str]:
        return list(self._symbols)

    def begins_word(self, piece: str) -> bool:
        if piece in self._symbols:
            return self.decode(piece).startswith(" ")
        # As fairseq: `<mask>` is text without a space in front, other words are none of its own.
        return piece not in ("<unk>", "<mask>")


class GPT2Tokenizer(_ByteLevelTokenizer):
    """GPT-2's byte-level BPE (fairseq's `gpt2`).

    Args:
      encoder_json: content of `encoder.json`, the id of each piece.
      vocab_bpe: content of `vocab.bpe`: a line that says the version, then a merge a line.
    """

    kind = "gpt2"

    def __init__(self, *, encoder_json: bytes, vocab_bpe: bytes):
        self._encoder_json, self._vocab_bpe = encoder_json, vocab_bpe
        ids = read_ids(encoder_json, "encoder.json")
        # As fairseq reads it: the first line is no merge, and what no newline ends is none.
        lines = dict(enumerate(text_of(vocab_bpe, "vocab.bpe").split("\n")[1:-1], 2))
        super().__init__(ids, _merges(lines, "vocab.bpe", ids), prefix_space=False)

    def options(self) -> State:
        return {"encoder_json": self._encoder_json, "vocab_bpe": self._vocab_bpe}


class HFByteBPETokenizer(_ByteLevelTokenizer):
    """Byte-level BPE as Hugging Face's library trains and saves it (fairseq's `hf_byte_bpe`).

    Args:
      vocab_json: content of `vocab.json`, the id of each piece.
      merges: content of `merges.txt`: a merge a line.
      add_prefix_space: begin every text with a space (fairseq's `--bpe-add-prefix-space`).
    """

    kind = "hf_byte_bpe"

    def __init__(
        self, *, vocab_json: bytes, merges: bytes, add_prefix_space: bool | str = False
    ):
        self._vocab_json, self._merges = vocab_json, merges
        self._prefix_space = boolean("hf_byte_bpe: add_prefix_space", add_prefix_space)
        ids = read_ids(vocab_json, "vocab.json")
        super().__init__(ids, read_merges(merges, "merges.txt", ids),
                         prefix_space=self._prefix_space)

    def options(self) -> State:
        return {"vocab_json": self._vocab_json, "merges": self._merges,
                "add_prefix_space": str(self._prefix_space).lower()}


def read_ids(content: bytes, name: str) -> dict[str, int]:
    """A vocabulary as a JSON object of symbols and their ids.

    Raises:
      TokenizerError: it is something else.
    """
    try:
        found: Any = json.loads(text_of(content, name))
    except ValueError as error:
        if isinstance(error, TokenizerError):
            raise
        raise TokenizerError(f"{name}: not JSON ({error})") from None
    if not isinstance(found, dict) or not found or not all(
            type(value) is int and value >= 0 for value in found.values()):
        raise TokenizerError(f"{name}: expected an object of pieces and their ids, "
                             'such as {"!": 0, ...}')
    return found


def read_merges(content: bytes, name: str, ids: Mapping[str, int]) -> list[tuple[str, str]]:
    """The merges of a `merges.txt`, which must be of the vocabulary.

    Raises:
      TokenizerError: naming the line.
    """
    lines = enumerate(text_of(content, name).split("\n"), 1)
    return _merges({k: line for k, line in lines if not line.startswith("#version")}, name, ids)


def _merges(
    lines: Mapping[int, str], name: str, ids: Mapping[str, int]
) -> list[tuple[str, str]]:
    """The merges of numbered lines."""
    merges = []
    for number, line in lines.items():
        parts = line.split()
        if not parts:
            continue
        if len(parts) != 2:
            raise TokenizerError(f"{name}: line {number} is {line!r}, expected two pieces and a "
                                 "space between")
        left, right = parts
        for piece in (left, right, left + right):
            if piece not in ids:
                raise TokenizerError(
                    f"{name}: line {number} merges {left!r} and {right!r}, but {piece!r} is not "
                    "in the vocabulary: the two files are not of one tokenizer")
        merges.append((left, right))
    return merges
