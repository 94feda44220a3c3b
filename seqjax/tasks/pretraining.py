"""What tasks share that learn from running text with something taken out: one dictionary, to
which they add words of their own, and blocks of which samples are drawn.

A configuration and a data folder of `preprocess --only-source` go in, or a checkpoint's files;
the part of a task comes out that does not depend on what is drawn.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Self, TypeVar, cast

import numpy as np

from seqjax.config import Config, ConfigError
from seqjax.data import folder, id_ranges, indexed, tokenizers
from seqjax.data.blocks import BreakMode, ShortenMethod
from seqjax.data.noised_blocks import CombinedBlocks, FramedBlocks, NoisedBlocks
from seqjax.data.vocabulary import Vocabulary
from seqjax.data.word_starts import WordStarts, word_starts
from seqjax.tasks import assets
from seqjax.tasks.text import OneVocabulary

MadeT = TypeVar("MadeT")
MASK, MASKS = "<mask>", ("<mask>", "[MASK]")
"""The word of masks, and what vocabularies may call it that have one already."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainingConfig:
    """Keys of every such task."""

    name: str = ""
    """Chooses the task."""
    data: str = ""
    """Folder that `seqjax.preprocess --only-source` or fairseq-preprocess made."""
    train_subset: str = "train"
    """Split of the data to learn from."""
    sample_break_mode: BreakMode = "none"
    """Where blocks may end: anywhere (`none`), between sentences (`complete`), also
    between documents, which an empty line separates (`complete_doc`); or every sentence
    is a block (`eos`)."""
    tokens_per_sample: int = 1024
    """Tokens of a block, special symbols included."""
    shorten_method: ShortenMethod = "none"
    """Cut sentences of more than `tokens_per_sample` tokens: keep the first ones
    (`truncate`) or a random window (`random_crop`)."""
    shorten_data_split_list: tuple[str, ...] = ()
    """Splits to be shortened (empty: all)."""
    bpe: str | None = None
    """What the pieces are, in fairseq's words, by which whole words are told: sentencepiece, bert,
    gpt2, hf_byte_bpe, subword_nmt, fastbpe (None: those of the data folder's tokenizer, or of
    `post_process`)."""
    post_process: str | None = None
    """How pieces become words where the data folder holds no tokenizer: `@@ `,
    `sentencepiece`, ..."""

    def __post_init__(self) -> None:
        if self.tokens_per_sample < 4:
            raise ConfigError(f"config.task.tokens_per_sample: {self.tokens_per_sample}; blocks "
                              "have special symbols beside their words: give 4 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretraining(OneVocabulary):
    """One corpus, or several of one dictionary; made by `setup` from a data folder or by
    `from_assets`."""

    config: PretrainingConfig
    vocab: Vocabulary
    """Of the dictionary's file, and the words that were `added`."""

    @classmethod
    def added(cls, config: PretrainingConfig) -> tuple[str, ...]:
        """Words that stand behind those of the dictionary's file, unless they are in it."""
        del config
        return (MASK,)

    @classmethod
    def completed(cls, config: PretrainingConfig) -> PretrainingConfig:
        """Its section, completed by what the data folder says."""
        return config

    @classmethod
    def setup(cls, config: Config) -> Self:
        """Reads what the data folder says of the vocabulary and the tokenizer.

        Raises:
          ConfigError: there is no such folder.
        """
        cfg = cast(PretrainingConfig, config.task)
        if not cfg.data:
            raise ConfigError("config.task.data: name the folder with the preprocessed data")
        if not os.path.isdir(cfg.data):
            raise ConfigError(f"config.task.data: {cfg.data}: no such folder")
        cfg = cls.completed(cfg)
        return cls(config=cfg, seed=config.seed, vocab=cls._dictionary(cfg.data, cfg),
                   tokenizer=cls._tokenizer(cfg))

    @classmethod
    def _dictionary(cls, data: str, config: PretrainingConfig) -> Vocabulary:
        return with_words(folder.load_dictionary(data), cls.added(config))

    @classmethod
    def _tokenizer(cls, config: PretrainingConfig) -> tokenizers.Tokenizer | None:
        return folder.load_tokenizers(config.data).get("")

    @classmethod
    def from_assets(cls, config: Config, files: Mapping[str, bytes]) -> Self:
        """The task of a checkpoint: `config` as it was resolved, `files` of `assets`."""
        cfg = cast(PretrainingConfig, config.task)
        vocab = with_words(assets.unpack_vocabulary("", files), cls.added(cfg))
        return cls(config=cfg, seed=config.seed, vocab=vocab,
                   tokenizer=assets.unpack_tokenizer("", files))

    @property
    def mask(self) -> int:
        """Id of `<mask>`."""
        return self.vocab.index(next(word for word in MASKS if word in self.vocab))

    def check_folder(self, data: str) -> None:
        """Refuses a data folder whose dictionary is not the model's.

        Raises:
          ConfigError: naming the dictionary.
        """
        self._check_same(folder.dictionary_path(data), self._dictionary(data, self.config))

    def framed_source(self, ids: np.ndarray) -> np.ndarray:
        """Ids with final eos -> with `<s>` in front as well, as blocks have them."""
        return np.append(np.int32(self.vocab.bos), ids)

    def encode_target(self, text: str) -> np.ndarray:
        """The same of what is predicted."""
        return np.append(np.int32(self.vocab.bos), super().encode_target(text))

    # ---- data ----

    def blocks(
        self, data: str, split: str, *, end: int | None = None, strip: bool = False
    ) -> FramedBlocks:
        """Blocks of a split in a folder; of the training split, all its shards.

        Args:
          end: last token of every block (None: none of its own).
          strip: sentences lose their final eos.

        Raises:
          FileNotFoundError: there is no such split.
          ConfigError: it has ids that no word has, or no tokens.
        """
        cfg = self.config
        prefixes = folder.mono_prefixes(data, split, combine=split == cfg.train_subset)
        limit = id_ranges.Limit(
            path=folder.dictionary_path(cfg.data), entries=len(self.vocab))
        for prefix in prefixes:
            id_ranges.check(prefix, limit)
        shorten = not cfg.shorten_data_split_list or split in cfg.shorten_data_split_list
        try:
            return FramedBlocks(
                [indexed.IndexedDataset(p) for p in prefixes],
                tokens_per_sample=cfg.tokens_per_sample, break_mode=cfg.sample_break_mode,
                bos=self.vocab.bos, end=end, strip=self.vocab.eos if strip else None,
                shorten_method=cfg.shorten_method if shorten else "none", seed=self.seed)
        except indexed.IndexedDatasetError:
            raise
        except ValueError as error:
            raise ConfigError(f"{prefixes[0]}: {error}") from None

    def dataset(
        self, split: str, *, need_target: bool = True
    ) -> NoisedBlocks | CombinedBlocks:
        """Samples of a split; of the training split, all its shards."""
        raise NotImplementedError

    def train_dataset(self) -> NoisedBlocks | CombinedBlocks:
        """Samples to learn from."""
        return self.dataset(self.config.train_subset)

    def word_starts(self, key: str, *, needed: bool = True) -> WordStarts | None:
        """Where words begin in the pieces of this text.

        Args:
          key: that asks for whole words.
          needed: False: None where nobody says what the pieces are.

        Raises:
          ConfigError: pieces of which that is not known.
        """
        kind = self.config.bpe or _kind(self.tokenizer, self.config.post_process)
        if kind is None:
            if not needed:
                return None
            raise ConfigError(f"{key}: whole words are asked for, and neither the data folder's "
                              "tokenizer nor config.task.bpe says what the pieces are")
        decode = None if self.tokenizer is None else self.tokenizer.decode
        try:
            return word_starts(self.vocab, kind, decode=decode)
        except ValueError as error:
            raise ConfigError(f"{key}: {error}") from None


def with_words(vocabulary: Vocabulary, words: Iterable[str]) -> Vocabulary:
    """A dictionary with words behind it; those that it has stay where they are. It is changed."""
    for word in words:
        same = MASKS if word == MASK else (word,)
        if not any(name in vocabulary for name in same):
            vocabulary.add_symbol(word)
    return vocabulary


def checked(make: Callable[[], MadeT]) -> MadeT:
    """What `make` gives; where values are none, their key is named.

    Raises:
      ConfigError: the values do not make sense.
    """
    try:
        return make()
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"config.task.{error}") from None


def _kind(tokenizer: tokenizers.Tokenizer | None, post_process: str | None) -> str | None:
    """What pieces are, by fairseq's name of them."""
    if tokenizer is None:
        kinds = {"@@": "subword_nmt", "@@ ": "subword_nmt", "subword_nmt": "subword_nmt",
                 "sentencepiece": "sentencepiece"}
        return kinds.get(post_process or "")
    state = tokenizer.to_state()
    kinds = [value for name, value in sorted(state.items()) if name.rpartition(".")[2] == "kind"]
    return next((str(kind) for kind in reversed(kinds)
                 if kind in ("sentencepiece", "subword_nmt", "fastbpe", "gpt2", "hf_byte_bpe",
                             "bert")), None)
