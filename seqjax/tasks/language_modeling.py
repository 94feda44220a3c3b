"""Language modelling: from running text of a data folder to blocks, a loss and text.

fairseq's task of the same name, for models that predict the next token. What computes is
imported where it is used.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from seqjax.config import Config, ConfigError, GenerationConfig
from seqjax.data import folder, id_ranges, indexed
from seqjax.data.blocks import BreakMode, ShortenMethod, TokenBlocks
from seqjax.tasks import assets
from seqjax.tasks.entry import FairseqTask, TaskEntry
from seqjax.tasks.text import OneVocabulary

if TYPE_CHECKING:  # they import JAX
    import jax

    from seqjax.losses.base import Forward
    from seqjax.models.protocol import LanguageModel, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageModelingConfig:
    """fairseq's `language_modeling`."""

    name: Literal["language_modeling"] = "language_modeling"
    """Chooses the task."""
    data: str = ""
    """Folder that `seqjax.preprocess --only-source` or fairseq-preprocess made."""
    lang: str | None = None
    """Language of the files' names (None: they have none)."""
    train_subset: str = "train"
    """Split of the data to learn from."""
    sample_break_mode: BreakMode = "none"
    """Where blocks may end: anywhere (`none`), between sentences (`complete`), also
    between documents, which an empty line separates (`complete_doc`); or every sentence
    is a block (`eos`)."""
    tokens_per_sample: int = 1024
    """Tokens of a block."""
    prompt_start: tuple[int, ...] | None = None
    """Ids that stand in front of a prompt that is a text, while one of ids begins with its own
    first token, as in transformers (None: prompts stand behind eos, or `<s>`, as in fairseq)."""
    add_bos_token: bool = False
    """Put `<s>` in front of every block."""
    output_dictionary_size: int = -1
    """Predict only the first so many entries of the dictionary (negative: all); others
    become `<unk>`."""
    max_target_positions: int | None = None
    """Longest block that is kept (None: the model's limit)."""
    shorten_method: ShortenMethod = "none"
    """Cut sentences of more than `tokens_per_sample` tokens: keep the first ones
    (`truncate`) or a random window (`random_crop`)."""
    shorten_data_split_list: tuple[str, ...] = ()
    """Splits to be shortened (empty: all)."""
    post_process: str | None = None
    """How pieces become words where the data folder holds no tokenizer: `@@ `,
    `sentencepiece`, ..."""

    def __post_init__(self) -> None:
        if self.tokens_per_sample < 1:
            raise ConfigError(
                f"config.task.tokens_per_sample: {self.tokens_per_sample}; it must be 1 or more"
            )
        if 0 <= self.output_dictionary_size < 5:
            raise ConfigError(
                f"config.task.output_dictionary_size: {self.output_dictionary_size} entries are "
                "special symbols only; give more, or -1 for all"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageModelingTask(OneVocabulary):
    """One corpus; made by `setup` from a data folder or by `from_assets`."""

    Config: ClassVar[type] = LanguageModelingConfig
    facade: ClassVar[str] = "seqjax.hub.language_model:LanguageModel"
    model_protocol: ClassVar[str] = "seqjax.models.protocol:LanguageModel"
    config: LanguageModelingConfig

    @classmethod
    def setup(cls, config: Config) -> LanguageModelingTask:
        """Reads what the data folder says of the vocabulary and the tokenizer.

        Raises:
          ConfigError: there is no such folder.
        """
        cfg = cast(LanguageModelingConfig, config.task)
        if not cfg.data:
            raise ConfigError("config.task.data: name the folder with the preprocessed data")
        if not os.path.isdir(cfg.data):
            raise ConfigError(f"config.task.data: {cfg.data}: no such folder")
        return cls(
            config=cfg, seed=config.seed,
            vocab=folder.load_dictionary(cfg.data, cfg.lang),
            tokenizer=folder.load_tokenizers(cfg.data).get(cfg.lang or ""),
        )

    @property
    def lang(self) -> str:
        """Language of the files' names; "": they have none."""
        return self.config.lang or ""

    @classmethod
    def from_assets(cls, config: Config, files: Mapping[str, bytes]) -> LanguageModelingTask:
        """The task of a checkpoint: `config` as it was resolved, `files` of `assets`."""
        cfg = cast(LanguageModelingConfig, config.task)
        lang = cfg.lang or ""
        return cls(
            config=cfg, seed=config.seed,
            vocab=assets.unpack_vocabulary(lang, files),
            tokenizer=assets.unpack_tokenizer(lang, files),
        )

    @property
    def output_size(self) -> int:
        """Entries that are predicted."""
        size = self.config.output_dictionary_size
        return len(self.vocab) if size < 0 else min(size, len(self.vocab))

    @property
    def first_token(self) -> int:
        """What generation and scoring begin with: `<s>` with `add_bos_token`, else eos."""
        return self.vocab.bos if self.config.add_bos_token else self.vocab.eos

    def max_positions(self, model: LanguageModel) -> tuple[None, int]:
        """Longest block: the smaller of the task's limit and the model's; no source.

        fairseq does not count `<s>`, so neither does the limit.
        """
        limit = model.max_target_positions
        if self.config.max_target_positions is not None:
            limit = min(limit, self.config.max_target_positions)
        return None, limit + int(self.config.add_bos_token)

    def check_folder(self, data: str) -> None:
        """Refuses a data folder whose dictionary is not the model's.

        Raises:
          ConfigError: naming the dictionary.
        """
        path = folder.dictionary_path(data, self.config.lang)
        self._check_same(path, folder.load_dictionary(data, self.config.lang))

    def dataset(self, split: str, *, need_target: bool = True) -> TokenBlocks:
        """Blocks of a split; of the training split, all its shards one after the other.

        Args:
          need_target: either way; every block is its own target.
        """
        del need_target
        cfg = self.config
        prefixes = folder.mono_prefixes(
            cfg.data, split, lang=cfg.lang, combine=split == cfg.train_subset
        )
        limit = id_ranges.Limit(
            path=folder.dictionary_path(cfg.data, cfg.lang), entries=len(self.vocab))
        for prefix in prefixes:
            id_ranges.check(prefix, limit)
        shorten = not cfg.shorten_data_split_list or split in cfg.shorten_data_split_list
        try:
            return TokenBlocks(
                [indexed.IndexedDataset(p) for p in prefixes],
                tokens_per_sample=cfg.tokens_per_sample, break_mode=cfg.sample_break_mode,
                add_bos_token=cfg.add_bos_token, seed=self.seed,
                output_size=self.output_size if self.output_size < len(self.vocab) else None,
                shorten_method=cfg.shorten_method if shorten else "none",
                special_ids=self.vocab.special_ids,
            )
        except indexed.IndexedDatasetError:
            raise
        except ValueError as error:
            raise ConfigError(f"{prefixes[0]}: {error}") from None

    def train_dataset(self) -> TokenBlocks:
        """Blocks to learn from."""
        return self.dataset(self.config.train_subset)

    def too_long_advice(self, model: LanguageModel) -> str:
        """Blocks are as long as the configuration says, which may be too long for the model."""
        length, limit = self.config.tokens_per_sample, self.max_positions(model)[1]
        if length <= limit:
            return ""
        return (f"config.task.tokens_per_sample is {length}, but the model takes {limit} tokens: "
                "lower it, or raise config.model.max_target_positions")

    def forward(
        self, model: LanguageModel, params: Params, batch: Mapping[str, jax.Array],
        rng: jax.Array | None = None, update: jax.Array | None = None,
    ) -> Forward:
        """The pass over a batch of [B, T] arrays `source` (what came before) and `target`; pure.

        Args:
          rng: key of dropout, or None for none.
          update: int32 scalar, updates done before; nothing here depends on it.
        """
        del update
        import jax.numpy as jnp

        from seqjax.losses.base import Forward

        segments = batch.get("target_segments")
        sentences = None
        if segments is not None:
            sentences = segments.max(axis=1).sum(dtype=jnp.float32)
        features = model.features(params, batch["source"], segments=segments, rng=rng)
        return Forward(features=features, target=batch["target"], pad=model.pad,
                       sentences=sentences)

    def evaluator(
        self, model: LanguageModel, dataset: TokenBlocks, *, generation: GenerationConfig,
        limit: int = 0, sharding: jax.sharding.Sharding | None = None, row_multiple: int = 1,
    ) -> None:
        """None: how well text is predicted is what the loss says already."""
        del model, dataset, generation, limit, sharding, row_multiple


ENTRY = TaskEntry(
    name="language_modeling", config=LanguageModelingConfig,
    task="seqjax.tasks.language_modeling:LanguageModelingTask",
    facade=LanguageModelingTask.facade, fairseq=FairseqTask(name="language_modeling"),
    huggingface="decoder")
