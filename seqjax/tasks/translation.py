"""Translation: from sentence pairs of a data folder to batches, a loss and text.

fairseq's task of the same name. What computes is imported where it is used.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self, cast

from seqjax.config import Config, ConfigError, GenerationConfig, gives
from seqjax.data import folder, id_ranges, pairs, tokenizers
from seqjax.data.dictionaries import Dictionary, first_difference
from seqjax.data.vocabulary import Vocabulary
from seqjax.generation.target_form import TargetForm
from seqjax.tasks import assets, metrics
from seqjax.tasks.entry import FairseqTask, TaskEntry
from seqjax.tasks.text import Text, special_ids

if TYPE_CHECKING:  # they import JAX
    import jax

    from seqjax.losses.base import Forward
    from seqjax.models.protocol import EncoderDecoder, Params
    from seqjax.tasks.evaluator import TranslationEvaluator


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
class TranslationTask(Text):
    """One language pair; made by `setup` from a data folder or by `from_assets`."""

    Config: ClassVar[type] = TranslationConfig
    facade: ClassVar[str] = "seqjax.hub.translator:Translator"
    model_protocol: ClassVar[str] = "seqjax.models.protocol:EncoderDecoder"
    config: TranslationConfig
    source_lang: str
    target_lang: str
    source_vocab: Vocabulary
    target_vocab: Vocabulary
    source_tokenizer: tokenizers.Tokenizer | None
    target_tokenizer: tokenizers.Tokenizer | None

    @classmethod
    def setup(cls, config: Config) -> Self:
        """Reads what the data folder says of vocabularies and tokenizers.

        Raises:
          ConfigError: there is no such folder, or it holds no pair of languages.
        """
        cfg = cast(TranslationConfig, config.task)
        if not cfg.data:
            raise ConfigError("config.task.data: name the folder with the preprocessed data")
        if not os.path.isdir(cfg.data):
            raise ConfigError(f"config.task.data: {cfg.data}: no such folder")
        source, target = cfg.source_lang, cfg.target_lang
        if source is None or target is None:
            source, target = folder.find_pair(cfg.data)
        tokenizer = folder.load_tokenizers(cfg.data)
        return cls(
            config=dataclasses.replace(cfg, source_lang=source, target_lang=target),
            source_lang=source, target_lang=target,
            source_vocab=cls.load_dictionary(cfg, source),
            target_vocab=cls.load_dictionary(cfg, target),
            source_tokenizer=tokenizer.get(source), target_tokenizer=tokenizer.get(target),
        )

    @classmethod
    def load_dictionary(cls, cfg: TranslationConfig, lang: str) -> Vocabulary:
        """The words of a language in `cfg.data`, and what the task puts behind them: nothing."""
        return folder.load_dictionary(cfg.data, lang)

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
    def from_assets(cls, config: Config, files: Mapping[str, bytes]) -> Self:
        """The task of a checkpoint: `config` as it was resolved, `files` of `assets`."""
        cfg = cast(TranslationConfig, config.task)
        source, target = cfg.source_lang or "", cfg.target_lang or ""
        return cls(
            config=cfg, source_lang=source, target_lang=target,
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
            **special_ids(self.source_vocab, self.target_vocab),
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

    @property
    def languages(self) -> tuple[str, str]:
        """The source's and the target's."""
        return self.source_lang, self.target_lang

    def translating(self, source_lang: str | None, target_lang: str | None) -> Self:
        """This task for one direction (None: as it is): the only one that it knows.

        Raises:
          ConfigError: naming a language that is not the model's.
        """
        for name, asked, known in (("source_lang", source_lang, self.source_lang),
                                   ("target_lang", target_lang, self.target_lang)):
            if asked is not None and asked != known:
                raise ConfigError(
                    f"{name}: {asked!r}, but this model knows no other languages than it was "
                    f"trained on: it translates from {self.source_lang or 'its source'} to "
                    f"{self.target_lang or 'its target'}")
        return self

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
        there = dataclasses.replace(self.config, data=data)
        for lang, vocab in (
            (self.source_lang, self.source_vocab), (self.target_lang, self.target_vocab)
        ):
            path = folder.dictionary_path(data, lang)
            found = self.load_dictionary(there, lang)
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
            frames=(self.source_frame, self.target_frame),
            need_target=need_target, alignments=self._alignments(train=train, wanted=need_target),
            dictionaries=(self._limit(self.source_lang, self.source_vocab),
                          self._limit(self.target_lang, self.target_vocab)),
            pad=self.source_vocab.pad, eos=self.source_vocab.eos,
        )

    def _limit(self, lang: str, vocabulary: Vocabulary) -> id_ranges.Limit:
        return id_ranges.Limit(
            path=folder.dictionary_path(self.config.data, lang), entries=len(vocabulary))

    def _alignments(self, *, train: bool, wanted: bool) -> Literal["none", "optional", "needed"]:
        if not (self.config.load_alignments and wanted):
            return "none"
        return "needed" if train else "optional"

    def train_dataset(self) -> pairs.PairDataset:
        """Sentence pairs to learn from."""
        return self.dataset(self.config.train_subset)

    def too_long_advice(self, model: EncoderDecoder) -> str:
        """Nothing in general: sentences have their own lengths."""
        return ""

    def forward(
        self, model: EncoderDecoder, params: Params, batch: Mapping[str, jax.Array],
        rng: jax.Array | None = None, update: jax.Array | None = None,
    ) -> Forward:
        """The teacher-forced pass over a batch of [B, ...] arrays; pure.

        Args:
          rng: key of dropout, or None for none.
          update: int32 scalar, updates done before; nothing here depends on it.
        """
        del update
        import jax.numpy as jnp

        from seqjax.generation.teacher_forcing import previous_tokens
        from seqjax.losses.base import Forward
        from seqjax.models.protocol import segment_positions, source_attention, token_source

        segments = batch.get("target_segments")
        target = batch["target"]
        source = token_source(
            batch["source"], pad=model.pad, segments=batch.get("source_segments"))
        encoded = model.encode(params, source, rng=rng)
        start = batch.get("target_start")  # of each sentence, where they differ
        if start is None:
            start = self.decoder_start(model)
        prev = previous_tokens(target, segments, pad=model.pad, start=start)
        features = model.features(params, prev, encoded, segments=segments, rng=rng)
        sentences = positions = None
        if segments is not None:
            sentences = segments.max(axis=1).sum(dtype=jnp.float32)
            positions = segment_positions(segments)
        # What a loss does not look at, the compiled program does not compute.
        attention = None if features.attention is None else source_attention(features)
        return Forward(features=features, target=target, pad=model.pad, positions=positions,
                       sentences=sentences, attention=attention)

    def decoder_start(self, model: EncoderDecoder) -> int:
        """The token that every target is read behind: eos."""
        return model.eos

    def evaluator(
        self, model: EncoderDecoder, dataset: pairs.PairDataset, *,
        generation: GenerationConfig, limit: int = 0,
        sharding: jax.sharding.Sharding | None = None, row_multiple: int = 1,
    ) -> TranslationEvaluator:
        """What scores translations of a dataset during training: sacreBLEU.

        Args:
          limit: only the first so many sentences (0: all).
          sharding, row_multiple: how rows lie on the devices.
        """
        from seqjax.tasks.evaluator import TranslationEvaluator

        most = self.max_positions(model)[0]
        kept = []
        for i in self._evaluated(dataset, limit):
            source, target = dataset.sentence(i)
            if source is not None and target is not None and len(source) <= most:
                kept.append((source, target, self._form_of(dataset, i)))
        return TranslationEvaluator(
            model, generation, sources=[s for s, _, _ in kept],
            references=[t for _, t, _ in kept], forms=[form for _, _, form in kept],
            source_text=self.decode_source, target_text=self.decode_target,
            unk=self.target_vocab.unk, sharding=sharding, row_multiple=row_multiple,
        )

    def _evaluated(self, dataset: pairs.PairDataset, limit: int) -> Sequence[int]:
        """Numbers of the sentences that are translated at validations: the first ones."""
        return range(min(limit or len(dataset), len(dataset)))

    def _form_of(self, dataset: pairs.PairDataset, index: int) -> TargetForm:
        """How the output for one sentence begins and ends."""
        del dataset, index
        return self.target_form

    def next_command(self, workdir: str, *, subset: str) -> list[str]:
        """A text is translated."""
        del subset
        return ["python", "-m", "seqjax.generate", "--checkpoint", workdir,
                "--input", f"input.{self.source_lang}", "--output", f"output.{self.target_lang}"]


ENTRY = TaskEntry(
    name="translation", config=TranslationConfig,
    task="seqjax.tasks.translation:TranslationTask", facade=TranslationTask.facade,
    metrics=metrics.BLEU, output="translation",
    fairseq=FairseqTask(name="translation", languages=("source_lang", "target_lang")))
