"""How a task writes its sentences: templates of symbols in, frames and target forms of ids out.

`"... </s> {source}"` is a sentence's words, eos and the token of the source's language.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from seqjax.config import ConfigError
from seqjax.data.frames import Frame
from seqjax.data.vocabulary import Vocabulary
from seqjax.generation.target_form import TargetForm

WORDS = "..."
"""Stands for the words of a sentence."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forms:
    """Templates: symbols of the vocabulary, separated by spaces; `{source}` and `{target}` are
    the symbols of the languages."""

    source: str = "... </s>"
    """What the encoder reads; the words are `...`."""
    target: str = "... </s>"
    """What the decoder learns to predict."""
    start: str = "</s>"
    """The symbol that the decoder reads first."""
    first: str = ""
    """Symbols that are forced behind it."""
    end: str = "</s>"
    """The symbol that ends an output."""

    def frame(self, side: str, vocabulary: Vocabulary, languages: Mapping[str, str]) -> Frame:
        """The frame of `source` or `target`.

        Args:
          languages: `source` and `target` -> the symbol of its language.

        Raises:
          ConfigError: naming the template and what is wrong with it.
        """
        template = getattr(self, side)
        symbols = template.split()
        if symbols.count(WORDS) != 1:
            raise ConfigError(f"{side}_form: {template!r}: write the words once, as {WORDS}")
        place = symbols.index(WORDS)
        before, after = (
            tuple(_index(s, vocabulary, languages, f"{side}_form") for s in part)
            for part in (symbols[:place], symbols[place + 1:]))
        if not after:
            raise ConfigError(f"{side}_form: {template!r}: something must end a sentence, "
                              f"such as {vocabulary[vocabulary.eos]}")
        return Frame(eos=vocabulary.eos, before=before, after=after)

    def target_form(
        self, vocabulary: Vocabulary, languages: Mapping[str, str]
    ) -> TargetForm:
        """How outputs begin and end."""
        first = tuple(_index(s, vocabulary, languages, "decoder_first")
                      for s in self.first.split())
        return TargetForm(
            start=_index(self.start, vocabulary, languages, "decoder_start"), first=first,
            eos=_index(self.end, vocabulary, languages, "decoder_end"))


def _index(symbol: str, vocabulary: Vocabulary, languages: Mapping[str, str], key: str) -> int:
    """The id of a symbol of a template."""
    if symbol in ("{source}", "{target}"):
        symbol = languages[symbol[1:-1]]
        if not symbol:
            raise ConfigError(f"{key}: has a language token, but langs names no languages")
    special = {vocabulary[i]: i for i in
               vocabulary.special_ids if i < len(vocabulary)}
    found = special.get(symbol, vocabulary.indices.get(symbol))
    if found is None:
        raise ConfigError(f"{key}: the dictionary has no {symbol!r}")
    return found
