"""What tasks of recordings in manifests share: keys of their sections, how files are read, which
recordings are used.

fairseq's layout in (`SPLIT.tsv`, labels beside it), datasets of waveforms out. Imports no JAX.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from seqjax.config import ConfigError
from seqjax.data.audio.reading import Reading

if TYPE_CHECKING:  # they import JAX, or read files
    import jax

    from seqjax.data.audio.datasets import AudioDataset, Clips
    from seqjax.data.audio.drawn import DrawnDataset
    from seqjax.data.audio.labels import Labels
    from seqjax.data.audio.manifests import AudioManifest
    from seqjax.models.protocol import MaskedFrameReader, Source

NO_LIMIT = 1 << 24
"""Frames that stand for any number of them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """Keys of every such task."""

    name: str = ""
    """Chooses the task."""
    data: str = ""
    """Folder that `seqjax.preprocess audio` or fairseq's scripts made: `train.tsv`, `valid.tsv`,
    ..., with labels and their dictionaries."""
    train_subset: str = "train"
    """Split of the data to learn from."""
    sample_rate: int = 16000
    """Samples of a second that models are given."""
    normalize: bool = False
    """Each waveform is given a mean of 0 and a variance of 1, before it is cut. It must be as it
    was in pretraining."""
    normalize_eps: float = 1e-5
    """Added to the variance: 1e-5 in fairseq, 1e-7 in transformers."""
    max_sample_size: int | None = None
    """Longer recordings are cut to so many samples."""
    min_sample_size: int | None = None
    """Shorter recordings are left out."""
    resample: bool = False
    """Bring recordings of another rate to `sample_rate`; without it they are refused."""
    on_bad: Literal["error", "skip"] = "error"
    """What becomes of recordings that cannot be used: an error, or left out and counted."""
    check_audio: bool = True
    """Look at the head of every file before the first batch, so that a bad one is found then."""
    workers: int = 0
    """Files read at the same time (0: as many as there are cores, 8 at most)."""
    post_process: str | None = None
    """How symbols become words, of models that recognise any (None: `eval_wer_post_process` where
    there is one, else `letter`)."""

    def __post_init__(self) -> None:
        for key in ("sample_rate", "max_sample_size"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ConfigError(f"config.task.{key}: {value} is not positive")
        least, most = self.min_sample_size, self.max_sample_size
        if least is not None and most is not None and least > most:
            raise ConfigError(f"config.task.min_sample_size: {least} is more than "
                              f"max_sample_size, {most}")


def check_data(data: str) -> None:
    """Raises ConfigError where a section names no folder of data."""
    if not data:
        raise ConfigError("config.task.data: name the folder with the manifests (train.tsv, ...)")
    if not os.path.isdir(data):
        raise ConfigError(f"config.task.data: {data}: no such folder")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AudioTask:
    """Recordings, of which a model is given samples."""

    model_protocol: ClassVar[str] = "seqjax.models.protocol:MaskedFrameReader"
    config: AudioConfig
    seed: int
    """Of what is drawn."""
    model: MaskedFrameReader | None = None
    """What datasets draw masks for (`for_model`)."""

    def for_model(self, model: MaskedFrameReader) -> Self:
        """This task with datasets for a model: of recordings that are long enough for it, with
        the masks that it draws."""
        return dataclasses.replace(self, model=model)

    def with_config(self, **changes: Any) -> Self:
        """The same task with other values in its section."""
        return dataclasses.replace(self, config=dataclasses.replace(self.config, **changes))

    @property
    def languages(self) -> None:
        """Recordings have no language."""

    @property
    def reading(self) -> Reading:
        """How recordings are read."""
        cfg = self.config
        return Reading(sample_rate=cfg.sample_rate, resample=cfg.resample, on_bad=cfg.on_bad,
                       check=cfg.check_audio, workers=cfg.workers)

    @property
    def eps(self) -> float | None:
        """What is added to a waveform's variance (None: it is not normalised)."""
        return self.config.normalize_eps if self.config.normalize else None

    # ---- data ----

    def manifest(self, split: str) -> AudioManifest:
        """The recordings of a split."""
        from seqjax.data.audio.manifests import AudioManifest

        return AudioManifest.read(os.path.join(self.config.data, f"{split}.tsv"))

    def clips(self, **options: Any) -> Clips:
        """Which recordings are used, and how much of each: those with a frame at least."""
        from seqjax.data.audio.datasets import Clips

        least = max(self.config.min_sample_size or 0,
                    0 if self.model is None else self.model.receptive_field)
        return Clips(max_sample_size=self.config.max_sample_size, min_sample_size=least or None,
                     **options)

    def recordings(
        self, split: str, *, clips: Clips, labels: Sequence[str] = (), masks: bool,
        **options: Any,
    ) -> AudioDataset | DrawnDataset:
        """A split.

        Args:
          labels: kinds of its labels.
          masks: what the model draws goes with batches.
          **options: of `_labels`, and `pad` of the dataset.
        """
        from seqjax.data.audio.datasets import AudioDataset
        from seqjax.data.audio.drawn import DrawnDataset

        manifest, pad = self.manifest(split), options.pop("pad", 1)
        dataset = AudioDataset(
            manifest, reading=self.reading, clips=clips, seed=self.seed, order_seed=self.seed,
            normalize=self.eps, pad=pad,
            labels=[self._labels(manifest, kind, **options) for kind in labels])
        if self.model is None or not masks:
            return dataset
        return DrawnDataset(dataset, self.model.draw_rows, seed=self.seed)

    def _labels(self, manifest: AudioManifest, kind: str, **options: Any) -> Labels:
        """The labels of one kind, of a manifest's recordings."""
        raise NotImplementedError

    def max_positions(self, model: MaskedFrameReader) -> tuple[int | None, int | None]:
        """Samples of the longest recording; there is no limit to targets."""
        limited = model.max_frames < NO_LIMIT
        return model.max_source_positions if limited else None, None

    def too_long_advice(self, model: MaskedFrameReader) -> str:
        """Nothing in general: recordings have their own lengths."""
        del model
        return ""

    def next_command(self, workdir: str, *, subset: str) -> list[str]:
        """What its evaluation says of a split."""
        return ["python", "-m", "seqjax.evaluate", "--checkpoint", workdir, "--subset", subset]


def source_of(batch: Mapping[str, jax.Array]) -> tuple[Source, jax.Array]:
    """What models read of a batch, and the number of its rows that hold a recording."""
    import jax.numpy as jnp

    from seqjax.models.protocol import Source

    lengths = batch["source_lengths"]
    mask = jnp.arange(batch["source"].shape[1]) < lengths[:, None]
    return (Source(values=batch["source"], mask=mask),
            (lengths > 0).sum(dtype=jnp.float32))
