"""Recognition of speech: waveforms and what is said in them, by models that were pretrained on
waveforms.

Recordings of a manifest with labels (`train.tsv`, `train.ltr`, `dict.ltr.txt`) go in; the pass that
the loss `ctc` reads goes out, or with `autoregressive` that of a decoder. Imports no JAX.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

import numpy as np

from seqjax.config import Config, ConfigError, GenerationConfig, LossSection
from seqjax.data.dictionaries import Dictionary, first_difference
from seqjax.data.tokenizers import Tokenizer
from seqjax.data.vocabulary import POST_PROCESS_KINDS, Vocabulary
from seqjax.tasks import assets, metrics
from seqjax.tasks.audio import AudioConfig, AudioTask, check_data, source_of
from seqjax.tasks.entry import FairseqTask, TaskEntry
from seqjax.tasks.text import OneVocabulary, special_ids

if TYPE_CHECKING:  # they import JAX, or read files
    import jax

    from seqjax.data.audio.datasets import AudioDataset, Clips
    from seqjax.data.audio.drawn import DrawnDataset
    from seqjax.data.audio.labels import Labels
    from seqjax.data.audio.manifests import AudioManifest
    from seqjax.losses.base import Forward
    from seqjax.models.protocol import EncoderDecoder, MaskedFrameReader, Params, Stepper
    from seqjax.tasks.evaluator import Evaluator

BOUNDARY = "|"
"""The symbol between words."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledConfig(AudioConfig):
    """Keys of fairseq's tasks of wav2vec, whether there are labels or not."""

    labels: str | None = None
    """Kind of the labels: `ltr` is `train.ltr` and `dict.ltr.txt`."""
    enable_padding: bool = False
    """Shorter recordings of a batch are padded; else all are cut to one of a few lengths. With
    labels they are always padded."""
    num_batch_buckets: int = 0
    """Without padding: lengths that there are at most (0: 8)."""
    eval_wer: bool = False
    """Of a model with a decoder (`autoregressive`): validations decode, and report `uer` and
    `wer`. Those of CTC always do."""
    eval_wer_post_process: str = "letter"
    """How symbols become words whose errors are counted."""
    autoregressive: bool = False
    """The model writes its output symbol by symbol (`wav2vec_seq2seq`): targets end in eos, and
    the loss is one of tokens."""
    target_dictionary: str | None = None
    """Another folder with the dictionary of the labels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_batch_buckets < 0:
            raise ConfigError(f"config.task.num_batch_buckets: {self.num_batch_buckets} is "
                              "negative")
        for key in ("post_process", "eval_wer_post_process"):
            if getattr(self, key) not in (None, *POST_PROCESS_KINDS):
                raise ConfigError(f"config.task.{key}: {getattr(self, key)!r} is none of "
                                  f"{', '.join(POST_PROCESS_KINDS)}")
        if self.eval_wer and not self.autoregressive:
            raise ConfigError("config.task.eval_wer: it is for models with a decoder "
                              "(config.task.autoregressive); those of CTC always report uer, wer "
                              "and raw_wer: leave it out")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AudioFinetuningConfig(LabelledConfig):
    """fairseq's `audio_finetuning`."""

    name: Literal["audio_finetuning"] = "audio_finetuning"
    """Chooses the task."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recognition(AudioTask, OneVocabulary):
    """Recordings and symbols that are said in them. What tasks of several sections share."""

    facade: ClassVar[str] = "seqjax.hub.recognizer:of_task"
    config: AudioConfig
    vocab: Vocabulary
    """Of the symbols; number 0 is the blank."""
    tokenizer: Tokenizer | None = None
    """There is none: see `joined`."""
    loss: LossSection | None = None
    """Section of the loss, which says what validations count."""

    # ---- what a task of a section says ----

    @property
    def kind(self) -> str:
        """Of the labels: `ltr`."""
        raise NotImplementedError

    @property
    def lang(self) -> str:
        """Names the files of symbols, as a language does those of words: see `kind`."""
        return self.kind

    @property
    def label_folder(self) -> str:
        """Where labels are."""
        return self.config.data

    @property
    def autoregressive(self) -> bool:
        """Whether outputs are written symbol by symbol, and end in eos."""
        return False

    def all_of_each(self) -> Clips:
        """Which recordings are used; shorter ones are padded."""
        return self.clips(pad=True)

    # ---- words ----

    @property
    def joined(self) -> str:
        """How symbols become words."""
        return (self.config.post_process or getattr(self.loss, "post_process", None)
                or getattr(self.config, "eval_wer_post_process", "letter"))

    @property
    def blank(self) -> int:
        """Id of what says nothing."""
        return 0

    @property
    def boundary(self) -> int | None:
        """Id of the symbol between words (None: there is none)."""
        return self.vocab.index(BOUNDARY) if BOUNDARY in self.vocab else None

    @property
    def vocab_sizes(self) -> dict[str, int]:
        """What `models.build` needs."""
        return {"source_vocab_size": 0, "target_vocab_size": len(self.vocab),
                **special_ids(self.vocab)}

    @property
    def dictionaries(self) -> tuple[Dictionary, ...]:
        """That of the symbols."""
        return (Dictionary(side="target", name=assets.vocabulary_name(self.kind),
                           vocabulary=self.vocab),)

    def words_of(self, text: str) -> np.ndarray:
        """Ids of symbols, without what stands around them."""
        return self.vocab.encode_line(text, append_eos=False)

    def decode_source(self, ids: Any) -> str:
        """A recording has no text; how long it is."""
        return f"{len(ids)} samples"

    def decode_target(self, ids: Sequence[int] | np.ndarray) -> str:
        """Ids of symbols -> words."""
        return self.vocab.string(ids, post_process=self.joined)

    def said(self, ids: Sequence[int] | np.ndarray) -> str:
        """Words, with one space between them, whatever silence was heard there."""
        return " ".join(self.decode_target(ids).split())

    def check_folder(self, data: str) -> None:
        """Refuses a data folder of other symbols than the model's.

        Raises:
          ConfigError: naming the file and the first difference.
        """
        found = self.with_config(data=data)._dictionary()
        difference = first_difference(self.vocab.symbols, found.symbols)
        if difference is not None:
            raise ConfigError(
                f"{os.path.join(data, assets.vocabulary_name(self.kind))}: is not the dictionary "
                f"that the model was trained with: {difference}")

    def _dictionary(self) -> Vocabulary:
        from seqjax.data.audio.labels import load_dictionary

        return load_dictionary(self.label_folder, self.kind)

    # ---- data ----

    def dataset(
        self, split: str, *, need_target: bool = True
    ) -> AudioDataset | DrawnDataset:
        """Recordings and labels of a split, nothing masked."""
        return self._split(split, masks=False, need_target=need_target)

    def train_dataset(self) -> AudioDataset | DrawnDataset:
        """Recordings to learn from, with the masks of the model, if it has any."""
        return self._split(self.config.train_subset, masks=True)

    def _split(
        self, split: str, *, masks: bool, need_target: bool = True
    ) -> AudioDataset | DrawnDataset:
        return self.recordings(
            split, clips=self.all_of_each(), labels=(self.kind,) if need_target else (),
            masks=masks, pad=self.vocab.pad)

    def _labels(self, manifest: AudioManifest, kind: str, **options: Any) -> Labels:
        from seqjax.data.audio.labels import load_labels

        return load_labels(manifest, kind, folder=self.config.data, vocabulary=self.vocab,
                           append_eos=self.autoregressive, **options)

    # ---- a batch ----

    def forward(
        self, model: MaskedFrameReader, params: Params, batch: Mapping[str, jax.Array],
        rng: jax.Array | None = None, update: jax.Array | None = None,
    ) -> Forward:
        """The pass over a batch of waveforms `source` [B, N] and ids `target` [B, T]; pure.

        Args:
          rng: key of dropout, or None for none.
          update: int32 scalar, updates done before, for what is not trained at first.
        """
        from seqjax.losses.base import Forward

        reader: Any = model
        source, sentences = source_of(batch)
        encoded = reader.encode(
            params, source, drawn=reader.drawn_of(batch), rng=rng, update=update)
        if self.autoregressive:
            prev = self._previous(reader, batch["target"])
            features = reader.features(params, prev, encoded, rng=rng)
        else:
            features = reader.features(params, encoded)
        return Forward(features=features, encoded=encoded, target=batch["target"],
                       pad=self.vocab.pad, sentences=sentences)

    def _previous(self, model: Stepper, target: jax.Array) -> jax.Array:
        """What the decoder reads."""
        from seqjax.generation.teacher_forcing import previous_tokens

        return previous_tokens(target, pad=model.pad, start=model.eos)

    def evaluator(
        self, model: MaskedFrameReader, dataset: AudioDataset | DrawnDataset, *,
        generation: GenerationConfig, limit: int = 0,
        sharding: jax.sharding.Sharding | None = None, row_multiple: int = 1,
    ) -> Evaluator | None:
        """What counts errors of symbols and words.

        Args:
          limit: only the first so many recordings (0: all).
          sharding, row_multiple: how rows lie on the devices.
        """
        del generation
        from seqjax.tasks.symbol_errors import CtcEvaluator

        return CtcEvaluator(
            model, self.recordings_of(dataset), symbols=self.vocab, text=self.decode_target,
            boundary=self.boundary, loss=self.loss, limit=limit, sharding=sharding,
            row_multiple=row_multiple)

    def recordings_of(self, dataset: AudioDataset | DrawnDataset) -> AudioDataset:
        """The recordings of a dataset of this task, without masks."""
        from seqjax.data.audio.drawn import DrawnDataset

        return dataset.recordings if isinstance(dataset, DrawnDataset) else dataset

    def next_command(self, workdir: str, *, subset: str) -> list[str]:
        """Recordings of a split become text."""
        return ["python", "-m", "seqjax.generate", "--checkpoint", workdir, "--data",
                self.config.data, "--subset", subset, "--output", "output.txt"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AudioFinetuningTask(Recognition):
    """See the module."""

    Config: ClassVar[type] = AudioFinetuningConfig
    config: LabelledConfig

    @classmethod
    def setup(cls, config: Config) -> Self:
        """Reads the dictionary of the labels.

        Raises:
          FileNotFoundError, ConfigError: there is none; sections contradict each other.
        """
        cfg = cast(LabelledConfig, config.task)
        check_data(cfg.data)
        if cfg.labels is None:
            raise ConfigError("config.task.labels: name the kind of the labels: ltr, for train.ltr "
                              "and dict.ltr.txt beside train.tsv")
        check_normalised(config)
        task = cls(config=cfg, seed=config.seed, vocab=Vocabulary(), loss=config.loss)
        return dataclasses.replace(task, vocab=task._dictionary())

    @classmethod
    def from_assets(cls, config: Config, files: Mapping[str, bytes]) -> Self:
        """The task of a checkpoint: `config` as it was resolved, `files` of `assets`."""
        cfg = cast(LabelledConfig, config.task)
        return cls(config=cfg, seed=config.seed, loss=config.loss,
                   vocab=assets.unpack_vocabulary(cfg.labels or "", files))

    @property
    def kind(self) -> str:
        """Of the labels."""
        return self.config.labels or ""

    @property
    def label_folder(self) -> str:
        """Where the dictionary is."""
        return self.config.target_dictionary or self.config.data

    @property
    def autoregressive(self) -> bool:
        """As its section says."""
        return self.config.autoregressive

    def for_model(self, model: MaskedFrameReader) -> Self:
        """See `AudioTask.for_model`.

        Raises:
          ConfigError: a model with a decoder without `autoregressive`, or the other way round.
        """
        from seqjax.models.protocol import writes

        found = writes(model)
        if found != self.autoregressive:
            said = "has a decoder: set it to True" if found else "has no decoder: leave it out"
            raise ConfigError(f"config.task.autoregressive: {self.autoregressive}, but the model "
                              f"{model.config.name} {said}")
        return super().for_model(model)

    def evaluator(
        self, model: MaskedFrameReader, dataset: AudioDataset | DrawnDataset, *,
        generation: GenerationConfig, limit: int = 0,
        sharding: jax.sharding.Sharding | None = None, row_multiple: int = 1,
    ) -> Evaluator | None:
        """What counts errors of symbols and words; of models with a decoder with `eval_wer`.

        Args:
          generation: how these search.
          limit: only the first so many recordings (0: all).
          sharding, row_multiple: how rows lie on the devices.
        """
        places: dict[str, Any] = {"sharding": sharding, "row_multiple": row_multiple}
        if not self.autoregressive:
            return super().evaluator(
                model, dataset, generation=generation, limit=limit, **places)
        if not self.config.eval_wer:
            return None
        from seqjax.tasks.symbol_errors import WrittenEvaluator

        recordings, writer = self.recordings_of(dataset), cast("EncoderDecoder", model)
        count = min(limit or len(recordings), len(recordings))
        return WrittenEvaluator(
            writer, generation, sources=[recordings.samples(i) for i in range(count)],
            references=[recordings.labels[0].ids(int(recordings.ids[i])) for i in range(count)],
            forms=[self.target_form] * count, source_text=self.decode_source,
            target_text=self.decode_target, unk=self.vocab.unk, **places)

    def heard(self, audio: Any, *, sampling_rate: int | None = None) -> np.ndarray:
        """Samples [N] as the model is given them.

        Args:
          audio: a path, or samples [N] in [-1, 1].
          sampling_rate: of samples (None: as the model wants them).

        Raises:
          AudioError: a file that cannot be used; samples that are no numbers, or too few.
        """
        from seqjax.data.audio.one_recording import samples_of

        return samples_of(audio, reading=dataclasses.replace(self.reading, resample=True),
                          eps=self.eps, sampling_rate=sampling_rate)

    def sources(
        self, dataset: AudioDataset | DrawnDataset, indices: Sequence[int]
    ) -> list[np.ndarray]:
        """Samples [N] of some recordings, as the model is given them."""
        return [self.recordings_of(dataset).samples(i) for i in indices]


def check_normalised(config: Config) -> None:
    """Refuses waveforms that are normalised for the task and not for the model, or the other way
    round."""
    task = cast(AudioConfig, config.task).normalize
    model = getattr(config.model, "normalize", None)
    if model is not None and model != task:
        raise ConfigError(f"config.task.normalize: {task}, but config.model.normalize is {model}: "
                          "both say how waveforms were prepared in pretraining")


ENTRY = TaskEntry(
    name="audio_finetuning", config=AudioFinetuningConfig,
    task="seqjax.tasks.audio_finetuning:AudioFinetuningTask",
    facade=AudioFinetuningTask.facade, decodes=False, metrics=metrics.ERRORS, output="transcript",
    loss="ctc", fairseq=FairseqTask(name="audio_finetuning", languages=("labels",)))
