"""Sentence prediction: from sentences, or pairs of them, with labels to a class or a number.

fairseq's task of the same name, with which its pretrained models are fine-tuned on GLUE. What
computes is imported where it is used.
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
from seqjax.data.vocabulary import Vocabulary
from seqjax.losses.sentences_config import HEAD
from seqjax.tasks import assets, label_metrics, sentences
from seqjax.tasks.entry import FairseqTask, TaskEntry

if TYPE_CHECKING:  # they import JAX
    import jax

    from seqjax.losses.base import Forward
    from seqjax.models.protocol import Params, SentenceClassifier
    from seqjax.tasks.label_evaluator import LabelEvaluator


@dataclasses.dataclass(frozen=True, kw_only=True)
class SentencePredictionConfig:
    """fairseq's `sentence_prediction`."""

    name: Literal["sentence_prediction"] = "sentence_prediction"
    """Chooses the task."""
    data: str = ""
    """Folder that `seqjax.preprocess --task sentence_prediction` or fairseq's recipe for GLUE
    made: `input0/`, for pairs `input1/`, and `label/`."""
    num_classes: int = dataclasses.field(
        default=-1, metadata=gives("classes", losses_only=True))
    """Classes, or values of a regression. The model gets a head of as many."""
    classification_head_name: str = HEAD
    """Name of that head."""
    regression_target: bool = False
    """Labels are numbers, read from `label/SPLIT.label`."""
    init_token: int | None = None
    """Id in front of the first input; 0, `<s>`, in fairseq's recipes."""
    separator_token: int | None = None
    """Id in front of the second input; 2, `</s>`, in fairseq's recipe for encoders, and none in
    that for models with a decoder."""
    add_prev_output_tokens: bool | None = None
    """Whether a decoder reads the sentence as well. That is the model's to say (None); given, it
    must be what the model does."""
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

    @staticmethod
    def complete(raw: dict[str, Any], *, model: type, models: Mapping[str, type]) -> None:
        """What other sections follow of this one: the model's head, and the loss's keys.

        Args:
          raw: sections task, model and loss, of sparse values; changed in place.

        Raises:
          ConfigError: sections that contradict each other.
        """
        sentences.share(raw, {"classification_head_name": str, "regression_target": bool},
                        loss="sentence_prediction")
        task = raw["task"]
        count = None if task.get("num_classes") is None else coerce(
            task["num_classes"], int, "config.task.num_classes")
        found = sentences.add_head(
            raw, task.get("classification_head_name", HEAD),
            count if count is not None and count > 0 else None,
            model=model, models=models, key="config.task.num_classes")
        if found is not None:
            task["num_classes"] = found

    @staticmethod
    def of_model(section: dict[str, Any], model: sentences.HeadsSection) -> dict[str, Any]:
        """The section of a trained model of fairseq's, whose head is what its weights are: files
        that were made by hand may say another one, or none."""
        heads = model.classification_heads
        name = section.get("classification_head_name", HEAD)
        rest = {k: v for k, v in section.items() if k != "num_classes"}
        if not heads:
            return rest
        name = name if name in heads else next(iter(heads))
        return {**rest, "classification_head_name": name, "num_classes": heads[name]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SentencePredictionTask(sentences.SentenceTask):
    """One data folder; made by `setup` from it or by `from_assets`."""

    Config: ClassVar[type] = SentencePredictionConfig
    config: SentencePredictionConfig
    labels: Vocabulary | None
    """Names of the classes, behind its special symbols; None of a regression, or where they are
    not known."""
    reports: tuple[str, ...] = ()
    """Metrics of `label_metrics` that are measured at validations."""

    @classmethod
    def setup(cls, config: Config) -> SentencePredictionTask:
        """Reads what the data folder says of its dictionaries and the tokenizer.

        Raises:
          ConfigError: there is no such folder, or it is not laid out so; metrics that do not fit
            the labels.
        """
        cfg = cast(SentencePredictionConfig, config.task)
        parts = sentences.text_parts(config)
        if cfg.num_classes < 1:
            raise ConfigError("config.task.num_classes: give the number of classes (of a "
                              "regression, of values)")
        labels = None if cfg.regression_target else sentences.dictionary(cfg.data, "label")
        task = cls(config=cfg, labels=labels, **parts)
        return dataclasses.replace(task, reports=label_metrics.asked(
            config, regression=cfg.regression_target, names=task.class_names))

    def assets(self) -> dict[str, bytes]:
        """Files from which `from_assets` makes this task again, without the data folder."""
        named = {} if self.labels is None else assets.pack_vocabulary("label", self.labels)
        return super().assets() | named

    @classmethod
    def from_assets(cls, config: Config, files: Mapping[str, bytes]) -> SentencePredictionTask:
        """The task of a checkpoint: `config` as it was resolved, `files` of `assets`."""
        known = assets.vocabulary_name("label") in files
        cfg = cast(SentencePredictionConfig, config.task)
        task = cls(config=cfg, **sentences.packed_parts(config, files),
                   labels=assets.unpack_vocabulary("label", files) if known else None)
        return dataclasses.replace(task, reports=label_metrics.asked(
            config, regression=cfg.regression_target, names=task.class_names))

    @property
    def class_names(self) -> list[str]:
        """Of each class its label's word; empty where they are not known."""
        if self.labels is None:
            return []
        first = self.labels.num_special
        return self.labels.symbols[first : first + self.config.num_classes]

    def check_folder(self, data: str) -> None:
        """Refuses a data folder whose dictionaries are not the model's.

        Raises:
          ConfigError: naming the dictionary.
        """
        super().check_folder(data)
        place = os.path.join(data, "label", "dict.txt")
        if self.labels is not None and os.path.isfile(place):
            found = sentences.dictionary(data, "label")
            first = found.num_special
            names = found.symbols[first : first + self.config.num_classes]
            if names != self.class_names:
                raise ConfigError(f"{place}: its labels are {', '.join(names)}, but the model's "
                                  f"are {', '.join(self.class_names)}")

    def dataset(self, split: str, *, need_target: bool = True) -> SentenceDataset:
        """Sentences and labels of a split; of the training split, all its shards."""
        cfg, combine = self.config, split == self.config.train_subset
        sides = [data_sentences.input_side(
            cfg.data, number, split, combine=combine, check=self._check_store)
            for number in (0, 1)]
        firsts = (cfg.init_token, cfg.separator_token)
        parts = [Part(side=side, first=first)
                 for side, first in zip(sides, firsts, strict=True) if side is not None]
        whole = Joined(parts=parts, **self._shortened(split))
        try:
            labels = self._labels(split, combine=combine)
        except FileNotFoundError:
            if need_target:
                raise
            labels = None
        try:
            return SentenceDataset([whole], labels, pad=self.vocab.pad,
                                   shuffled_by=None if cfg.no_shuffle else self.seed)
        except ValueError as error:
            raise ConfigError(f"{cfg.data}, split {split}: {error}") from None

    def _labels(self, split: str, *, combine: bool) -> Any:
        cfg = self.config
        if cfg.regression_target:
            return data_sentences.values(
                data_sentences.label_file(cfg.data, split), columns=cfg.num_classes)
        names = self.labels or sentences.dictionary(cfg.data, "label")
        return data_sentences.classes(
            cfg.data, split, combine=combine, names=names, count=cfg.num_classes)

    def train_dataset(self) -> SentenceDataset:
        """Sentences to learn from."""
        return self.dataset(self.config.train_subset)

    def forward(
        self, model: SentenceClassifier, params: Params, batch: Mapping[str, jax.Array],
        rng: jax.Array | None = None, update: jax.Array | None = None,
    ) -> Forward:
        """The pass over a batch of sentences `source` [B, S]; pure. In `aux`: `logits` [B, C],
        `real` [B] which rows hold a sentence, and the number of `tokens`.

        Args:
          rng: key of dropout, or None for none.
          update: int32 scalar, updates done before; nothing here depends on it.

        Raises:
          ConfigError: `add_prev_output_tokens` is not what the model does.
        """
        del update
        import jax.numpy as jnp

        from seqjax.losses.base import Forward
        from seqjax.models.protocol import sentence_source

        asked, needed = self.config.add_prev_output_tokens, model.decodes_source
        if asked is not None and asked != needed:
            raise ConfigError(
                f"config.task.add_prev_output_tokens: {asked}, but a {model.config.name} "
                f"{'has a decoder that' if needed else 'has no decoder that'} reads the sentence "
                "as well; leave it out")
        source = sentence_source(batch["source"], pad=model.pad, eos=model.eos)
        logits = model.class_logits(
            params, self.config.classification_head_name, source, rng=rng)
        return Forward(pad=model.pad, aux={
            "logits": logits, "real": source.mask.any(axis=1),
            "tokens": source.mask.sum(dtype=jnp.float32)})

    def evaluator(
        self, model: SentenceClassifier, dataset: SentenceDataset, *,
        generation: GenerationConfig, limit: int = 0,
        sharding: jax.sharding.Sharding | None = None, row_multiple: int = 1,
    ) -> LabelEvaluator | None:
        """What measures predictions of all sentences together: F1, correlations. None where the
        loss asks for no such report.

        Args:
          limit: only the first so many sentences (0: all).
          sharding, row_multiple: how rows lie on the devices.
        """
        del generation
        if not self.reports or dataset.labels is None:
            return None
        from seqjax.tasks.label_evaluator import LabelEvaluator

        return LabelEvaluator(
            model, self.config.classification_head_name, dataset, reports=self.reports,
            names=self.class_names, text=self.decode_source, limit=limit,
            longest=self.max_positions(model)[0], sharding=sharding, row_multiple=row_multiple)


ENTRY = TaskEntry(
    name="sentence_prediction", config=SentencePredictionConfig,
    task="seqjax.tasks.sentence_prediction:SentencePredictionTask",
    facade=SentencePredictionTask.facade, metrics=label_metrics.METRICS, decodes=False,
    output="prediction", labels="classes",
    fairseq=FairseqTask(
        name="sentence_prediction", dictionary="input0", further=("label",),
        added=lambda section, data: (sentences.MASK,)))
