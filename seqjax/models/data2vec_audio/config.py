"""Configuration of data2vec for waveforms (Baevski et al. 2022). Field names and defaults are
fairseq's."""

from __future__ import annotations

import dataclasses
from typing import Literal

from seqjax.config import gives
from seqjax.models.parts.audio_encoder_config import WaveformEncoderConfig
from seqjax.models.parts.configs import ORIGIN, TRAINING_ONLY, check_positive, check_rates


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """The teacher, a moving average of the encoder."""

    ema_decay: float = dataclasses.field(
        default=0.999, metadata={**TRAINING_ONLY, **gives("losses")})
    """How much of it stays at an update, at first."""
    ema_end_decay: float = dataclasses.field(default=0.9999, metadata=TRAINING_ONLY)
    """And at last."""
    ema_anneal_end_step: int = dataclasses.field(default=0, metadata=TRAINING_ONLY)
    """From which update on; before it is between both, as far as the updates are (0: from the
    start). fairseq's default is train.max_update."""
    ema_layers_only: bool = dataclasses.field(default=True, metadata=TRAINING_ONLY)
    """The convolutions for positions are the encoder's own."""

    def check_teacher(self) -> None:
        """Raises ValueError for a decay outside of [0, 1]."""
        for key in ("ema_decay", "ema_end_decay"):
            if not 0 <= getattr(self, key) <= 1:
                raise ValueError(f"config.model.{key}: {getattr(self, key)} is not in [0, 1]")
        if self.ema_anneal_end_step < 0:
            raise ValueError(
                f"config.model.ema_anneal_end_step: {self.ema_anneal_end_step} is negative")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """What the teacher's layers become: the targets of masked frames."""

    average_top_k_layers: int = dataclasses.field(default=8, metadata=TRAINING_ONLY)
    """Last layers whose feed-forward networks' outputs are averaged."""
    batch_norm_target_layer: bool = dataclasses.field(default=False, metadata=TRAINING_ONLY)
    """Each normed over all frames of all rows, before."""
    instance_norm_target_layer: bool = dataclasses.field(default=False, metadata=TRAINING_ONLY)
    """Each normed over the frames of its row, before."""
    layer_norm_target_layer: bool = dataclasses.field(default=False, metadata=TRAINING_ONLY)
    """Each frame of each normed, before."""
    layer_norm_targets: bool = dataclasses.field(default=False, metadata=TRAINING_ONLY)
    """Each frame normed, behind."""
    instance_norm_targets: bool = dataclasses.field(default=False, metadata=TRAINING_ONLY)
    """Normed over the frames of each row, behind."""
    loss_beta: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """Up to this distance the loss is a square, beyond it a distance (0: a square throughout)."""
    loss_scale: float | None = dataclasses.field(default=None, metadata=TRAINING_ONLY)
    """What the loss is multiplied by (None: 1 / sqrt(encoder_embed_dim))."""

    def check_targets(self) -> None:
        """Raises ValueError for norms that fairseq would take over rows in place of frames."""
        check_positive(self, ("average_top_k_layers",))
        first = self.instance_norm_target_layer or self.batch_norm_target_layer
        if self.instance_norm_targets and not first:
            raise ValueError(
                "config.model.instance_norm_targets: without instance_norm_target_layer or "
                "batch_norm_target_layer fairseq norms over the rows of a batch")
        if self.loss_beta < 0:
            raise ValueError(f"config.model.loss_beta: {self.loss_beta} is negative")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data2VecAudioConfig(TeacherConfig, TargetConfig, WaveformEncoderConfig):
    """fairseq's `data2vec_audio`, pretraining included."""

    name: Literal["data2vec_audio"] = "data2vec_audio"
    """Chooses the family of models."""
    arch: str | None = dataclasses.field(default=None, metadata=ORIGIN)
    """fairseq's architecture name."""
    encoder_layerdrop: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """Chance of leaving out a layer."""
    pretraining_heads: bool = True
    """The projection that pretraining needs behind the encoder. False of weights that have it no
    more (transformers' `Data2VecAudioModel`)."""

    def __post_init__(self) -> None:
        self.check_waveforms()
        self.check_teacher()
        self.check_targets()
        check_rates(self, ("encoder_layerdrop",))

    @property
    def has_projection(self) -> bool:
        """A linear layer leads to the transformer's width, whatever the widths are."""
        return True
