"""Target texts of speech to text: lines and languages in, ids out, by the dictionary and the
tokenizers that config.yaml names.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from seqjax.config import ConfigError, nearest
from seqjax.data import compression, tokenizers
from seqjax.data.audio.s2t_config import S2TDataConfig
from seqjax.data.audio.s2t_table import SpeechTable
from seqjax.data.sources import require_file
from seqjax.data.tokenizers import files
from seqjax.data.vocabulary import Vocabulary

logger = logging.getLogger(__name__)
LANGUAGE_TAG = "<lang:{}>"
_PLAIN = ("characters", "bytes")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TargetText:
    """How texts become ids."""

    vocabulary: Vocabulary
    tokenizer: tokenizers.Tokenizer | None = None
    """None: white space separates pieces already."""
    tag_first: bool = False
    """`<lang:XX>` in front (`prepend_tgt_lang_tag`)."""
    tag_last: bool = False
    """`<s>` in front, `<lang:XX>` behind eos (`prepend_bos_and_append_tgt_lang_tag`)."""
    append_eos: bool = True
    """CTC wants none."""

    @classmethod
    def load(
        cls, folder: str, config: S2TDataConfig, *, vocabulary: Vocabulary | None = None
    ) -> TargetText:
        """What config.yaml says.

        Args:
          folder: of the data, where the dictionary is.
          vocabulary: another one than there.

        Raises:
          FileNotFoundError: there is no dictionary.
          ConfigError: a tokenizer that there is not, or without its files.
        """
        if vocabulary is None:
            path = os.path.join(folder, config.vocab_filename)
            require_file(path)
            vocabulary = Vocabulary.load(path)
        parts = [part for part in (_words(config), _pieces(config)) if part is not None]
        return cls(vocabulary=vocabulary, tokenizer=tokenizers.chain(parts) if parts else None,
                   tag_first=config.prepend_tgt_lang_tag,
                   tag_last=config.prepend_bos_and_append_tgt_lang_tag)

    def tag(self, language: str) -> int:
        """The id of a language.

        Raises:
          ConfigError: the dictionary has none.
        """
        word = LANGUAGE_TAG.format(language)
        if word not in self.vocabulary:
            raise ConfigError(f"the dictionary has no {word!r}, which config.yaml wants in every "
                              "target: prepare the data with language tags")
        return self.vocabulary.index(word)

    def ids(self, text: str, language: str = "") -> np.ndarray:
        """[T] int32 of a text, tags and eos included."""
        if self.tokenizer is not None:
            text = self.tokenizer.encode(text)
        found = self.vocabulary.encode_line(text, append_eos=self.append_eos)
        before = [self.tag(language)] if self.tag_first else []
        after = []
        if self.tag_last:
            before, after = [self.vocabulary.bos, *before], [self.tag(language)]
        return np.concatenate([before, found, after]).astype(np.int32)

    def check(self, table: SpeechTable) -> None:
        """Raises ConfigError for a language without a tag; says how many words of a table the
        dictionary does not have."""
        if self.tag_first or self.tag_last:
            for language in sorted(set(table.columns["tgt_lang"])):
                self.tag(language)

    def count(self, table: SpeechTable) -> np.ndarray:
        """[N] int32 ids of each target of a table; says how many are unknown words'."""
        found = [self.ids(*row) for row in zip(
            table.columns["tgt_text"], table.columns["tgt_lang"], strict=True)]
        unknown = sum(int((ids == self.vocabulary.unk).sum()) for ids in found)
        counts = np.array([len(ids) for ids in found], np.int32)
        logger.info("%s: %.2f%% of the target pieces are not in the dictionary", table.split,
                    100 * unknown / max(int(counts.sum()), 1))
        return counts


def _words(config: S2TDataConfig) -> tokenizers.Tokenizer | None:
    said = config.pre_tokenizer
    name = said.get("tokenizer")
    if name is None:
        return None
    if name == "moses":
        return tokenizers.MosesTokenizer(
            lang=said.get("source_lang") or said.get("target_lang") or "en",
            dash_splits=not said.get("moses_no_dash_splits", False),
            escape=not said.get("moses_no_escape", False))
    if name == "space":
        return tokenizers.WhitespaceTokenizer()
    raise ConfigError(f"{config.path}: pre_tokenizer.tokenizer: {name!r} is unknown."
                      f"{nearest(str(name), ('moses', 'space'))}")


def _pieces(config: S2TDataConfig) -> tokenizers.Tokenizer | None:
    said: Mapping[str, Any] = config.bpe_tokenizer
    name = said.get("bpe")
    if name is None:
        return None
    if name in _PLAIN:
        return tokenizers.TOKENIZERS[name]()
    if name not in files.KINDS:
        raise ConfigError(f"{config.path}: bpe_tokenizer.bpe: {name!r} is unknown."
                          f"{nearest(str(name), (*_PLAIN, *files.KINDS))}")
    parts = files.KINDS[name].parts
    gone = [f"{said[p.flag]} is no file" for p in parts
            if said.get(p.flag) and not os.path.isfile(str(said[p.flag]))]
    found, missing = files.find(name, said, places=(os.path.dirname(config.path),))
    if gone or missing:
        raise ConfigError(f"{config.path}: bpe_tokenizer: {name} needs "
                          f"{', '.join(part.flag for part in parts)}"
                          + "".join(f" ({text})" for text in gone))
    try:
        return files.read(name, found, said)
    except (tokenizers.TokenizerError, compression.CompressionError) as error:
        raise ConfigError(f"{config.path}: bpe_tokenizer: {error}") from None
