"""Text -> pieces of a SentencePiece model, as fairseq, XLM-R and Marian take them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from seqjax.data import vocabulary
from seqjax.data.tokenizers import characters
from seqjax.data.tokenizers.base import Special, State, Tokenizer, TokenizerError

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

SPACE_MARK = "\u2581"
"""What a piece begins with that begins a word."""
_MARIAN_LANGUAGE = re.compile(">>.*?<<", re.DOTALL)


class SentencePieceTokenizer(Tokenizer):
    """Pieces of a SentencePiece model; `▁` starts a word.

    Args:
      model: content of the `.model` file.
      special: symbols that the model does not know (`Special`): `<mask>`, `en_XX`.
    """

    kind = "sentencepiece"

    def __init__(self, *, model: bytes, special: Sequence[str] | str = ()):
        import sentencepiece

        self._model = model
        self._special = Special(special)
        self.processor = sentencepiece.SentencePieceProcessor()
        try:
            self.processor.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise TokenizerError(f"not a SentencePiece model ({len(model)} bytes)") from error

    def encode(self, text: str) -> str:
        return self._special.encode(text, self._pieces)

    def _pieces(self, text: str) -> str:
        return " ".join(self.processor.encode(text, out_type=str))

    def decode(self, pieces: str) -> str:
        return vocabulary.post_process(self._special.left_out(pieces), "sentencepiece")

    def symbols(self) -> Sequence[str]:
        return [*_pieces_of(self.processor), *self._special.symbols]

    def begins_word(self, piece: str) -> bool:
        # Special symbols count as words, as they do in fairseq.
        return piece in ("<unk>", "<s>", "</s>", "<pad>") or piece.startswith(SPACE_MARK)

    def options(self) -> State:
        return {"model": self._model, **self._special.options()}


def _pieces_of(processor: SentencePieceProcessor) -> list[str]:
    """The pieces of a model that can come out of text, in the order of their ids."""
    return [processor.IdToPiece(i) for i in range(processor.GetPieceSize())
            if not (processor.IsControl(i) or processor.IsUnknown(i) or processor.IsUnused(i))]


class ByteBPETokenizer(Tokenizer):
    """SentencePiece pieces of UTF-8 bytes, which are written as fairseq's `bytes` symbols
    (fairseq's `byte_bpe`).

    Args:
      model: content of the `.model` file, trained on text of such symbols.
    """

    kind = "byte_bpe"

    def __init__(self, *, model: bytes):
        self._pieces = SentencePieceTokenizer(model=model)

    def encode(self, text: str) -> str:
        # A space is a symbol of its own here; it is the model that makes `▁` of it.
        return self._pieces.encode(characters.byte_symbols(text))

    def decode(self, pieces: str) -> str:
        joined = pieces.replace(" ", "").replace(SPACE_MARK, " ")
        # The model put that one there; fairseq leaves it.
        return characters.text_of_symbols(joined).removeprefix(" ")

    def symbols(self) -> Sequence[str]:
        return self._pieces.symbols()

    def options(self) -> State:
        return self._pieces.options()


class MarianTokenizer(SentencePieceTokenizer):
    """Pieces of one of the two SentencePiece models of a Marian model (opus-mt); a text may
    begin with the language that it is to be translated into: `>>fra<< Good morning.`

    Args:
      model: content of `source.spm` or `target.spm`.
      special: see `SentencePieceTokenizer`.
    """

    kind = "marian"

    def _pieces(self, text: str) -> str:
        language = _MARIAN_LANGUAGE.match(text)
        if language is None:
            return super()._pieces(text)
        code = "".join(language.group().split())  # one piece, whatever stands in it
        return f"{code} {super()._pieces(text[language.end():])}".rstrip(" ")

    def begins_word(self, piece: str) -> bool:
        return super().begins_word(piece) or _MARIAN_LANGUAGE.fullmatch(piece) is not None
