"""Text -> a piece for each character, or for each byte."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from seqjax.data.tokenizers.base import Tokenizer

_SPACE_MARK = "\u2581"
_WHITE_SPACE = re.compile(r"\s")
_WHITE_SPACES = re.compile(r"\s+")


class CharactersTokenizer(Tokenizer):
    """One piece per character, `▁` for white space (fairseq's `characters`)."""

    kind = "characters"

    def encode(self, text: str) -> str:
        # fairseq marks the space only; tabs and the like would vanish in the vocabulary.
        return " ".join(_WHITE_SPACE.sub(_SPACE_MARK, text))

    def decode(self, pieces: str) -> str:
        return pieces.replace(" ", "").replace(_SPACE_MARK, " ")


class BytesTokenizer(Tokenizer):
    """One piece per UTF-8 byte, with fairseq's `bytes` symbols.

    A byte that is a printable Latin-1 character stands for itself, byte b otherwise for
    the character 256 + b, a space for `▁`. Runs of white space count as one space. Bytes
    that are no UTF-8 are left out when decoding.
    """

    kind = "bytes"

    def encode(self, text: str) -> str:
        return " ".join(byte_symbols(text).replace(" ", _SPACE_MARK))

    def decode(self, pieces: str) -> str:
        values = _byte_values()
        # A piece that is no byte, such as <unk>, has characters that are bytes: drop it whole.
        kept = (" " if piece == _SPACE_MARK else piece for piece in pieces.split(" "))
        return text_of_symbols("".join(piece for piece in kept if piece in values))

    def symbols(self) -> Sequence[str]:
        return [_SPACE_MARK if symbol == " " else symbol for symbol in _byte_values()]


def byte_symbols(text: str) -> str:
    """Text, white space as single spaces, -> fairseq's symbol of each of its UTF-8 bytes."""
    symbols = _byte_symbols()
    return "".join(symbols[byte] for byte in _WHITE_SPACES.sub(" ", text).encode("utf-8"))


def text_of_symbols(symbols: str) -> str:
    """What `byte_symbols` was made from; what is no symbol, or no UTF-8, is left out."""
    values = _byte_values()
    data = bytes(values[symbol] for symbol in symbols if symbol in values)
    return data.decode("utf-8", errors="ignore")


@functools.cache
def _byte_symbols() -> list[str]:
    plain = {*range(32, 127), *range(161, 173), *range(174, 256)}
    return [chr(byte) if byte in plain else chr(256 + byte) for byte in range(256)]


@functools.cache
def _byte_values() -> dict[str, int]:
    return {symbol: byte for byte, symbol in enumerate(_byte_symbols())}
