"""Translation: sentence pairs, their vocabularies and tokenizers, the loss, ids <-> text.

fairseq's task of the same name. It knows models by their protocol and search not at all.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.config import Config, ConfigError, GenerationConfig
from seqjax.data import folder, id_ranges, pairs, tokenizers
from seqjax.data.dictionaries import Dictionary, first_difference
from seqjax.data.vocabulary import Vocabulary
from seqjax.generation.teacher_forcing import previous_tokens
from seqjax.losses.alignment import AlignmentLossConfig, with_alignment
from seqjax.losses.base import LossOutput
from seqjax.models.protocol import (
    EncoderDecoder,
    Params,
    segment_positions,
    source_attention,
    token_source,
)
from seqjax.tasks import assets, token_loss
from seqjax.tasks.configs import TranslationConfig
from seqjax.tasks.judging import Judge


@dataclasses.dataclass(frozen=True, kw_only=True)
class TranslationTask:
    """One language pair; made by `setup` from a data folder or by `from_assets`."""

    config: TranslationConfig
    loss_config: Any
    source_lang: str
    target_lang: str
    source_vocab: Vocabulary
    target_vocab: Vocabulary
    source_tokenizer: tokenizers.Tokenizer | None
    target_tokenizer: tokenizers.Tokenizer | None

    @classmethod
    def setup(cls, config: Config) -> TranslationTask:
        """Reads what the data folder says of vocabularies and tokenizers.

        Raises:
          ConfigError: there is no such folder, or it holds no pair of languages; the loss
            does not fit the model.
        """
        cfg: TranslationConfig = config.task
        if not cfg.data:
            raise ConfigError("config.task.data: name the folder with the preprocessed data")
        if not os.path.isdir(cfg.data):
            raise ConfigError(f"config.task.data: {cfg.data}: no such folder")
        _check_alignments(cfg, config.loss)
        token_loss.check(config)
        source, target = cfg.source_lang, cfg.target_lang
        if source is None or target is None:
            source, target = folder.find_pair(cfg.data)
        tokenizer = folder.load_tokenizers(cfg.data)
        return cls(
            config=dataclasses.replace(cfg, source_lang=source, target_lang=target),
            loss_config=config.loss, source_lang=source, target_lang=target,
            source_vocab=folder.load_dictionary(cfg.data, source),
            target_vocab=folder.load_dictionary(cfg.data, target),
            source_tokenizer=tokenizer.get(source), target_tokenizer=tokenizer.get(target),
        )

    def assets(self) -> dict[str, bytes]:
        """Files from which `from_assets` makes this task again, without the data folder."""
        files: dict[str, bytes] = {}
        for lang, vocab, tokenizer in (
            (self.source_lang, self.source_vocab, self.source_tokenizer),
            (self.target_lang, self.target_vocab, self.target_tokenizer),
        ):
            files |= assets.pack_vocabulary(lang, vocab)
            if tokenizer is not None:
                files |= assets.pack_tokenizer(lang, tokenizer)
        return files

    @classmethod
    def from_assets(cls, config: Config, files: Mapping[str, bytes]) -> TranslationTask:
        """The task of a checkpoint: `config` as it was resolved, `files` of `assets`."""
        cfg: TranslationConfig = config.task
        source, target = cfg.source_lang or "", cfg.target_lang or ""
        return cls(
            config=cfg, loss_config=config.loss, source_lang=source, target_lang=target,
            source_vocab=assets.unpack_vocabulary(source, files),
            target_vocab=assets.unpack_vocabulary(target, files),
            source_tokenizer=assets.unpack_tokenizer(source, files),
            target_tokenizer=assets.unpack_tokenizer(target, files),
        )

    @property
    def vocab_sizes(self) -> dict[str, int]:
        """What `models.build` needs."""
        return {
            "source_vocab_size": len(self.source_vocab),
            "target_vocab_size": len(self.target_vocab),
        }

    @property
    def dictionaries(self) -> tuple[Dictionary, ...]:
        """Whose words the rows of embeddings are."""
        return tuple(
            Dictionary(side=side, name=assets.vocabulary_name(lang), vocabulary=vocabulary)
            for side, lang, vocabulary in (
                ("source", self.source_lang, self.source_vocab),
                ("target", self.target_lang, self.target_vocab))
        )

    def max_positions(self, model: EncoderDecoder) -> tuple[int, int]:
        """Longest source and target: the smaller of the task's limit and the model's."""
        return (
            min(self.config.max_source_positions, model.max_source_positions),
            min(self.config.max_target_positions, model.max_target_positions),
        )

    def check_folder(self, data: str) -> None:
        """Refuses a data folder whose dictionaries are not the model's.

        Raises:
          ConfigError: naming the dictionary.
        """
        for lang, vocab in (
            (self.source_lang, self.source_vocab), (self.target_lang, self.target_vocab)
        ):
            path = folder.dict_path(data, lang)
            found = folder.load_dictionary(data, lang)
            difference = first_difference(vocab.symbols, found.symbols)
            if difference is not None:
                raise ConfigError(
                    f"{path}: is not the dictionary that the model was trained with: {difference}; "
                    "preprocess with --srcdict and --tgtdict, or decode plain text with --input"
                )

    def dataset(self, split: str, *, need_target: bool = True) -> pairs.PairDataset:
        """Sentence pairs of a split; of the training split, all its shards."""
        cfg, train = self.config, split == self.config.train_subset
        return pairs.PairDataset.load(
            cfg.data, split, source_lang=self.source_lang, target_lang=self.target_lang,
            shards=train, upsample_primary=cfg.upsample_primary if train else 1,
            truncate_source=cfg.max_source_positions if cfg.truncate_source else None,
            need_target=need_target, alignments=self._alignments(train=train, wanted=need_target),
            dictionaries=(self._limit(self.source_lang, self.source_vocab),
                          self._limit(self.target_lang, self.target_vocab)),
        )

    def _limit(self, lang: str, vocabulary: Vocabulary) -> id_ranges.Limit:
        return id_ranges.Limit(
            path=folder.dict_path(self.config.data, lang), entries=len(vocabulary))

    def _alignments(self, *, train: bool, wanted: bool) -> Literal["none", "optional", "needed"]:
        loaded = self.config.load_alignments and isinstance(self.loss_config, AlignmentLossConfig)
        if not (loaded and wanted):
            return "none"
        return "needed" if train else "optional"

    def train_dataset(self) -> pairs.PairDataset:
        """Sentence pairs to learn from."""
        return self.dataset(self.config.train_subset)

    def loss(
        self, model: EncoderDecoder, params: Params, batch: Mapping[str, jax.Array],
        rng: jax.Array | None,
    ) -> LossOutput:
        """The configured loss of a batch of [B, ...] arrays; pure.

        Args:
          rng: key of dropout, or None for none.
        """
        segments = batch.get("target_segments")
        target = batch["target"]
        source = token_source(
            batch["source"], pad=model.pad, segments=batch.get("source_segments"))
        encoded = model.encode(params, source, rng=rng)
        prev = previous_tokens(target, segments, pad=model.pad, eos=model.eos)
        features = model.features(params, prev, encoded, segments=segments, rng=rng)
        sentences = positions = None
        if segments is not None:
            sentences = segments.max(axis=1).sum(dtype=jnp.float32)
            positions = segment_positions(segments)
        output = token_loss.token_loss(
            features, target, config=self.loss_config, pad=model.pad, positions=positions,
            sentences=sentences,
        )
        if "aligned_source" not in batch:
            return output
        return with_alignment(
            output, source_attention(features), batch["aligned_source"],
            batch["aligned_target"], config=self.loss_config,
        )

    def judge_for(
        self, model: EncoderDecoder, dataset: pairs.PairDataset, *,
        generation: GenerationConfig, limit: int = 0, **places: Any,
    ) -> Judge:
        """What scores translations of a dataset during training.

        Args:
          limit: only the first so many sentences (0: all).
          **places: `sharding` and `row_multiple` of a `Judge`.
        """
        count = min(limit or len(dataset), len(dataset))
        rows = [dataset.sentence(i) for i in range(count)]
        most = self.max_positions(model)[0]
        kept = [(s, t) for s, t in rows if s is not None and t is not None and len(s) <= most]
        return Judge(
            model, generation, sources=[s for s, _ in kept], references=[t for _, t in kept],
            source_text=self.decode_source, target_text=self.decode_target,
            unk=self.target_vocab.unk, **places,
        )

    def encode_source(self, text: str) -> np.ndarray:
        """Text -> ids with final eos."""
        return _encode(text, self.source_tokenizer, self.source_vocab)

    def encode_target(self, text: str) -> np.ndarray:
        """Text -> ids with final eos."""
        return _encode(text, self.target_tokenizer, self.target_vocab)

    def decode_target(self, ids: Sequence[int] | np.ndarray) -> str:
        """Ids -> plain text, detokenised."""
        return self._decode(ids, self.target_tokenizer, self.target_vocab)

    def decode_source(self, ids: Sequence[int] | np.ndarray) -> str:
        """Ids -> plain text, detokenised."""
        return self._decode(ids, self.source_tokenizer, self.source_vocab)

    def _decode(
        self, ids: Sequence[int] | np.ndarray, tokenizer: tokenizers.Tokenizer | None,
        vocab: Vocabulary,
    ) -> str:
        if tokenizer is None:
            return vocab.string(ids, post_process=self.config.post_process)
        return tokenizer.decode(vocab.string(ids))


def _check_alignments(cfg: TranslationConfig, loss: Any) -> None:
    aligning = isinstance(loss, AlignmentLossConfig)
    if cfg.load_alignments and not aligning:
        raise ConfigError(
            "config.task.load_alignments: only the loss "
            f"{AlignmentLossConfig.name!r} learns from alignments; set config.loss.name to it")
    if aligning and not cfg.load_alignments:
        raise ConfigError(
            f"config.loss.name: {loss.name!r} learns from alignments, which are read with "
            "config.task.load_alignments=True")


def _encode(
    text: str, tokenizer: tokenizers.Tokenizer | None, vocab: Vocabulary
) -> np.ndarray:
    return vocab.encode_line(text if tokenizer is None else tokenizer.encode(text))
