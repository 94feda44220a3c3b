"""Sentence ranking: from a context and candidates to which of them is right.

fairseq's task of the same name: a head of one output scores each candidate followed by the
context. What computes is imported where it is used.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from seqjax.config import Config, ConfigError, GenerationConfig, coerce, gives
from seqjax.data import sentences as data_sentences
from seqjax.data.blocks import ShortenMethod
from seqjax.data.sentences import Joined, Part, SentenceDataset
from seqjax.losses.sentences_config import HEAD
from seqjax.tasks import sentences
from seqjax.tasks.entry import FairseqTask, TaskEntry

if TYPE_CHECKING:  # they import JAX
    import jax

    from seqjax.losses.base import Forward
    from seqjax.models.protocol import Params, SentenceClassifier


@dataclasses.dataclass(frozen=True, kw_only=True)
class SentenceRankingConfig:
    """fairseq's `sentence_ranking`."""

    name: Literal["sentence_ranking"] = "sentence_ranking"
    """Chooses the task."""
    data: str = ""
    """Folder that `seqjax.preprocess --task sentence_ranking` made: `input0/` (the context),
    `input1/` ... `inputN/` (the candidates) and `label/SPLIT.label`, the place of the right
    candidate from 0."""
    num_classes: int = dataclasses.field(
        default=-1, metadata=gives("candidates", losses_only=True))
    """Candidates of each context."""
    ranking_head_name: str = HEAD
    """The head, of one output, that scores them."""
    init_token: int | None = None
    """Id in front of a candidate; 0, `<s>`, in fairseq's recipes."""
    separator_token: int | None = None
    """Id in front of the context; 2, `</s>`, in fairseq's recipes."""
    max_option_length: int | None = None
    """At most so many tokens of a candidate, the first one included (None: all)."""
    no_shuffle: bool = False
    """`batching.mode=fairseq`: batches of sentences as they follow in the corpus; without it of a
    random order. Either way they are shuffled every epoch."""
    shorten_method: ShortenMethod = "none"
    """Cut sequences of more than `max_positions` tokens: keep the first ones (`truncate`) or a
    random window, another one every epoch (`random_crop`)."""
    shorten_data_split_list: tuple[str, ...] = ()
    """Splits to be shortened (empty: all)."""
    max_positions: int = 512
    """Longest sequence that is kept, special symbols included; the model's limit counts too."""
    train_subset: str = "train"
    """Split of the data to learn from."""
    post_process: str | None = None
    """How pieces become words where the data folder holds no tokenizer."""

    def __post_init__(self) -> None:
        if self.max_option_length is not None and self.max_option_length < 1:
            raise ConfigError(f"config.task.max_option_length: {self.max_option_length}; it must "
                              "be 1 or more")

    @staticmethod
    def complete(raw: dict[str, Any], *, model: type, models: Mapping[str, type]) -> None:
        """What other sections follow of this one: the model's head, and the loss's key.

        Args:
          raw: sections task, model and loss, of sparse values; changed in place.

        Raises:
          ConfigError: sections that contradict each other.
        """
        sentences.share(raw, {"ranking_head_name": str}, loss="sentence_ranking")
        task = raw["task"]
        count = coerce(task.get("num_classes", -1), int, "config.task.num_classes")
        sentences.add_head(
            raw, task.get("ranking_head_name", HEAD), 1 if count > 0 else None, model=model,
            models=models, key="its number of outputs in config.task.name=sentence_ranking")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SentenceRankingTask(sentences.SentenceTask):
    """One data folder; made by `setup` from it or by `from_assets`."""

    Config: ClassVar[type] = SentenceRankingConfig
    config: SentenceRankingConfig

    @classmethod
    def setup(cls, config: Config) -> SentenceRankingTask:
        """Reads what the data folder says of its dictionary and the tokenizer.

        Raises:
          ConfigError: there is no such folder, or it is not laid out so.
        """
        cfg = cast(SentenceRankingConfig, config.task)
        parts = sentences.text_parts(config)
        if cfg.num_classes < 2:
            raise ConfigError("config.task.num_classes: give the number of candidates, 2 or more")
        last = os.path.join(cfg.data, f"input{cfg.num_classes}")
        if not os.path.isdir(last):
            raise ConfigError(f"config.task.num_classes: {cfg.num_classes} candidates are "
                              f"input1 to input{cfg.num_classes}, but there is no {last}")
        return cls(config=cfg, **parts)

    @classmethod
    def from_assets(cls, config: Config, files: Mapping[str, bytes]) -> SentenceRankingTask:
        """The task of a checkpoint: `config` as it was resolved, `files` of `assets`."""
        cfg = cast(SentenceRankingConfig, config.task)
        return cls(config=cfg, **sentences.packed_parts(config, files))

    def dataset(self, split: str, *, need_target: bool = True) -> SentenceDataset:
        """Candidates with their context, and labels, of a split; of the training split, all its
        shards."""
        cfg, combine = self.config, split == self.config.train_subset
        sides = [data_sentences.input_side(
            cfg.data, number, split, combine=combine, check=self._check_store)
            for number in range(cfg.num_classes + 1)]
        missing = [f"input{i}" for i, side in enumerate(sides) if side is None]
        if missing:
            raise FileNotFoundError(f"{cfg.data}: there is no folder {', '.join(missing)}")
        context, *options = [side for side in sides if side is not None]
        end = Part(side=context, first=cfg.separator_token)
        whole = [Joined(parts=(
            Part(side=side, first=cfg.init_token, limit=cfg.max_option_length), end),
            **self._shortened(split)) for side in options]
        labels, path = None, data_sentences.label_file(cfg.data, split)
        if need_target or os.path.isfile(path):
            labels = data_sentences.values(path, columns=1, whole=True)
            wrong = [i for i, x in enumerate(labels.tolist()) if not 0 <= x < cfg.num_classes]
            if wrong:
                raise ConfigError(
                    f"{path}: line {wrong[0] + 1} is {labels[wrong[0]]}; give the place of the "
                    f"right one of {cfg.num_classes} candidates, from 0")
        try:
            return SentenceDataset(whole, labels, ranked=True, pad=self.vocab.pad,
                                   shuffled_by=None if cfg.no_shuffle else self.seed)
        except ValueError as error:
            raise ConfigError(f"{cfg.data}, split {split}: {error}") from None

    def train_dataset(self) -> SentenceDataset:
        """Sentences to learn from."""
        return self.dataset(self.config.train_subset)

    def forward(
        self, model: SentenceClassifier, params: Params, batch: Mapping[str, jax.Array],
        rng: jax.Array | None = None, update: jax.Array | None = None,
    ) -> Forward:
        """The pass over a batch of candidates `source` [B, N, S]; pure. In `aux`: `logits` [B, N],
        the candidates' scores, `real` [B] which rows hold any, and the number of `tokens` of the
        first ones, which is what fairseq counts.

        Args:
          rng: key of dropout, or None for none.
          update: int32 scalar, updates done before; nothing here depends on it.
        """
        del update
        import jax.numpy as jnp

        from seqjax.losses.base import Forward
        from seqjax.models.protocol import sentence_source

        tokens = batch["source"]
        rows, count, width = tokens.shape
        scores = model.class_logits(
            params, self.config.ranking_head_name,
            sentence_source(tokens.reshape(rows * count, width), pad=model.pad, eos=model.eos),
            rng=rng)
        first = tokens[:, 0] != model.pad
        return Forward(pad=model.pad, aux={
            "logits": scores.reshape(rows, count), "real": first.any(axis=1),
            "tokens": first.sum(dtype=jnp.float32)})

    def evaluator(
        self, model: SentenceClassifier, dataset: SentenceDataset, *,
        generation: GenerationConfig, limit: int = 0,
        sharding: jax.sharding.Sharding | None = None, row_multiple: int = 1,
    ) -> None:
        """None: the loss says the accuracy already."""
        del model, dataset, generation, limit, sharding, row_multiple


ENTRY = TaskEntry(
    name="sentence_ranking", config=SentenceRankingConfig,
    task="seqjax.tasks.sentence_ranking:SentenceRankingTask",
    facade=SentenceRankingTask.facade, decodes=False, output="prediction",
    labels="places",
    fairseq=FairseqTask(
        name="sentence_ranking", dictionary="input0",
        added=lambda section, data: (sentences.MASK,)))
