"""Denoising of several languages of one dictionary: from their texts to noised blocks that end
in their language, small languages drawn more often than they are there (fairseq's task of the
name, mBART's)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from seqjax.config import ConfigError
from seqjax.data.noised_blocks import CombinedBlocks, NoisedBlocks
from seqjax.tasks import multilingual
from seqjax.tasks.denoising import DenoisingConfig, DenoisingTask, Noised
from seqjax.tasks.entry import FairseqTask, TaskEntry
from seqjax.tasks.pretraining import MASK, PretrainingConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultilingualDenoisingConfig(DenoisingConfig, multilingual.LanguagesConfig):
    """fairseq's `multilingual_denoising`. Unlike `denoising`, its sentences keep their `</s>`."""

    name: Literal["multilingual_denoising"] = (  # type: ignore[assignment]
        "multilingual_denoising")
    """Chooses the task."""
    add_lang_token: bool = False
    """Every block ends in the word of its language, `[de]`, instead of `</s>`; these words stand
    behind those of the dictionary, in the order of `langs`, in front of `<mask>`."""
    no_whole_word_mask_langs: tuple[str, ...] = ()
    """Languages without spaces, whose every token is a word."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultilingualDenoisingTask(multilingual.Languages, DenoisingTask):
    """See `multilingual.Languages`."""

    Config: ClassVar[type] = MultilingualDenoisingConfig
    config: MultilingualDenoisingConfig

    @classmethod
    def added(cls, config: PretrainingConfig) -> tuple[str, ...]:
        """Words of languages, and `<mask>`."""
        assert isinstance(config, MultilingualDenoisingConfig)
        return (*((f"[{lang}]" for lang in config.langs) if config.add_lang_token else ()), MASK)

    @classmethod
    def completed(cls, config: PretrainingConfig) -> PretrainingConfig:
        """With its languages."""
        assert isinstance(config, MultilingualDenoisingConfig)
        unknown = sorted(set(config.no_whole_word_mask_langs) - set(config.langs))
        langs = multilingual.languages_of(config.data, config.langs)
        if config.langs and unknown:
            raise ConfigError(f"config.task.no_whole_word_mask_langs: {unknown[0]!r} is not one of "
                              f"config.task.langs ({', '.join(langs)})")
        return dataclasses.replace(config, langs=langs)

    def dataset(
        self, split: str, *, need_target: bool = True
    ) -> NoisedBlocks | CombinedBlocks:
        """Noised blocks of all languages, or of one; those of the training split drawn by
        `multilang_sampling_alpha`."""
        del need_target
        return self.of_languages(split, self._noised)

    def _noised(self, lang: str, data: str, split: str) -> NoisedBlocks:
        cfg, vocab = self.config, self.vocab
        end = vocab.index(f"[{lang}]") if cfg.add_lang_token else vocab.eos
        words = None if lang in cfg.no_whole_word_mask_langs else self._words()
        return NoisedBlocks(
            self.blocks(data, split, end=end), Noised(noise=self._noise(words)), seed=self.seed,
            longest=cfg.max_source_positions, pad=vocab.pad)


def added(section: Mapping[str, Any], data: str) -> tuple[str, ...]:
    """`FairseqTask.added`."""
    if not section.get("add_lang_token"):
        return (MASK,)
    said = section.get("langs") or ()
    langs = [x for x in said.split(",") if x] if isinstance(said, str) else said
    return (*(f"[{lang}]" for lang in langs or multilingual.languages_of(data, ())), MASK)


ENTRY = TaskEntry(
    name="multilingual_denoising", config=MultilingualDenoisingConfig,
    task="seqjax.tasks.multilingual_denoising:MultilingualDenoisingTask",
    facade=MultilingualDenoisingTask.facade, own_order=True,
    fairseq=FairseqTask(name="multilingual_denoising", added=added))
