"""Masked language modelling of several languages of one dictionary: from their texts to blocks
with masks, small languages drawn more often than they are there (fairseq's task of the name)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from seqjax.data.blocks import BreakMode
from seqjax.data.noised_blocks import CombinedBlocks, NoisedBlocks
from seqjax.tasks import multilingual
from seqjax.tasks.entry import FairseqTask, TaskEntry
from seqjax.tasks.masked_lm import MaskedLMConfig, MaskedLMTask, adds_mask


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
class MultilingualMaskedLMTask(multilingual.Languages, MaskedLMTask):
    """See `multilingual.Languages`."""

    Config: ClassVar[type] = MultilingualMaskedLMConfig
    config: MultilingualMaskedLMConfig

    def dataset(
        self, split: str, *, need_target: bool = True
    ) -> NoisedBlocks | CombinedBlocks:
        """Blocks of all languages, or of one, with masks; those of the training split drawn by
        `multilang_sampling_alpha`."""
        del need_target
        noise = self._noise_of()
        return self.of_languages(split, lambda _, data, split: self._masked(data, split, noise))


ENTRY = TaskEntry(
    name="multilingual_masked_lm", config=MultilingualMaskedLMConfig,
    task="seqjax.tasks.multilingual_masked_lm:MultilingualMaskedLMTask",
    facade=MultilingualMaskedLMTask.facade, own_order=True,
    fairseq=FairseqTask(name="multilingual_masked_lm", added=adds_mask))
