"""Masked language modelling of several languages of one dictionary: from their texts to blocks
with masks, small languages drawn more often than they are there (fairseq's task of the name)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from seqjax.data.blocks import BreakMode
from seqjax.data.noised_blocks import CombinedBlocks, NoisedBlocks
from seqjax.data.tokenizers import Tokenizer
from seqjax.data.vocabulary import Vocabulary
from seqjax.tasks import multilingual
from seqjax.tasks.entry import FairseqTask, TaskEntry
from seqjax.tasks.masked_lm import MaskedLMConfig, MaskedLMTask, adds_mask
from seqjax.tasks.pretraining import PretrainingConfig, with_words


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultilingualMaskedLMConfig(MaskedLMConfig, multilingual.LanguagesConfig):
    """fairseq's `multilingual_masked_lm`, which has no `langs`: all folders there are."""

    name: Literal["multilingual_masked_lm"] = (  # type: ignore[assignment]
        "multilingual_masked_lm")
    """Chooses the task."""
    tokens_per_sample: int = 512
    """Tokens of a block, special symbols included."""
    sample_break_mode: BreakMode = "complete"
    """Where blocks may end: anywhere (`none`), between sentences (`complete`), also
    between documents, which an empty line separates (`complete_doc`); or every sentence
    is a block (`eos`)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultilingualMaskedLMTask(MaskedLMTask):
    """See `pretraining.Pretraining`. A split `valid_de` is that of one language."""

    Config: ClassVar[type] = MultilingualMaskedLMConfig
    config: MultilingualMaskedLMConfig

    @classmethod
    def completed(cls, config: PretrainingConfig) -> PretrainingConfig:
        """With its languages."""
        config = multilingual.languages_config(config)
        langs = multilingual.languages_of(config.data, config.langs)
        return dataclasses.replace(config, langs=langs)

    @classmethod
    def _dictionary(cls, data: str, config: PretrainingConfig) -> Vocabulary:
        langs = multilingual.languages_config(config).langs
        return with_words(multilingual.dictionary_of(data, langs), cls.added(config))

    @classmethod
    def _tokenizer(cls, config: PretrainingConfig) -> Tokenizer | None:
        return multilingual.tokenizer_of(
            config.data, multilingual.languages_config(config).langs)

    def dataset(
        self, split: str, *, need_target: bool = True
    ) -> NoisedBlocks | CombinedBlocks:
        """Blocks of all languages, or of one, with masks; those of the training split drawn by
        `multilang_sampling_alpha`."""
        del need_target
        cfg, noise = self.config, self._noise_of()
        split, lang = multilingual.single(cfg, split)
        parts = multilingual.each(cfg, lambda _, data: self._masked(data, split, noise))
        if lang is not None:
            return parts[lang]
        alpha = cfg.multilang_sampling_alpha if split == cfg.train_subset else None
        return multilingual.combined(parts, alpha=alpha)


ENTRY = TaskEntry(
    name="multilingual_masked_lm", config=MultilingualMaskedLMConfig,
    task="seqjax.tasks.multilingual_masked_lm:MultilingualMaskedLMTask",
    facade=MultilingualMaskedLMTask.facade, own_order=True,
    fairseq=FairseqTask(name="multilingual_masked_lm", added=adds_mask))
