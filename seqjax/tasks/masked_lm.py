"""Masked language modelling: from running text to blocks with masks, and what stood there.

fairseq's task of the same name (RoBERTa's), for models that read. What computes is imported
where it is used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from seqjax.config import ConfigError, GenerationConfig, gives
from seqjax.data.epoch_plan import Lengths
from seqjax.data.masking import Masking, replacement_weights
from seqjax.data.noised_blocks import CombinedBlocks, NoisedBlocks
from seqjax.tasks.entry import FairseqTask, TaskEntry
from seqjax.tasks.pretraining import MASK, Pretraining, PretrainingConfig, checked

if TYPE_CHECKING:  # they import JAX
    import jax

    from seqjax.losses.base import Forward
    from seqjax.models.protocol import MaskedLanguageModel, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedLMConfig(PretrainingConfig):
    """fairseq's `masked_lm`."""

    name: Literal["masked_lm"] = "masked_lm"  # type: ignore[assignment]
    """Chooses the task."""
    mask_prob: float = dataclasses.field(
        default=0.15, metadata=gives("masks", losses_only=True))
    """Share of the tokens that are to be predicted; which part of a token is left over is drawn."""
    leave_unmasked_prob: float = 0.1
    """Share of these that the model sees as they are."""
    random_token_prob: float = 0.1
    """Share of these that the model sees as another word."""
    freq_weighted_replacement: bool = False
    """Draw other words as often as the dictionary has counted them, not all alike."""
    mask_whole_words: bool = False
    """Take whole words instead of pieces of them (see `bpe`)."""
    mask_multiple_length: int = 1
    """Take so many tokens in a row, that many times fewer."""
    mask_stdev: float = 0.0
    """Draw that number around `mask_multiple_length`, with this standard deviation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Masked:
    """Masking as `noised_blocks.Noise`: sources and targets as long as their blocks."""

    masking: Masking

    def lengths(self, sizes: np.ndarray) -> Lengths:
        return Lengths(source=sizes)

    def __call__(
        self, tokens: np.ndarray, seed: int, *, limit: int
    ) -> tuple[np.ndarray, np.ndarray]:
        del limit
        return self.masking(tokens, seed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedLMTask(Pretraining):
    """See `pretraining.Pretraining`."""

    Config: ClassVar[type] = MaskedLMConfig
    facade: ClassVar[str] = "seqjax.hub.encoder:Encoder"
    model_protocol: ClassVar[str] = "seqjax.models.protocol:MaskedLanguageModel"
    config: MaskedLMConfig

    def __post_init__(self) -> None:
        self._masking()  # whose values are looked at before anything is computed

    def _masking(self) -> Masking:
        """What is drawn.

        Raises:
          ConfigError: values that make no sense, or pieces of which no words are known.
        """
        cfg, vocab = self.config, self.vocab
        words = self.word_starts("config.task.mask_whole_words") if cfg.mask_whole_words else None
        return checked(lambda: Masking(
            mask=self.mask, pad=vocab.pad, prob=cfg.mask_prob,
            leave_unmasked_prob=cfg.leave_unmasked_prob, random_token_prob=cfg.random_token_prob,
            weights=replacement_weights(vocab.counts, special=vocab.special(),
                                        by_frequency=cfg.freq_weighted_replacement),
            words=words, multiple_length=cfg.mask_multiple_length, stdev=cfg.mask_stdev))

    def dataset(
        self, split: str, *, need_target: bool = True
    ) -> NoisedBlocks | CombinedBlocks:
        """Blocks of a split with masks; of the training split, all its shards.

        Args:
          need_target: either way; every block is its own target.
        """
        del need_target
        return self._masked(self.config.data, split, self._noise_of())

    def _noise_of(self) -> _Masked:
        return _Masked(masking=self._masking())

    def _masked(self, data: str, split: str, noise: _Masked) -> NoisedBlocks:
        return NoisedBlocks(self.blocks(data, split), noise, seed=self.seed,
                            pad=self.vocab.pad, order_seed=self.seed)

    def max_positions(self, model: MaskedLanguageModel) -> tuple[int, None]:
        """Longest block: the smaller of the task's and the model's.

        Raises:
          ConfigError: blocks are made longer than the model takes.
        """
        if self.config.sample_break_mode != "eos" and self.too_long_advice(model):
            raise ConfigError(self.too_long_advice(model))
        return min(self.config.tokens_per_sample, model.max_source_positions), None

    def too_long_advice(self, model: MaskedLanguageModel) -> str:
        """Blocks are as long as the configuration says, which may be too long for the model."""
        length, limit = self.config.tokens_per_sample, model.max_source_positions
        if length <= limit:
            return ""
        return (f"config.task.tokens_per_sample is {length}, but the model takes {limit} tokens: "
                "lower it, or raise config.model.max_positions")

    def forward(
        self, model: MaskedLanguageModel, params: Params, batch: Mapping[str, jax.Array],
        rng: jax.Array | None = None, update: jax.Array | None = None,
    ) -> Forward:
        """The pass over a batch of [B, S] arrays `source` (what is read) and `target` (what stood
        behind the masks, padding elsewhere); pure.

        Args:
          rng: key of dropout, or None for none.
          update: int32 scalar, updates done before; nothing here depends on it.
        """
        del update
        import jax.numpy as jnp

        from seqjax.losses.base import Forward
        from seqjax.models.protocol import token_source

        segments = batch.get("source_segments")
        sentences = None
        if segments is not None:
            sentences = segments.max(axis=1).sum(dtype=jnp.float32)
        encoded = model.encode(
            params, token_source(batch["source"], pad=model.pad, segments=segments), rng=rng)
        return Forward(features=model.features(params, encoded), encoded=encoded,
                       target=batch["target"], pad=model.pad, sentences=sentences)

    def evaluator(
        self, model: MaskedLanguageModel, dataset: NoisedBlocks | CombinedBlocks, *,
        generation: GenerationConfig, limit: int = 0,
        sharding: jax.sharding.Sharding | None = None, row_multiple: int = 1,
    ) -> None:
        """None: how well masks are filled is what the loss says already."""
        del model, dataset, generation, limit, sharding, row_multiple


def adds_mask(section: Mapping[str, Any], data: str) -> tuple[str, ...]:
    """`FairseqTask.added` of tasks that add `<mask>` and nothing else."""
    del section, data
    return (MASK,)


ENTRY = TaskEntry(
    name="masked_lm", config=MaskedLMConfig, task="seqjax.tasks.masked_lm:MaskedLMTask",
    facade=MaskedLMTask.facade, fairseq=FairseqTask(name="masked_lm", added=adds_mask),
    huggingface="encoder", loss="masked_lm")
