"""Text -> words and pieces of words, as BERT cuts them: `play ##ing`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from seqjax.data.tokenizers.base import State, Tokenizer, TokenizerError, boolean, text_of

_UNKNOWN = "[UNK]"
_SPECIAL = ("[PAD]", _UNKNOWN, "[CLS]", "[SEP]", "[MASK]")
_BEFORE_POINT = re.compile(" ([.?!,])")
_BEFORE_ENDING = re.compile(" (n't|'m|'s|'ve|'re)")


class BertTokenizer(Tokenizer):
    """BERT's words and WordPiece (fairseq's `bert`).

    Args:
      vocab: content of `vocab.txt`, a piece a line.
      cased: keep capitals and accents.
    """

    kind = "bert"

    def __init__(self, *, vocab: bytes, cased: bool | str = False):
        import tokenizers as library

        self._vocab = vocab
        self.cased = boolean("bert: cased", cased)
        self._ids = ids = read_pieces(vocab)
        made = library.Tokenizer(library.models.WordPiece(ids, unk_token=_UNKNOWN))
        made.normalizer = library.normalizers.BertNormalizer(lowercase=not self.cased)
        made.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
        made.add_special_tokens([s for s in _SPECIAL if s in ids])
        self._tokenizer = made

    def encode(self, text: str) -> str:
        # The library keeps what Unicode has given to nobody, BERT does not.
        text = "".join(c for c in text if unicodedata.category(c) != "Cn")
        return " ".join(self._tokenizer.encode(text, add_special_tokens=False).tokens)

    def decode(self, pieces: str) -> str:
        # As transformers' `clean_up_tokenization`, which fairseq calls.
        text = _BEFORE_POINT.sub(r"\1", pieces.replace(" ##", "").strip())
        return _BEFORE_ENDING.sub(r"\1", text.replace(" ' ", "'"))

    def symbols(self) -> Sequence[str]:
        return [piece for piece in self._ids if piece]

    def begins_word(self, piece: str) -> bool:
        return not piece.startswith("##")

    def options(self) -> State:
        return {"vocab": self._vocab, "cased": str(self.cased).lower()}


def read_pieces(vocab: bytes) -> dict[str, int]:
    """The id of each piece of a `vocab.txt`; of one that stands there twice, the later.

    Raises:
      TokenizerError: it is something else.
    """
    lines = text_of(vocab, "vocab.txt").split("\n")
    pieces = lines[:-1] if lines[-1] == "" else lines
    ids = {piece.rstrip("\r"): index for index, piece in enumerate(pieces)}
    if _UNKNOWN not in ids:
        raise TokenizerError(f"vocab.txt: there is no {_UNKNOWN} among its {len(ids):,} "
                             "pieces: expected BERT's vocabulary, a piece a line")
    return ids
