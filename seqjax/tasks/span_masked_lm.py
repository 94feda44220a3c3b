"""Span masking: from running text to texts with gaps, and the spans that were there.

fairseq's task of the same name (T5's objective), for models that read and write.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import numpy as np

from seqjax.config import ConfigError
from seqjax.data.epoch_plan import Lengths
from seqjax.data.noised_blocks import NoisedBlocks
from seqjax.data.span_masking import SpanMasking
from seqjax.tasks.denoising import Writing, WritingConfig
from seqjax.tasks.entry import FairseqTask, TaskEntry
from seqjax.tasks.pretraining import PretrainingConfig, checked


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpanMaskedLMConfig(WritingConfig):
    """fairseq's `span_masked_lm`."""

    name: Literal["span_masked_lm"] = "span_masked_lm"  # type: ignore[assignment]
    """Chooses the task."""
    noise_density: float = 0.15
    """Share of the tokens that are taken out."""
    mean_noise_span_length: float = 3.0
    """Their mean number in a row, 1 or more."""
    sentinels: int = 0
    """Words `<sentinel:0>`, `<sentinel:1>`, ... that are put behind those of the dictionary to
    mark gaps, the last one the first gap of a text. 0, as in fairseq: the dictionary's own last
    words mark them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Spans:
    """Span masking as `noised_blocks.Noise`; lengths are known exactly."""

    masking: SpanMasking

    def lengths(self, sizes: np.ndarray) -> Lengths:
        source, target = self.masking.lengths(sizes)
        return Lengths(source=source, target=target)

    def __call__(
        self, tokens: np.ndarray, seed: int, *, limit: int
    ) -> tuple[np.ndarray, np.ndarray]:
        del limit
        return self.masking(tokens, seed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpanMaskedLMTask(Writing):
    """See `pretraining.Pretraining`."""

    Config: ClassVar[type] = SpanMaskedLMConfig
    config: SpanMaskedLMConfig

    @classmethod
    def added(cls, config: PretrainingConfig) -> tuple[str, ...]:
        """Words that mark gaps."""
        assert isinstance(config, SpanMaskedLMConfig)
        return tuple(f"<sentinel:{k}>" for k in range(config.sentinels))

    def __post_init__(self) -> None:
        self._masking()  # whose values are looked at before anything is computed

    def _masking(self) -> SpanMasking:
        """What is drawn.

        Raises:
          ConfigError: values that make no sense.
        """
        cfg = self.config
        if cfg.sentinels < 0:
            raise ConfigError(f"config.task.sentinels: {cfg.sentinels} is below 0")
        return checked(lambda: SpanMasking(
            entries=len(self.vocab), noise_density=cfg.noise_density,
            mean_noise_span_length=cfg.mean_noise_span_length))

    def dataset(self, split: str, *, need_target: bool = True) -> NoisedBlocks:
        """Blocks of a split with gaps; of the training split, all its shards.

        Args:
          need_target: either way; every block has the target that it lacks.

        Raises:
          ConfigError: blocks with more gaps than there are words for them.
        """
        del need_target
        blocks = self.blocks(self.config.data, split, end=self.vocab.eos, strip=True)
        masking = self._masking()
        gaps = int(masking.counts(blocks.sizes)[1].max())
        words = self.config.sentinels or len(self.vocab) - self.vocab.num_special
        if gaps > words:
            raise ConfigError(
                f"config.task.sentinels: blocks of {int(blocks.sizes.max())} tokens have {gaps} "
                f"gaps, and there are {words} words to mark them with; set it to {gaps} or more")
        return NoisedBlocks(blocks, _Spans(masking=masking), seed=self.seed, pad=self.vocab.pad)


ENTRY = TaskEntry(
    name="span_masked_lm", config=SpanMaskedLMConfig,
    task="seqjax.tasks.span_masked_lm:SpanMaskedLMTask", facade=SpanMaskedLMTask.facade,
    fairseq=FairseqTask(name="span_masked_lm"))
