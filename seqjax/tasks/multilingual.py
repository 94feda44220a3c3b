"""Several languages of one dictionary, each in a folder of its own, for tasks that learn from
text: which they are, and how often each is seen.

A data folder with `dict.txt` and a folder for each language goes in; names and samples come out.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence

from seqjax.config import ConfigError
from seqjax.data import folder
from seqjax.data.dictionaries import first_difference
from seqjax.data.noised_blocks import CombinedBlocks, NoisedBlocks
from seqjax.data.resampling import Resampling
from seqjax.data.tokenizers import Tokenizer
from seqjax.data.vocabulary import Vocabulary
from seqjax.tasks.pretraining import Pretraining, PretrainingConfig, with_words


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguagesConfig(PretrainingConfig):
    """Keys of tasks of several languages; each is the text of a folder `data/LANGUAGE`."""

    langs: tuple[str, ...] = ()
    """The languages, in this order (empty: all folders there are, by name)."""
    multilang_sampling_alpha: float = 1.0
    """Samples of a language are drawn in proportion to its share of all to this power: below 1,
    small languages are seen more often than they are there."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Languages(Pretraining):
    """What tasks of several languages read of a data folder, and how their samples are drawn. A
    split `valid_de` is that of one language."""

    config: LanguagesConfig

    @classmethod
    def completed(cls, config: PretrainingConfig) -> PretrainingConfig:
        """With its languages."""
        config = _section(config)
        return dataclasses.replace(config, langs=languages_of(config.data, config.langs))

    @classmethod
    def _dictionary(cls, data: str, config: PretrainingConfig) -> Vocabulary:
        return with_words(dictionary_of(data, _section(config).langs), cls.added(config))

    @classmethod
    def _tokenizer(cls, config: PretrainingConfig) -> Tokenizer | None:
        return tokenizer_of(config.data, _section(config).langs)

    def of_languages(
        self, split: str, make: Callable[[str, str, str], NoisedBlocks]
    ) -> NoisedBlocks | CombinedBlocks:
        """Samples of all languages, or of one; those of the training split drawn by
        `multilang_sampling_alpha`.

        Args:
          make: gives those of a language, its folder and the split.
        """
        cfg = self.config
        split, lang = single(cfg, split)
        parts = each(cfg, lambda name, data: make(name, data, split))
        if lang is not None:
            return parts[lang]
        return combined(parts, alpha=(
            cfg.multilang_sampling_alpha if split == cfg.train_subset else None))


def languages_of(data: str, langs: Sequence[str]) -> tuple[str, ...]:
    """The languages that are asked for, or all that there are.

    Raises:
      ConfigError: one has no folder, or there is none.
    """
    there = sorted(name for name in os.listdir(data) if os.path.isdir(os.path.join(data, name)))
    missing = [lang for lang in langs if lang not in there]
    if missing:
        raise ConfigError(f"config.task.langs: {data} has no folder {missing[0]!r}; there are "
                          f"{', '.join(there) or 'none'}")
    if not there:
        raise ConfigError(f"config.task.data: {data} has no folders of languages: make "
                          f"{os.path.join(data, 'LANGUAGE')} for each with python -m "
                          "seqjax.preprocess --only-source --srcdict")
    return tuple(langs) or tuple(there)


def dictionary_of(data: str, langs: Sequence[str]) -> Vocabulary:
    """The dictionary of all languages.

    Raises:
      ConfigError: there is none, or a language has another.
    """
    path = folder.dictionary_path(data)
    if not os.path.isfile(path):
        raise ConfigError(f"{path}: missing: the dictionary of all languages stands there; copy "
                          "that of a language's folder, if they were preprocessed with one "
                          "(--srcdict)")
    found = folder.load_dictionary(data)
    for lang in langs:
        place = os.path.join(data, lang)
        if not os.path.isfile(folder.dictionary_path(place)):
            continue  # fairseq's folders may have none
        difference = first_difference(found.symbols, folder.load_dictionary(place).symbols)
        if difference is not None:
            raise ConfigError(f"{folder.dictionary_path(place)}: is not {path}: {difference}; "
                              f"preprocess all languages with --srcdict {path}")
    return found


def tokenizer_of(data: str, langs: Sequence[str]) -> Tokenizer | None:
    """What cuts text into pieces, if it is the same of all languages."""
    found = [folder.load_tokenizers(place).get("")
             for place in (data, *(os.path.join(data, lang) for lang in langs))]
    first = next((t for t in found if t is not None), None)
    return first if all(t is None or t == first for t in found) else None


def combined(parts: Mapping[str, NoisedBlocks], *, alpha: float | None) -> CombinedBlocks:
    """All languages' samples.

    Args:
      alpha: `multilang_sampling_alpha`; None: every sample once.
    """
    sizes = [len(part) for part in parts.values()]
    mixture = None if alpha is None else Resampling.of(sizes, alpha=alpha)
    return CombinedBlocks(list(parts.values()), mixture=mixture)


def each(
    config: LanguagesConfig, make: Callable[[str, str], NoisedBlocks]
) -> dict[str, NoisedBlocks]:
    """What `make` makes of each language and its folder."""
    langs = languages_of(config.data, config.langs)
    return {lang: make(lang, os.path.join(config.data, lang)) for lang in langs}


def _section(config: PretrainingConfig) -> LanguagesConfig:
    """The section of a task of several languages as what it is."""
    assert isinstance(config, LanguagesConfig)
    return config


def single(config: LanguagesConfig, split: str) -> tuple[str, str | None]:
    """fairseq's `valid_de`: the split of one language. Gives the split and the language."""
    for lang in languages_of(config.data, config.langs):
        if split.endswith(f"_{lang}"):
            return split.removesuffix(f"_{lang}"), lang
    return split, None
