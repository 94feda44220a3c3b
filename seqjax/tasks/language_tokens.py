"""Translation between several languages, which tokens of the vocabulary say.

What the tasks of this kind share: from templates (`forms.Forms`) and a direction to what stands
around words, how outputs begin and end, and the task of another direction.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from seqjax.config import ConfigError, nearest
from seqjax.data.frames import Frame
from seqjax.data.vocabulary import Vocabulary
from seqjax.generation.target_form import TargetForm
from seqjax.tasks.forms import Forms
from seqjax.tasks.translation import TranslationTask

if TYPE_CHECKING:  # it imports JAX
    from seqjax.models.protocol import EncoderDecoder


def add_symbols(vocabulary: Vocabulary, words: Sequence[str]) -> Vocabulary:
    """The vocabulary with words behind its own that it has not; changes it."""
    for word in words:
        if word not in vocabulary:
            vocabulary.add_symbol(word)
    return vocabulary


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageTokenTask(TranslationTask):
    """The part that follows from `forms`, `langs` and `symbol_of`."""

    @property
    def forms(self) -> Forms:
        """How sentences are written."""
        raise NotImplementedError

    @property
    def langs(self) -> tuple[str, ...]:
        """The languages that the model knows; empty: its one pair alone."""
        raise NotImplementedError

    def symbol_of(self, lang: str) -> str:
        """The symbol of a language."""
        raise NotImplementedError

    @property
    def begins_with_pad(self) -> bool:
        """Whether decoding begins with padding's symbol, which then is a token like others."""
        pad = self.target_vocab.pad
        return pad < len(self.target_vocab) and self.forms.start == self.target_vocab[pad]

    def decoder_start(self, model: EncoderDecoder) -> int:
        """The token that targets are read behind."""
        del model
        return self.target_form.start

    def translating(self, source_lang: str | None, target_lang: str | None) -> Self:
        """This task for another direction (None: as it is).

        Raises:
          ConfigError: naming a language that the model does not know, with the nearest.
        """
        if not self.langs:
            return super().translating(source_lang, target_lang)
        for name, asked in (("source_lang", source_lang), ("target_lang", target_lang)):
            if asked is not None and asked not in self.langs:
                raise ConfigError(f"{name}: the model knows no language {asked!r}."
                                  + nearest(asked, self.langs))
        return self._towards(self.source_lang if source_lang is None else source_lang,
                             self.target_lang if target_lang is None else target_lang)

    def _towards(self, source: str, target: str) -> Self:
        """This task for languages that the model knows ("": not said yet)."""
        if (source, target) == (self.source_lang, self.target_lang):
            return self
        config = dataclasses.replace(
            self.config, source_lang=source or None, target_lang=target or None)
        return dataclasses.replace(self, config=config, source_lang=source, target_lang=target)

    def _symbols(self) -> Mapping[str, str]:
        """`source` and `target` -> the symbol of its language ("" where there are none).

        Raises:
          ConfigError: the direction is not said.
        """
        if not self.langs:
            return {"source": "", "target": ""}
        found, forms = {}, self.forms
        used = " ".join((forms.source, forms.target, forms.start, forms.first, forms.end))
        for side, lang in (("source", self.source_lang), ("target", self.target_lang)):
            if not lang and f"{{{side}}}" in used:
                raise ConfigError(
                    f"{side}_lang: say which language: the model knows {', '.join(self.langs)} "
                    f"({side}_lang=... in Python, --{side}-lang on the command line)")
            found[side] = self.symbol_of(lang) if lang else ""
        return found

    @functools.cached_property
    def _frames(self) -> tuple[Frame, Frame]:
        symbols = self._symbols()
        return (self.forms.frame("source", self.source_vocab, symbols),
                self.forms.frame("target", self.target_vocab, symbols))

    @property
    def source_frame(self) -> Frame:
        return self._frames[0]

    @property
    def target_frame(self) -> Frame:
        return self._frames[1]

    @functools.cached_property
    def _form(self) -> TargetForm:
        return self.forms.target_form(self.target_vocab, self._symbols())

    @property
    def target_form(self) -> TargetForm:
        return self._form

    @functools.cached_property
    def _spoken_by_none(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of sources and of targets the ids that are no text."""
        if not self.langs:
            return self.source_frame.tokens, self.target_frame.tokens
        return self._unspoken(self.source_vocab), self._unspoken(self.target_vocab)

    @property
    def unspoken_source(self) -> tuple[int, ...]:
        return self._spoken_by_none[0]

    @property
    def unspoken_target(self) -> tuple[int, ...]:
        return self._spoken_by_none[1]

    def _unspoken(self, vocabulary: Vocabulary) -> tuple[int, ...]:
        """Ids of the languages' tokens."""
        symbols = (self.symbol_of(lang) for lang in self.langs)
        return tuple(vocabulary.indices[s] for s in symbols if s in vocabulary)

    def _check_alignments(self) -> None:
        """Alignments count words from 0."""
        if self.config.load_alignments and (self.source_frame.before or self.target_frame.before):
            raise ConfigError("config.task.load_alignments: alignments count words, in front of "
                              f"which {self.config.name} puts tokens; leave it out")


def check_known(langs: Sequence[str], key: str, lang: Any, *, of: str) -> None:
    """Refuses a language that is not among those of the task.

    Args:
      key: that names it.
      of: the key of `langs`.
    """
    if lang is not None and lang not in langs:
        raise ConfigError(f"config.task.{key}: {lang!r} is not one of config.task.{of}."
                          + nearest(str(lang), langs))
