"""Pretraining from waveforms alone: wav2vec 2.0 by the contrastive loss, data2vec by its own.

Recordings of a manifest, with the masks and negatives that the model draws for them, go in; what
the loss reads goes out. With `labels` it is the task `audio_finetuning`, as fairseq's published
models have it. Imports no JAX.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

from seqjax.config import Config, GenerationConfig
from seqjax.tasks import audio_finetuning, metrics
from seqjax.tasks.audio import AudioTask, check_data, source_of
from seqjax.tasks.entry import FairseqTask, TaskEntry

if TYPE_CHECKING:  # they import JAX, or read files
    import jax

    from seqjax.data.audio.datasets import AudioDataset
    from seqjax.data.audio.drawn import DrawnDataset
    from seqjax.losses.base import Forward
    from seqjax.models.protocol import Params, WaveformPretrainer


@dataclasses.dataclass(frozen=True, kw_only=True)
class AudioPretrainingConfig(audio_finetuning.LabelledConfig):
    """fairseq's `audio_pretraining`."""

    name: Literal["audio_pretraining"] = "audio_pretraining"
    """Chooses the task."""
    labels: str | None = None
    """Kind of the labels of a model that is fine-tuned under this name, `ltr` (None: it is
    pretrained)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AudioPretrainingTask(AudioTask):
    """Recordings without labels."""

    Config: ClassVar[type] = AudioPretrainingConfig
    facade: ClassVar[str] = "seqjax.hub.recognizer:of_task"
    model_protocol: ClassVar[str] = "seqjax.models.protocol:WaveformPretrainer"
    config: AudioPretrainingConfig

    @classmethod
    def setup(cls, config: Config) -> Self:
        """Looks for the data folder.

        Raises:
          ConfigError: there is none.
        """
        cfg = cast(AudioPretrainingConfig, config.task)
        check_data(cfg.data)
        if cfg.labels is not None:
            found: Any = audio_finetuning.AudioFinetuningTask.setup(config)
            return found
        return cls(config=cfg, seed=config.seed)

    @classmethod
    def from_assets(cls, config: Config, files: Mapping[str, bytes]) -> Self:
        """The task of a checkpoint."""
        cfg = cast(AudioPretrainingConfig, config.task)
        if cfg.labels is not None:
            found: Any = audio_finetuning.AudioFinetuningTask.from_assets(config, files)
            return found
        return cls(config=cfg, seed=config.seed)

    def assets(self) -> dict[str, bytes]:
        """There are no files."""
        return {}

    @property
    def vocab_sizes(self) -> dict[str, int]:
        """There are no words."""
        return {"source_vocab_size": 0, "target_vocab_size": 0}

    @property
    def dictionaries(self) -> tuple[()]:
        """There are none."""
        return ()

    def check_folder(self, data: str) -> None:
        """Any recordings will do."""
        del data

    def dataset(
        self, split: str, *, need_target: bool = True
    ) -> AudioDataset | DrawnDataset:
        """Recordings of a split, with masks also for the loss of a validation."""
        del need_target
        clips = self.clips(pad=self.config.enable_padding,
                           num_buckets=self.config.num_batch_buckets or 8)
        return self.recordings(split, clips=clips, masks=True)

    def train_dataset(self) -> AudioDataset | DrawnDataset:
        """Recordings to learn from."""
        return self.dataset(self.config.train_subset)

    def forward(
        self, model: WaveformPretrainer, params: Params, batch: Mapping[str, jax.Array],
        rng: jax.Array | None = None, update: jax.Array | None = None, *, extra: Any = None,
    ) -> Forward:
        """The pass over a batch of waveforms `source` [B, N] with what was drawn for them; pure.
        What the model says is in `aux`.

        Args:
          rng: key of dropout and Gumbel noise, or None for neither.
          update: int32 scalar, updates done before, for temperatures and teachers.
          extra: the state of a `Stateful` model.
        """
        from seqjax.losses.base import Forward

        source, sentences = source_of(batch)
        drawn = model.drawn_of(batch)
        if extra is None:
            aux, new = model.pretrain(params, source, drawn, rng=rng, update=update), None
        else:
            aux, new = model.pretrain(params, extra, source, drawn, rng=rng, update=update)
        return Forward(aux=aux, sentences=sentences, extra=new)

    def evaluator(
        self, model: WaveformPretrainer, dataset: AudioDataset | DrawnDataset, *,
        generation: GenerationConfig, limit: int = 0,
        sharding: jax.sharding.Sharding | None = None, row_multiple: int = 1,
    ) -> None:
        """None: the loss says it all."""
        del model, dataset, generation, limit, sharding, row_multiple


ENTRY = TaskEntry(
    name="audio_pretraining", config=AudioPretrainingConfig,
    task="seqjax.tasks.audio_pretraining:AudioPretrainingTask",
    facade=AudioPretrainingTask.facade, decodes=False, loss="wav2vec",
    metrics=metrics.ERRORS, output="transcript",
    fairseq=FairseqTask(name="audio_pretraining", languages=("labels",)))
