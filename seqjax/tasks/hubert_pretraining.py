"""Pretraining from waveforms and labels of their frames: HuBERT; and with `fine_tuning`,
recognition of speech by what came of it.

Recordings of a manifest with labels of one or several clusterings (`train.tsv`, `train.km`,
`dict.km.txt`), and the masks that the model draws, go in; what the loss `hubert` reads goes out.
Imports no JAX.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

from seqjax.config import Config, ConfigError, GenerationConfig, coerce
from seqjax.data.dictionaries import Dictionary, first_difference
from seqjax.data.vocabulary import Vocabulary
from seqjax.tasks import assets, metrics
from seqjax.tasks.audio import AudioConfig, AudioTask, check_data, source_of
from seqjax.tasks.audio_finetuning import Recognition
from seqjax.tasks.entry import FairseqTask, TaskEntry

if TYPE_CHECKING:  # they import JAX, or read files
    import jax

    from seqjax.data.audio.datasets import AudioDataset, Clips
    from seqjax.data.audio.drawn import DrawnDataset
    from seqjax.data.audio.labels import Labels
    from seqjax.data.audio.manifests import AudioManifest
    from seqjax.losses.base import Forward
    from seqjax.models.protocol import Params, WaveformPretrainer

NO_LABEL = -1
"""Stands where a frame has none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubertPretrainingConfig(AudioConfig):
    """fairseq's `hubert_pretraining`."""

    name: Literal["hubert_pretraining"] = "hubert_pretraining"
    """Chooses the task."""
    labels: tuple[str, ...] = ("ltr",)
    """Kinds of labels: `km` is `train.km` and `dict.km.txt`; several clusterings are learnt side
    by side."""
    label_dir: str | None = None
    """Folder with the labels and their dictionaries (None: that of the manifests)."""
    label_rate: float = -1.0
    """Labels of a second of sound: 100 of MFCCs, 50 of a HuBERT's frames; -1: labels are of whole
    recordings (`fine_tuning`)."""
    fine_tuning: bool = False
    """What is said in recordings is learnt, by the loss `ctc`, with one kind of labels."""
    single_target: bool = False
    """fairseq's, of how its batches name the targets: changes nothing."""
    max_keep_size: int | None = None
    """Longer recordings are left out."""
    random_crop: bool = True
    """A part begins anywhere, drawn anew every epoch; else it is the beginning."""
    pad_audio: bool = False
    """Shorter recordings of a batch are padded; else all are cut to one of a few lengths."""
    enable_padding: bool = False
    """fairseq's, which reads `pad_audio` alone: changes nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.labels or len(set(self.labels)) < len(self.labels):
            raise ConfigError(f"config.task.labels: {self.labels}; name each kind of labels once, "
                              "one at least")
        if self.label_rate != -1.0 and self.label_rate <= 0:
            raise ConfigError(f"config.task.label_rate: {self.label_rate} is neither positive nor "
                              "-1 (labels of whole recordings)")
        if self.fine_tuning and (len(self.labels) > 1 or self.label_rate != -1.0):
            raise ConfigError("config.task.fine_tuning: for one kind of labels, of whole "
                              "recordings (label_rate -1)")

    @staticmethod
    def complete(raw: dict[str, Any], *, model: type, models: Mapping[str, type]) -> None:
        """What the model follows of this section: rates, and how many classes several kinds of
        labels have.

        Args:
          raw: sections task, model and loss, of sparse values; changed in place.
        """
        del models
        task, section = raw["task"], raw["model"]
        keys = {f.name for f in dataclasses.fields(model)}
        for key in ("label_rate", "sample_rate"):
            if key in keys and task.get(key) is not None and section.get(key) is None:
                section[key] = task[key]
        if "label_classes" in keys and not section.get("label_classes"):
            labels = coerce(task.get("labels", ("ltr",)), tuple[str, ...], "config.task.labels")
            folder = str(task.get("label_dir") or task.get("data") or "")
            paths = [os.path.join(folder, assets.vocabulary_name(kind)) for kind in labels]
            if all(map(os.path.isfile, paths)):
                section["label_classes"] = tuple(len(Vocabulary.load(path)) for path in paths)


def _check_rate(config: Config) -> None:
    """Refuses another rate of the model's."""
    for key in ("label_rate", "sample_rate"):
        here, there = getattr(config.task, key), getattr(config.model, key, None)
        if there is not None and here != there:
            raise ConfigError(f"config.model.{key}: {there}, but config.task.{key} is {here}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubertPretrainingTask(AudioTask):
    """Recordings and labels of their frames."""

    Config: ClassVar[type] = HubertPretrainingConfig
    facade: ClassVar[str] = "seqjax.hub.recognizer:of_task"
    model_protocol: ClassVar[str] = "seqjax.models.protocol:WaveformPretrainer"
    config: HubertPretrainingConfig
    vocabularies: tuple[Vocabulary, ...]
    """Of each kind of labels."""

    @classmethod
    def setup(cls, config: Config) -> Self:
        """Reads the dictionaries of the labels.

        Raises:
          FileNotFoundError, ConfigError: there is none; sections contradict each other.
        """
        cfg = cast(HubertPretrainingConfig, config.task)
        check_data(cfg.data)
        found: Any = HubertFinetuningTask.setup(config) if cfg.fine_tuning else None
        if found is not None:
            return found
        if cfg.label_rate <= 0:
            raise ConfigError("config.task.label_rate: say how many labels a second of sound has "
                              "(100 of MFCCs, 50 of a HuBERT's frames), or set fine_tuning")
        _check_rate(config)
        return cls(config=cfg, seed=config.seed, vocabularies=tuple(
            _dictionary(cfg, kind) for kind in cfg.labels))

    @classmethod
    def from_assets(cls, config: Config, files: Mapping[str, bytes]) -> Self:
        """The task of a checkpoint: `config` as it was resolved, `files` of `assets`."""
        cfg = cast(HubertPretrainingConfig, config.task)
        found: Any = HubertFinetuningTask.from_assets(config, files) if cfg.fine_tuning else None
        if found is not None:
            return found
        return cls(config=cfg, seed=config.seed, vocabularies=tuple(
            assets.unpack_vocabulary(kind, files) for kind in cfg.labels))

    def assets(self) -> dict[str, bytes]:
        """The dictionaries."""
        files: dict[str, bytes] = {}
        for kind, vocabulary in zip(self.config.labels, self.vocabularies, strict=True):
            files |= assets.pack_vocabulary(kind, vocabulary)
        return files

    @property
    def vocab_sizes(self) -> dict[str, int]:
        """Classes of all kinds of labels together, each dictionary's special symbols included."""
        return {"source_vocab_size": 0,
                "target_vocab_size": sum(len(v) for v in self.vocabularies)}

    @property
    def dictionaries(self) -> tuple[Dictionary, ...]:
        """Of the labels."""
        return tuple(
            Dictionary(side="target", name=assets.vocabulary_name(kind), vocabulary=vocabulary)
            for kind, vocabulary in zip(self.config.labels, self.vocabularies, strict=True))

    def check_folder(self, data: str) -> None:
        """Refuses a folder with other classes than the model's.

        Raises:
          ConfigError: naming the file and the first difference.
        """
        for kind, vocabulary in zip(self.config.labels, self.vocabularies, strict=True):
            found = _dictionary(dataclasses.replace(self.config, data=data), kind)
            difference = first_difference(vocabulary.symbols, found.symbols)
            if difference is not None:
                raise ConfigError(
                    f"{data}: {assets.vocabulary_name(kind)} is not the dictionary that the "
                    f"model was trained with: {difference}")

    def dataset(
        self, split: str, *, need_target: bool = True
    ) -> AudioDataset | DrawnDataset:
        """Recordings and labels of a split, with masks also for the loss of a validation."""
        del need_target
        cfg = self.config
        clips = self.clips(pad=cfg.pad_audio, random_crop=cfg.random_crop,
                           max_keep_size=cfg.max_keep_size)
        return self.recordings(split, clips=clips, labels=cfg.labels, masks=True, pad=NO_LABEL)

    def train_dataset(self) -> AudioDataset | DrawnDataset:
        """Recordings to learn from."""
        return self.dataset(self.config.train_subset)

    def _labels(self, manifest: AudioManifest, kind: str, **options: Any) -> Labels:
        from seqjax.data.audio.labels import load_labels

        return load_labels(
            manifest, kind, folder=self.config.label_dir or self.config.data,
            vocabulary=self.vocabularies[self.config.labels.index(kind)],
            rate=self.config.label_rate, **options)

    def forward(
        self, model: WaveformPretrainer, params: Params, batch: Mapping[str, jax.Array],
        rng: jax.Array | None = None, update: jax.Array | None = None,
    ) -> Forward:
        """The pass over a batch of waveforms `source` [B, N] with labels `target`, `target_1`, ...
        [B, L] of frames and what was drawn; pure. What the model says is in `aux`.

        Args:
          rng: key of dropout, or None for none.
          update: int32 scalar, updates done before.
        """
        from seqjax.losses.base import Forward

        source, sentences = source_of(batch)
        labels = [batch["target" if not k else f"target_{k}"]
                  for k in range(len(self.vocabularies))]
        aux = model.pretrain(
            params, source, model.drawn_of(batch), labels, rng=rng, update=update)
        return Forward(aux=aux, sentences=sentences)

    def evaluator(
        self, model: WaveformPretrainer, dataset: AudioDataset | DrawnDataset, *,
        generation: GenerationConfig, limit: int = 0,
        sharding: jax.sharding.Sharding | None = None, row_multiple: int = 1,
    ) -> None:
        """None: the loss says it all."""
        del model, dataset, generation, limit, sharding, row_multiple


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubertFinetuningTask(Recognition):
    """The same section with `fine_tuning`: recordings and what is said in them."""

    Config: ClassVar[type] = HubertPretrainingConfig
    config: HubertPretrainingConfig

    @classmethod
    def setup(cls, config: Config) -> Self:
        """Reads the dictionary of the labels.

        Raises:
          FileNotFoundError, ConfigError: there is none; sections contradict each other.
        """
        from seqjax.tasks.audio_finetuning import check_normalised

        cfg = cast(HubertPretrainingConfig, config.task)
        check_normalised(config)
        return cls(config=cfg, seed=config.seed, loss=config.loss,
                   vocab=_dictionary(cfg, cfg.labels[0]))

    @classmethod
    def from_assets(cls, config: Config, files: Mapping[str, bytes]) -> Self:
        """The task of a checkpoint: `config` as it was resolved, `files` of `assets`."""
        cfg = cast(HubertPretrainingConfig, config.task)
        return cls(config=cfg, seed=config.seed, loss=config.loss,
                   vocab=assets.unpack_vocabulary(cfg.labels[0], files))

    @property
    def kind(self) -> str:
        """Of the labels."""
        return self.config.labels[0]

    @property
    def label_folder(self) -> str:
        """Where they are."""
        return self.config.label_dir or self.config.data

    def all_of_each(self) -> Clips:
        """As in pretraining, but padded: what is said goes with whole recordings."""
        cfg = self.config
        return self.clips(pad=True, random_crop=cfg.random_crop, max_keep_size=cfg.max_keep_size)


def _dictionary(config: HubertPretrainingConfig, kind: str) -> Vocabulary:
    from seqjax.data.audio.labels import load_dictionary

    return load_dictionary(config.label_dir or config.data, kind)


def _kinds(section: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Of each of fairseq's lists of labels, whose dictionary it is."""
    return tuple((str(kind),) for kind in section.get("labels", ("ltr",)))


ENTRY = TaskEntry(
    name="hubert_pretraining", config=HubertPretrainingConfig,
    task="seqjax.tasks.hubert_pretraining:HubertPretrainingTask",
    facade=HubertPretrainingTask.facade, decodes=False, loss="hubert", metrics=metrics.ERRORS,
    output="transcript", fairseq=FairseqTask(name="hubert_pretraining", sides=_kinds))
