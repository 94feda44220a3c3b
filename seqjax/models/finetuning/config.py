"""Configuration of models that are fine-tuned from an encoder of waveforms.

Field names and defaults are fairseq's. What fairseq keeps as the pretrained model's own
configuration (`w2v_args`), its sizes and norms, are keys of the section here; those of
training, which fine-tuning overrides, are said once.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Protocol

from seqjax.config import ConfigError, ModelSection, to_plain
from seqjax.models.parts.audio_encoder_config import (
    AudioEncoderConfig,
    EncoderKeys,
    WaveformEncoderConfig,
)
from seqjax.models.parts.configs import ORIGIN, TRAINING_ONLY, check_rates, kind
from seqjax.models.parts.keys import EncoderDecoderKeys


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuningConfig(AudioEncoderConfig):
    """What these models have beside the encoder's keys, with the defaults of fine-tuning."""

    blocks: ClassVar[bool] = False
    """Whether frames are real by HuBERT's rule (`parts.block_frames`)."""

    arch: str | None = dataclasses.field(default=None, metadata=ORIGIN)
    """fairseq's architecture name."""
    w2v_path: str | None = dataclasses.field(default=None, metadata=ORIGIN)
    """Checkpoint of the pretrained model: its sizes are this model's, and training begins with
    its weights (unless `config.init_from` names others)."""
    no_pretrained_weights: bool = dataclasses.field(default=False, metadata=TRAINING_ONLY)
    """Its sizes alone."""
    final_dropout: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """On the encoder's last states."""
    dropout: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """On the transformer's input and on the output of every sublayer."""
    attention_dropout: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """On attention weights."""
    layerdrop: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """Chance of leaving out a layer."""
    apply_mask: bool = dataclasses.field(default=False, metadata=TRAINING_ONLY)
    """Frames and channels are masked in training."""
    mask_prob: float = dataclasses.field(default=0.5, metadata=TRAINING_ONLY)
    """Share of frames that would be masked if no spans overlapped (0: none are)."""
    feature_grad_mult: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """What gradients into the convolutions over samples are multiplied by (0: these are not
    trained)."""
    freeze_finetune_updates: int = dataclasses.field(default=0, metadata=TRAINING_ONLY)
    """Updates in which only what stands behind the encoder is trained."""
    normalize: bool = False
    """Waveforms are normalised, as they were in pretraining (task.normalize)."""

    def check_finetuning(self) -> None:
        """Raises ValueError for rates and numbers out of range."""
        check_rates(self, ("final_dropout", "layerdrop"))
        if self.freeze_finetune_updates < 0:
            raise ValueError(f"config.model.freeze_finetune_updates: "
                             f"{self.freeze_finetune_updates} is negative")

    @property
    def encoder_layerdrop(self) -> float:
        """The encoder's name of `layerdrop`."""
        return self.layerdrop

    @classmethod
    def of_pretrained(cls, other: Any) -> dict[str, Any]:
        """The keys that are as they were in pretraining.

        Args:
          other: the pretrained model's section.
        """
        names = {f.name for f in dataclasses.fields(cls)}
        return {key: value for key, value in encoder_form(other).items() if key in names}

    def check_pretrained(self, other: Any) -> None:
        """Refuses weights of an encoder of another form.

        Args:
          other: the pretrained model's section.

        Raises:
          ConfigError: names the keys that differ.
        """
        wrong = [f"{key} is {mine!r} here, {value!r} there"
                 for key, value in encoder_form(other).items()
                 if (mine := getattr(self, key, value)) != value]
        if wrong:
            raise ConfigError(
                "config.model: the weights to begin with are of another encoder: "
                + "; ".join(wrong) + " (config.model.w2v_path takes these from the file)")


def encoder_form(section: ModelSection) -> dict[str, Any]:
    """Keys of an encoder's section that its parameters, or what it computes, depend on."""
    names = {"conv_pos_batch_norm", *(
        f.name for cls in (AudioEncoderConfig, WaveformEncoderConfig)
        for f in dataclasses.fields(cls))}
    plain = to_plain(section)
    return {key: plain[key] for key in sorted(names & plain.keys())
            if kind(type(section), key) is None}


class FinetuneKeys(EncoderKeys, Protocol):
    """What the modules read of a family's section."""

    blocks: ClassVar[bool]

    @property
    def final_dropout(self) -> float: ...
    @property
    def freeze_finetune_updates(self) -> int: ...


class WritingConfig(FinetuneKeys, EncoderDecoderKeys, Protocol):
    """And of one whose model writes."""

    @property
    def decoder_embed_dim(self) -> int: ...
    @property
    def decoder(self) -> Any: ...
