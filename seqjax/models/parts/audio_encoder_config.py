"""Configuration keys of what wav2vec 2.0, HuBERT and data2vec have in common: the convolutions over
samples, the transformer behind them, and how both are trained.

A family's section is made of these. Importing it costs no JAX. Field names and defaults are
fairseq's.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, Protocol

from seqjax.config import ModelSection
from seqjax.models.parts.audio_config import ConvLayer, MaskConfig, conv_layers
from seqjax.models.parts.configs import (
    LIMIT,
    TRAINING_ONLY,
    RuntimeConfig,
    check_positive,
    check_rates,
)

Activation = Literal[
    "relu", "gelu", "gelu_fast", "gelu_accurate", "tanh", "linear", "swish"]
ADAPTED = "trf_adp"
"""fairseq's name of layers with adapters."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AudioEncoderConfig(MaskConfig, RuntimeConfig):
    """Convolutions over samples and a transformer over their frames."""

    extractor_mode: Literal["default", "layer_norm"] = "default"
    """Norms of the convolutions over samples: `default` has one group norm, behind the first,
    whose statistics are over a row's frames, padding's up to the longest row's too, so that a
    row's features depend on what it is batched with; `layer_norm` one in each layer, of each
    frame by itself."""
    encoder_layers: int = 12
    """Layers of the transformer."""
    encoder_embed_dim: int = 768
    """Width of the transformer."""
    encoder_ffn_embed_dim: int = 3072
    """Inner width of its feed-forward networks."""
    encoder_attention_heads: int = 12
    """Heads of its attention."""
    activation_fn: Activation = "gelu"
    """Of its feed-forward networks."""
    dropout: float = dataclasses.field(default=0.1, metadata=TRAINING_ONLY)
    """On the transformer's input and on the output of every sublayer."""
    attention_dropout: float = dataclasses.field(default=0.1, metadata=TRAINING_ONLY)
    """On attention weights."""
    activation_dropout: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """After the activation of the feed-forward networks."""
    dropout_input: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """On what the transformer is made to read."""
    layer_norm_first: bool = False
    """Norms in front of each sublayer (pre-norm) instead of behind it."""
    conv_feature_layers: str = "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]"
    """The convolutions over samples: (channels, width, stride) of each."""
    conv_bias: bool = False
    """These have biases."""
    feature_grad_mult: float = dataclasses.field(default=1.0, metadata=TRAINING_ONLY)
    """What gradients into the convolutions over samples are multiplied by (0: these are not
    trained)."""
    conv_pos: int = 128
    """Frames that the convolution which stands for positions sees."""
    conv_pos_groups: int = 16
    """Its groups."""
    required_seq_len_multiple: int = dataclasses.field(default=2, metadata=TRAINING_ONLY)
    """Rows of frames are padded to a multiple of it inside the transformer; changes no number."""
    projects_features: bool = False
    """A linear layer between the convolutions and the transformer even where both are equally
    wide, as transformers' models have it; fairseq's have it where they are not."""

    def check_encoder(self) -> None:
        """Raises ValueError for sizes and rates that make no encoder."""
        check_rates(self, (
            "dropout", "attention_dropout", "activation_dropout", "dropout_input"))
        check_positive(self, (
            "encoder_layers", "encoder_embed_dim", "encoder_ffn_embed_dim",
            "encoder_attention_heads", "conv_pos", "conv_pos_groups",
            "required_seq_len_multiple"))
        self.check_masks()
        if self.feature_grad_mult < 0:
            raise ValueError(
                f"config.model.feature_grad_mult: {self.feature_grad_mult} is negative")
        for key in ("encoder_attention_heads", "conv_pos_groups"):
            if self.encoder_embed_dim % getattr(self, key):
                raise ValueError(
                    f"config.model.encoder_embed_dim: {self.encoder_embed_dim} is not a multiple "
                    f"of {key} {getattr(self, key)}")
        conv_layers(self.conv_feature_layers)

    @property
    def conv_layers(self) -> tuple[ConvLayer, ...]:
        """The convolutions over samples."""
        return conv_layers(self.conv_feature_layers)

    @property
    def feature_dim(self) -> int:
        """Channels of the last of them."""
        return self.conv_layers[-1].channels

    @property
    def has_projection(self) -> bool:
        """Whether a linear layer leads from these to the transformer's width."""
        return self.projects_features or self.feature_dim != self.encoder_embed_dim


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Small networks behind every layer, one for each of several languages (MMS)."""

    layer_type: Literal["transformer", "trf_adp"] = "transformer"
    """`trf_adp`: layers with adapters."""
    adp_num: int = -1
    """Adapters of a layer, of which the first is used."""
    adp_dim: int = 64
    """Inner width of an adapter."""
    adp_act_fn: Literal["relu", "gelu", "selu"] = "relu"
    """Activation inside of it."""

    def check_adapters(self) -> None:
        """Raises ValueError for adapters without a size."""
        if self.layer_type == ADAPTED and (self.adp_num < 1 or self.adp_dim < 1):
            raise ValueError(
                f"config.model.adp_num, adp_dim: {self.adp_num} adapters of width {self.adp_dim}, "
                "where layer_type trf_adp has at least one of each layer")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WaveformEncoderConfig(AdapterConfig, AudioEncoderConfig):
    """What wav2vec 2.0 and data2vec have, and HuBERT has not."""

    pos_conv_depth: int = 1
    """Convolutions that share `conv_pos` frames; more than one have norms in place of weight
    norm."""
    require_same_masks: bool = dataclasses.field(default=True, metadata=TRAINING_ONLY)
    """As many masked frames in each row, as training needs."""
    mask_dropout: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """Share of the masked frames that are left as they are after all."""
    mask_channel_before: bool = dataclasses.field(default=False, metadata=TRAINING_ONLY)
    """Channels are masked before frames, so that masked frames keep all of the mask's."""
    max_positions: int = dataclasses.field(default=100000, metadata=LIMIT)
    """Longest row, in frames."""

    @property
    def conv_pos_batch_norm(self) -> bool:
        """No batch norm in front of the convolution for positions."""
        return False

    def check_waveforms(self) -> None:
        """`check_encoder`, and the keys that are added here."""
        self.check_encoder()
        self.check_adapters()
        check_rates(self, ("mask_dropout",))
        check_positive(self, ("pos_conv_depth", "max_positions"))


