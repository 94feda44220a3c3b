"""Text -> words, and text -> text of another form."""

from __future__ import annotations

import unicodedata
from typing import Any, cast

from seqjax.data.tokenizers.base import State, Tokenizer, TokenizerError, boolean

UNICODE_FORMS = ("nfc", "nfkc", "nfd", "nfkd")


class WhitespaceTokenizer(Tokenizer):
    """Words are what white space separates (fairseq's `space`); for text that is ready."""

    kind = "whitespace"

    def encode(self, text: str) -> str:
        return " ".join(text.split())

    def decode(self, pieces: str) -> str:
        return pieces


class MosesTokenizer(Tokenizer):
    """Words and punctuation marks, by the Moses scripts' rules (through sacremoses).

    Args:
      lang: language code, for abbreviations, apostrophes and quotes.
      dash_splits: split words at hyphens, which become ` @-@ `, as fairseq does by default.
      escape: write `&apos;` and the like for characters that are special to Moses.
    """

    kind = "moses"

    def __init__(
        self, *, lang: str = "en", dash_splits: bool | str = True, escape: bool | str = True
    ):
        import sacremoses

        self.lang = lang
        self.dash_splits = boolean("moses: dash_splits", dash_splits)
        self.escape = boolean("moses: escape", escape)
        self._tokenizer = sacremoses.MosesTokenizer(lang)
        self._detokenizer = sacremoses.MosesDetokenizer(lang)

    def encode(self, text: str) -> str:
        tokens = self._tokenizer.tokenize(
            text, aggressive_dash_splits=self.dash_splits, return_str=True, escape=self.escape
        )
        return str(tokens)

    def decode(self, pieces: str) -> str:
        return str(self._detokenizer.detokenize(pieces.split()))

    def options(self) -> State:
        return {
            "lang": self.lang,
            "dash_splits": str(self.dash_splits).lower(),
            "escape": str(self.escape).lower(),
        }


class UnicodeTokenizer(Tokenizer):
    """Text in one of Unicode's normal forms, in which a letter with an accent is one
    character or two, but never now this and now that; no pieces.

    Args:
      form: `nfc`, `nfkc`, `nfd` or `nfkd`.
    """

    kind = "unicode"

    def __init__(self, *, form: str):
        if form not in UNICODE_FORMS:
            raise TokenizerError(f"unicode: form must be one of {', '.join(UNICODE_FORMS)},"
                                 f" not {form!r}")
        self.form = form

    def encode(self, text: str) -> str:
        return unicodedata.normalize(cast(Any, self.form.upper()), text)

    def decode(self, pieces: str) -> str:
        return pieces

    def options(self) -> State:
        return {"form": self.form}
