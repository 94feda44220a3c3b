"""The task sections of a configuration, one per task.

Apart from the tasks, so that configurations can be read without JAX.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from seqjax.config import ConfigError, gives
from seqjax.data.blocks import BreakMode, ShortenMethod


@dataclasses.dataclass(frozen=True, kw_only=True)
class TranslationConfig:
    """fairseq's `translation`."""

    name: Literal["translation"] = "translation"
    """Chooses the task."""
    data: str = ""
    """Folder that `seqjax.preprocess` or fairseq-preprocess made."""
    source_lang: str | None = None
    """Inferred from the folder's file names when None."""
    target_lang: str | None = None
    """The same for the target."""
    train_subset: str = "train"
    """Split of the data to learn from."""
    max_source_positions: int = 1024
    """Longest source that is kept, eos included; the model's limit counts too."""
    max_target_positions: int = 1024
    """The same for the target."""
    truncate_source: bool = False
    """Cut long sources to `max_source_positions` instead of dropping the sentence."""
    load_alignments: bool = dataclasses.field(
        default=False, metadata=gives("alignments", losses_only=True))
    """Learn from the word alignments of the data folder (`preprocess --align-suffix`), with
    the loss `label_smoothed_cross_entropy_with_alignment`."""
    upsample_primary: int = 1
    """Times that the shard `train` counts beside train1, train2, ..."""
    post_process: str | None = None
    """How pieces become words where the data folder holds no tokenizer: `@@ `,
    `subword_nmt`, `sentencepiece`, ... (fairseq's `--post-process`, `--eval-bleu-remove-bpe`)."""


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
