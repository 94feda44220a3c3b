"""Configuration of HuBERT (Hsu et al. 2021). Field names and defaults are fairseq's."""

from __future__ import annotations

import dataclasses
from typing import Literal

from seqjax.config import gives
from seqjax.models.parts.audio_encoder_config import AudioEncoderConfig
from seqjax.models.parts.configs import ORIGIN, TRAINING_ONLY, check_rates


class EncoderForm:
    """What HuBERT's encoder has none of, of the keys that others of waveforms have."""

    @property
    def pos_conv_depth(self) -> int:
        """One convolution for positions."""
        return 1

    @property
    def mask_channel_before(self) -> bool:
        """Channels are masked behind the frames."""
        return False

    @property
    def layer_type(self) -> str:
        """Layers have no adapters."""
        return "transformer"

    @property
    def adp_num(self) -> int:
        """See `layer_type`."""
        return -1

    @property
    def adp_dim(self) -> int:
        """See `layer_type`."""
        return 0

    @property
    def adp_act_fn(self) -> str:
        """See `layer_type`."""
        return "relu"


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubertConfig(EncoderForm, AudioEncoderConfig):
    """fairseq's `hubert`, pretraining included."""

    name: Literal["hubert"] = "hubert"
    """Chooses the family of models."""
    arch: str | None = dataclasses.field(default=None, metadata=ORIGIN)
    """fairseq's architecture name."""
    label_rate: float = dataclasses.field(default=50.0, metadata=TRAINING_ONLY)
    """Labels of a second (task.label_rate)."""
    sample_rate: int = dataclasses.field(default=16000, metadata=TRAINING_ONLY)
    """Samples of a second (task.sample_rate)."""
    label_classes: tuple[int, ...] = dataclasses.field(default=(), metadata=gives("frame_labels"))
    """How many classes each list of labels has, special symbols included ((): there is one
    list, of all classes)."""
    encoder_layerdrop: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """Chance of leaving out a layer."""
    dropout_features: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """Of fairseq's, which computes with it and uses the result nowhere."""
    conv_pos_batch_norm: bool = False
    """A batch norm in front of the convolution for positions in place of weight norm, whose
    statistics are those of the checkpoint and stay."""
    final_dim: int = 0
    """Width in which frames and classes are compared (0: encoder_embed_dim)."""
    untie_final_proj: bool = False
    """A projection for each list of labels."""
    logit_temp: float = 0.1
    """Cosines are divided by it."""
    target_glu: bool = False
    """A gated linear unit on the classes' embeddings."""
    skip_masked: bool = dataclasses.field(default=False, metadata=TRAINING_ONLY)
    """No scores of masked frames."""
    skip_nomask: bool = dataclasses.field(default=False, metadata=TRAINING_ONLY)
    """No scores of frames that are not masked."""
    pretraining_heads: bool = True
    """What pretraining needs behind the encoder: projections and the classes' embeddings. False
    of weights that have none of it any more (transformers' `HubertModel`)."""

    def __post_init__(self) -> None:
        self.check_encoder()
        check_rates(self, ("encoder_layerdrop", "dropout_features"))
        if self.logit_temp <= 0:
            raise ValueError(f"config.model.logit_temp: {self.logit_temp} is not positive")
        if self.label_rate <= 0 or self.sample_rate < 1:
            raise ValueError(
                f"config.model.label_rate, sample_rate: {self.label_rate} labels and "
                f"{self.sample_rate} samples of a second; HuBERT is pretrained with labels of "
                "frames, at a positive rate (-1, labels of whole rows, is for fine-tuning)")
        if any(count < 1 for count in self.label_classes):
            raise ValueError(f"config.model.label_classes: {self.label_classes} are no sizes")

    @property
    def comparison_dim(self) -> int:
        """Width in which frames and classes are compared."""
        return self.final_dim if self.final_dim > 0 else self.encoder_embed_dim

    @property
    def projections(self) -> int:
        """Projections of frames behind the encoder."""
        return max(len(self.label_classes), 1) if self.untie_final_proj else 1

    def labels_per_frame(self) -> float:
        """Labels from one frame to the next."""
        hop = 1
        for layer in self.conv_layers:
            hop *= layer.stride
        return self.label_rate * hop / self.sample_rate

    def labelled_frames(self, frames: int, labels: int) -> int:
        """How many of `frames` have a label, of `labels` that a row has."""
        rate = self.labels_per_frame()
        return int(labels / rate) if rate * frames > labels else frames
