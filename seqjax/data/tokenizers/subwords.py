"""Words -> pieces of words, by the codes of subword-nmt."""

from __future__ import annotations

import io
import re

from seqjax.data import vocabulary
from seqjax.data.tokenizers.base import State, Tokenizer, TokenizerError, text_of

OTHER_SPACE = re.compile(r"[^\S ]")
"""White space that subword-nmt does not take for such."""


class SubwordNMTTokenizer(Tokenizer):
    """Byte-pair encoding with subword-nmt's codes; `@@ ` continues a word.

    subword-nmt itself takes only U+0020 for a space and would make one word of two that a
    tab or a no-break space separates; here all white space separates words.

    Args:
      codes: content of the codes file (UTF-8).
    """

    kind = "subword_nmt"

    def __init__(self, *, codes: bytes):
        from subword_nmt.apply_bpe import BPE

        self._codes = codes
        self._bpe = BPE(io.StringIO(checked_codes(codes)))

    def encode(self, text: str) -> str:
        return self._bpe.process_line(OTHER_SPACE.sub(" ", text))

    def decode(self, pieces: str) -> str:
        return vocabulary.post_process(pieces, "subword_nmt")

    def begins_word(self, piece: str) -> bool:
        # Of a word's pieces fairseq can tell the last but not the first.
        raise TokenizerError("subword_nmt: its pieces do not say whether they begin a word")

    def options(self) -> State:
        return {"codes": self._codes}


def codes_without_counts(codes: bytes) -> bytes:
    """fastBPE's codes (`a b 123` a line), or FSMT's merges, as subword-nmt's."""
    lines = text_of(codes, "BPE codes").split("\n")
    kept = [" ".join(line.split(" ")[:2]) for line in lines]
    first = [] if kept[0].startswith("#version") else ["#version: 0.2"]
    return "\n".join([*first, *kept]).encode("utf-8")


def checked_codes(codes: bytes) -> str:
    """The text of a codes file; subword-nmt itself would end the process on a bad line."""
    text = text_of(codes, "BPE codes")
    lines = text.rstrip("\n").split("\n")
    first = 1 if lines[0].startswith("#version:") else 0
    for number, line in enumerate(lines[first:], first + 1):
        if len(line.strip("\r\n ").split(" ")) != 2:
            raise TokenizerError(
                f"BPE codes: line {number} is {line!r}, expected two units and a space between."
                " Codes are what `subword-nmt learn-bpe` writes."
            )
    return text