class EncoderKeys(ModelSection, Protocol):
    """What the encoder's modules read of a family's section."""

    @property
    def scan_unroll(self) -> int: ...
    @property
    def remat(self) -> Literal["none", "dots", "full"]: ...
    @property
    def extractor_mode(self) -> Literal["default", "layer_norm"]: ...
    @property
    def encoder_layers(self) -> int: ...
    @property
    def encoder_embed_dim(self) -> int: ...
    @property
    def encoder_ffn_embed_dim(self) -> int: ...
    @property
    def encoder_attention_heads(self) -> int: ...
    @property
    def activation_fn(self) -> Activation: ...
    @property
    def dropout(self) -> float: ...
    @property
    def attention_dropout(self) -> float: ...
    @property
    def activation_dropout(self) -> float: ...
    @property
    def dropout_input(self) -> float: ...
    @property
    def encoder_layerdrop(self) -> float: ...
    @property
    def layer_norm_first(self) -> bool: ...
    @property
    def conv_bias(self) -> bool: ...
    @property
    def feature_grad_mult(self) -> float: ...
    @property
    def conv_pos(self) -> int: ...
    @property
    def conv_pos_groups(self) -> int: ...
    @property
    def pos_conv_depth(self) -> int: ...
    @property
    def conv_pos_batch_norm(self) -> bool: ...
    @property
    def required_seq_len_multiple(self) -> int: ...
    @property
    def mask_channel_before(self) -> bool: ...
    @property
    def layer_type(self) -> str: ...
    @property
    def adp_num(self) -> int: ...
    @property
    def adp_dim(self) -> int: ...
    @property
    def adp_act_fn(self) -> str: ...
    @property
    def conv_layers(self) -> tuple[ConvLayer, ...]: ...
    @property
    def feature_dim(self) -> int: ...
    @property
    def has_projection(self) -> bool: ...


class AudioModelKeys(EncoderKeys, Protocol):
    """And what models read of it beside their modules."""

    @property
    def mask_channel_prob(self) -> float: ...
