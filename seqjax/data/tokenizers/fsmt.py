"""Text -> pieces of fairseq's wmt19 models as Hugging Face's FSMT has them: `</w>` ends a word."""

from __future__ import annotations

import io
from collections.abc import Sequence

from seqjax.data.tokenizers.base import Special, State, Tokenizer, boolean
from seqjax.data.tokenizers.subwords import checked_codes, codes_without_counts
from seqjax.data.tokenizers.words import MosesTokenizer

_END = "</w>"


class FSMTTokenizer(Tokenizer):
    """Moses' words, of normalised punctuation, in pieces of BPE.

    Args:
      merges: content of `merges.txt`.
      lang: language code, as Moses takes it.
      lower: make all letters small first.
      special: symbols that are pieces as they are (`Special`): `<unk>`.
    """

    kind = "fsmt"

    def __init__(self, *, merges: bytes, lang: str, lower: bool | str = False,
                 special: Sequence[str] | str = ()):
        import sacremoses
        from subword_nmt.apply_bpe import BPE

        self._merges, self.lang = merges, lang
        self.lower = boolean("fsmt: lower", lower)
        self._bpe = BPE(io.StringIO(checked_codes(codes_without_counts(merges))))
        self._punctuation = sacremoses.MosesPunctNormalizer(
            lang=lang, pre_replace_unicode_punct=True, post_remove_control_chars=True)
        self._words = MosesTokenizer(lang=lang)
        self._special = Special(special)

    def encode(self, text: str) -> str:
        return self._special.encode(text, self._encode)

    def _encode(self, text: str) -> str:
        text = text.lower() if self.lower else text
        words = self._words.encode(self._punctuation.normalize(text)).split()
        return " ".join(piece for word in words for piece in self._pieces(word))

    def _pieces(self, word: str) -> list[str]:
        *parts, last = self._bpe.segment_tokens([word])
        return [*(part.removesuffix("@@") for part in parts), last + _END]

    def decode(self, pieces: str) -> str:
        joined = self._special.left_out(pieces).replace(" ", "")
        return self._words.decode(joined.replace(_END, " "))

    def options(self) -> State:
        return {"merges": self._merges, "lang": self.lang, "lower": str(self.lower).lower(),
                **self._special.options()}
