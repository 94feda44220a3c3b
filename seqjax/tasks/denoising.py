"""Denoising: from running text to noised texts, and the texts to be written of them.

fairseq's task of the same name (BART's), for models that read and write. What computes is
imported where it is used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from seqjax.config import ConfigError, GenerationConfig
from seqjax.data.blocks import BreakMode
from seqjax.data.denoising import Denoising, MaskLength
from seqjax.data.epoch_plan import Lengths
from seqjax.data.noised_blocks import CombinedBlocks, NoisedBlocks
from seqjax.data.word_starts import WordStarts
from seqjax.tasks.entry import FairseqTask, TaskEntry
from seqjax.tasks.masked_lm import adds_mask
from seqjax.tasks.pretraining import Pretraining, PretrainingConfig, checked

if TYPE_CHECKING:  # they import JAX
    import jax

    from seqjax.losses.base import Forward
    from seqjax.models.protocol import EncoderDecoder, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class WritingConfig(PretrainingConfig):
    """Keys of tasks whose models write what is to be restored."""

    max_source_positions: int = 1024
    """Longest source that is kept; the model's limit counts too."""
    max_target_positions: int = 1024
    """The same for the target."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenoisingConfig(WritingConfig):
    """fairseq's `denoising`."""

    name: Literal["denoising"] = "denoising"  # type: ignore[assignment]
    """Chooses the task."""
    tokens_per_sample: int = 512
    """Tokens of a block, special symbols included."""
    sample_break_mode: BreakMode = "complete_doc"
    """Where blocks may end: anywhere (`none`), between sentences (`complete`), also
    between documents, which an empty line separates (`complete_doc`); or every sentence
    is a block (`eos`)."""
    mask: float = 0.0
    """Share of the words (of the tokens, with `mask_length` subword) that are masked."""
    mask_random: float = 0.0
    """Share of the masks that are random words instead, and of the insertions."""
    mask_length: MaskLength = "subword"
    """What is masked: tokens, words, or spans of words whose lengths are Poisson's. An empty
    span inserts a word."""
    replace_length: int = 0
    """What stands for what was masked: nothing (0), one `<mask>` (1), or one a token (-1)."""
    poisson_lambda: float = 3.0
    """Mean length of a span."""
    insert: float = 0.0
    """Insertions, as a share of the tokens."""
    rotate: float = 0.5
    """Share of the blocks that begin at another place."""
    permute_sentences: float = 0.0
    """Share of each block's sentences that change places."""
    full_stop: str | None = None
    """Word that ends a sentence for `permute_sentences` (None, as in fairseq: `13` with `bpe`
    gpt2, else `</s>`, of which there is none inside a block of this task)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noised:
    """Noise as `noised_blocks.Noise`: the block is the target."""

    noise: Denoising

    def lengths(self, sizes: np.ndarray) -> Lengths:
        return Lengths(source=self.noise.longest(sizes), target=sizes)

    def __call__(
        self, tokens: np.ndarray, seed: int, *, limit: int
    ) -> tuple[np.ndarray, np.ndarray]:
        return self.noise(tokens, seed, limit=limit), tokens


@dataclasses.dataclass(frozen=True, kw_only=True)
class Writing(Pretraining):
    """What tasks share whose models write what is to be restored."""

    facade: ClassVar[str] = "seqjax.hub.translator:Translator"
    model_protocol: ClassVar[str] = "seqjax.models.protocol:EncoderDecoder"
    config: WritingConfig

    def longest(self) -> int:
        """Tokens of the longest source that a block becomes."""
        return self.config.tokens_per_sample

    def max_positions(self, model: EncoderDecoder) -> tuple[int, int]:
        """Longest source and target: the smaller of the task's limit and the model's.

        Raises:
          ConfigError: blocks are made longer than the model takes, or than it takes with
            insertions.
        """
        if self.config.sample_break_mode != "eos" and self.too_long_advice(model):
            raise ConfigError(self.too_long_advice(model))
        return self._limits(model)

    def _limits(self, model: EncoderDecoder) -> tuple[int, int]:
        return (min(self.config.max_source_positions, model.max_source_positions),
                min(self.config.max_target_positions, model.max_target_positions))

    def too_long_advice(self, model: EncoderDecoder) -> str:
        """Blocks are as long as the configuration says, which may be too long for the model."""
        cfg, (source, target) = self.config, self._limits(model)
        if cfg.tokens_per_sample <= source < min(self.longest(), cfg.max_source_positions):
            return (f"insertions make sources longer than blocks are, and the model takes {source} "
                    f"tokens: set config.task.max_source_positions={source}, and they will be made "
                    "as far as there is room")
        if cfg.tokens_per_sample <= min(source, target):
            return ""
        return (f"config.task.tokens_per_sample is {cfg.tokens_per_sample}, but the model takes "
                f"{source} source and {target} target tokens: lower it, or raise "
                "config.model.max_source_positions and config.model.max_target_positions")

    def forward(
        self, model: EncoderDecoder, params: Params, batch: Mapping[str, jax.Array],
        rng: jax.Array | None = None, update: jax.Array | None = None,
    ) -> Forward:
        """The teacher-forced pass over a batch of `source` [B, S] and `target` [B, T]; pure.

        Args:
          rng: key of dropout, or None for none.
          update: int32 scalar, updates done before; nothing here depends on it.
        """
        del update
        import jax.numpy as jnp

        from seqjax.generation.teacher_forcing import final_token_first
        from seqjax.losses.base import Forward
        from seqjax.models.protocol import segment_positions, token_source

        target, segments = batch["target"], batch.get("target_segments")
        source = token_source(
            batch["source"], pad=model.pad, segments=batch.get("source_segments"))
        encoded = model.encode(params, source, rng=rng)
        prev = final_token_first(target, segments, pad=model.pad)
        features = model.features(params, prev, encoded, segments=segments, rng=rng)
        sentences = positions = None
        if segments is not None:
            sentences = segments.max(axis=1).sum(dtype=jnp.float32)
            positions = segment_positions(segments)
        return Forward(features=features, target=target, pad=model.pad, positions=positions,
                       sentences=sentences)

    def evaluator(
        self, model: EncoderDecoder, dataset: NoisedBlocks | CombinedBlocks, *,
        generation: GenerationConfig, limit: int = 0,
        sharding: jax.sharding.Sharding | None = None, row_multiple: int = 1,
    ) -> None:
        """None: how well texts are restored is what the loss says already."""
        del model, dataset, generation, limit, sharding, row_multiple


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenoisingTask(Writing):
    """See `pretraining.Pretraining`."""

    Config: ClassVar[type] = DenoisingConfig
    config: DenoisingConfig

    def __post_init__(self) -> None:
        self._noise(self._words())  # whose values are looked at before anything is computed

    def _words(self) -> WordStarts | None:
        """Where words begin, where that is asked."""
        if self.config.mask <= 0 or self.config.mask_length == "subword":
            return None
        # Where nobody says what the pieces are, every token is a word, as in fairseq.
        return self.word_starts("config.task.mask_length", needed=False)

    def _noise(self, words: WordStarts | None) -> Denoising:
        """What is drawn.

        Raises:
          ConfigError: values that make no sense.
        """
        cfg, vocab = self.config, self.vocab
        return checked(lambda: Denoising(
            entries=len(vocab), mask_id=self.mask, full_stop=self._full_stop(), words=words,
            **{key: getattr(cfg, key) for key in (
                "mask", "mask_random", "mask_length", "replace_length", "poisson_lambda",
                "insert", "rotate", "permute_sentences")}))

    def longest(self) -> int:
        """Tokens of the longest source that a block becomes."""
        size = np.array([self.config.tokens_per_sample])
        return int(self._noise(None).longest(size)[0])

    def _full_stop(self) -> int:
        """Id of the word that ends a sentence."""
        word = self.config.full_stop
        if word is None:
            return self.vocab.index("13") if self.config.bpe == "gpt2" else self.vocab.eos
        if word not in self.vocab:
            raise ValueError(f"full_stop: {word!r} is no word of the dictionary")
        return self.vocab.index(word)

    def dataset(
        self, split: str, *, need_target: bool = True
    ) -> NoisedBlocks | CombinedBlocks:
        """Noised blocks of a split; of the training split, all its shards.

        Args:
          need_target: either way; every block is its own target.
        """
        del need_target
        blocks = self.blocks(self.config.data, split, end=self.vocab.eos, strip=True)
        return NoisedBlocks(blocks, Noised(noise=self._noise(self._words())), seed=self.seed,
                            longest=self.config.max_source_positions, pad=self.vocab.pad)


ENTRY = TaskEntry(
    name="denoising", config=DenoisingConfig, task="seqjax.tasks.denoising:DenoisingTask",
    facade=DenoisingTask.facade, fairseq=FairseqTask(name="denoising", added=adds_mask))
