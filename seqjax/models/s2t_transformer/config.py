"""Configurations of fairseq's speech-to-text transformers, and its named architectures.

Field names and defaults are fairseq's: features of audio come in, words go out, and the decoder
is the transformer's. Importing this costs no JAX.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from seqjax.config import gives
from seqjax.models.parts.configs import (
    LIMIT,
    ORIGIN,
    TRAINING_ONLY,
    RuntimeConfig,
    check_bands,
    check_layers,
    check_positive,
    check_rates,
)
from seqjax.models.transformer.config import EncoderStackConfig, WritingDecoderConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubsamplerConfig:
    """Convolutions that make few frames of many, in front of the encoder's layers."""

    input_feat_per_channel: int = 80
    """Features of a frame, in each of its channels."""
    input_channels: int = 1
    """Channels, such as features and their deltas; a frame has all one after the other."""
    conv_version: Literal["s2t_transformer", "convtransformer"] = "s2t_transformer"
    """`s2t_transformer`: gated convolutions over time, `convtransformer`: two over time and
    frequencies. Both have stride 2."""
    conv_kernel_sizes: str = "5,5"
    """Widths of the convolutions over time, of which there are as many; odd numbers."""
    conv_channels: int = 1024
    """Channels of those but the last, in front of their gates."""
    conv_out_channels: int = 256
    """Channels of the convolutions over time and frequencies."""

    @property
    def over_frequencies(self) -> bool:
        """Which of the two kinds the convolutions are."""
        return self.conv_version == "convtransformer"

    @property
    def frame_width(self) -> int:
        """Features of a frame, all channels."""
        return self.input_feat_per_channel * self.input_channels

    @property
    def kernel_sizes(self) -> tuple[int, ...]:
        """`conv_kernel_sizes`, as numbers.

        Raises:
          ValueError: no odd numbers. (Of even ones fairseq counts another number of frames than
            its convolutions give, and stops on it.)
        """
        try:
            sizes = tuple(int(size) for size in self.conv_kernel_sizes.split(","))
        except ValueError:
            sizes = ()
        if not sizes or any(size < 1 or size % 2 == 0 for size in sizes):
            raise ValueError(
                f"config.model.conv_kernel_sizes: {self.conv_kernel_sizes!r} is no list of odd "
                "numbers such as 5,5")
        return sizes

    def check_subsampler(self) -> None:
        """Raises ValueError for convolutions that cannot be, naming the key."""
        check_positive(self, ("input_feat_per_channel", "input_channels", "conv_channels",
                              "conv_out_channels"))
        if len(self.kernel_sizes) > 1 and self.conv_channels % 2:
            raise ValueError(
                f"config.model.conv_channels: {self.conv_channels} is odd; half of them are gates")
        if self.over_frequencies and self.input_channels != 1:
            raise ValueError(
                f"config.model.input_channels: {self.input_channels}; convolutions over "
                "frequencies (conv_version) read one channel")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechConfig(RuntimeConfig, SubsamplerConfig, EncoderStackConfig, WritingDecoderConfig):
    """What the families here share."""

    name: str = ""
    """Chooses the family of models."""
    arch: str | None = dataclasses.field(default=None, metadata=ORIGIN)
    """fairseq's architecture name; sets defaults of the other keys."""
    max_source_positions: int = dataclasses.field(default=6000, metadata=LIMIT)
    """Longest source, in frames of features."""
    encoder_freezing_updates: int = dataclasses.field(default=0, metadata=TRAINING_ONLY)
    """The encoder is not trained in the first so many updates."""
    ctc_weight: float = dataclasses.field(default=0.0, metadata=gives("ctc"))
    """Above 0: a projection of the encoder's states to words, for a CTC loss beside the
    decoder's (of which it is the weight)."""

    @staticmethod
    def follow(values: dict[str, Any]) -> None:
        """Sizes of the decoder that are not given are the encoder's: fairseq's
        `base_architecture`."""
        for size in ("embed_dim", "ffn_embed_dim"):
            if f"encoder_{size}" in values:
                values.setdefault(f"decoder_{size}", values[f"encoder_{size}"])

    def __post_init__(self) -> None:
        self.check_form()
        self.check_subsampler()
        check_layers(self)
        check_bands(self, "adaptive_softmax")
        check_rates(self, ("dropout", "attention_dropout", "activation_dropout",
                           "encoder_layerdrop", "decoder_layerdrop", "adaptive_softmax_dropout"))
        for side in ("encoder", "decoder"):
            dim, heads = (getattr(self, f"{side}_{key}") for key in (
                "embed_dim", "attention_heads"))
            if heads < 1 or dim % heads:
                raise ValueError(f"config.model: {side}_embed_dim {dim} is not a multiple of "
                                 f"{side}_attention_heads {heads}")
        for key in ("encoder_freezing_updates", "ctc_weight"):
            if getattr(self, key) < 0:
                raise ValueError(f"config.model.{key}: {getattr(self, key)} is negative")

    FOLLOWS: ClassVar[Mapping[str, str]] = {
        "decoder_input_dim": "input_dim", "decoder_output_dim": "output_dim",
    }
    """Key -> the property that says what it comes to."""


def _follow_dropout(values: dict[str, Any]) -> None:
    """Rates that are not given are that of `dropout`."""
    SpeechConfig.follow(values)
    if "dropout" in values:
        for rate in ("attention_dropout", "activation_dropout"):
            values.setdefault(rate, values["dropout"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class S2TTransformerConfig(SpeechConfig):
    """fairseq's `s2t_transformer` (Wang et al. 2020)."""

    name: Literal["s2t_transformer"] = "s2t_transformer"  # type: ignore[assignment]
    """Chooses the family of models."""
    encoder_layers: int = 12
    """Layers of the encoder."""
    encoder_normalize_before: bool = True
    """Norms in front of each sublayer (pre-norm) instead of behind it."""
    decoder_normalize_before: bool = True
    """Norms in front of each sublayer (pre-norm) instead of behind it."""
    attention_dropout: float = dataclasses.field(default=0.1, metadata=TRAINING_ONLY)
    """On the weights of the attention (not given: dropout)."""
    activation_dropout: float = dataclasses.field(default=0.1, metadata=TRAINING_ONLY)
    """After the activation of the feed-forward network (not given: dropout)."""

    follow = staticmethod(_follow_dropout)


@dataclasses.dataclass(frozen=True, kw_only=True)
class S2TConformerConfig(S2TTransformerConfig):
    """fairseq's `s2t_conformer` (Gulati et al. 2020): convolutions beside the attention of the
    encoder's layers, with batch norms, whose running statistics are among the parameters. These
    layers have norms where they have them, the activation swish, and one rate, `dropout`."""

    name: Literal["s2t_conformer"] = "s2t_conformer"  # type: ignore[assignment]
    """Chooses the family of models."""
    encoder_embed_dim: int = 256
    """Width of the encoder."""
    decoder_embed_dim: int = 256
    """Width of the decoder."""
    encoder_layers: int = 16
    """Layers of the encoder."""
    encoder_attention_heads: int = 4
    """Heads of the attention; the width is a multiple of them."""
    depthwise_conv_kernel_size: int = 31
    """Frames that a convolution between layers sees; an odd number."""
    attn_type: Literal["espnet"] | None = None
    """`espnet`: attention as ESPnet has it, which knows of relative and rotary positions; None:
    the transformer's."""
    pos_enc_type: Literal["abs", "rel_pos", "rope"] = "abs"
    """Positions: `abs`, sinusoids that are added to the frames; `rel_pos`, distances in the
    attention (Transformer-XL's); `rope`, rotations of what queries and keys are made of (without
    attn_type=espnet there are no positions then)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        width = self.depthwise_conv_kernel_size
        if width < 1 or width % 2 == 0:
            raise ValueError(
                f"config.model.depthwise_conv_kernel_size: {width} is no odd number")
        if self.pos_enc_type == "rel_pos" and self.attn_type != "espnet":
            raise ValueError(
                "config.model.pos_enc_type: rel_pos is for config.model.attn_type=espnet")
        if self.rotates and (self.encoder_embed_dim // self.encoder_attention_heads) % 2:
            raise ValueError(
                "config.model.pos_enc_type: rope rotates pairs, and the heads of "
                f"encoder_embed_dim {self.encoder_embed_dim} have an odd width")
        if self.encoder_layerdrop:
            raise ValueError("config.model.encoder_layerdrop: layers with batch norms are not "
                             "skipped")

    @property
    def rotates(self) -> bool:
        """Whether what queries and keys are made of is rotated."""
        return self.attn_type == "espnet" and self.pos_enc_type == "rope"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvTransformerConfig(SpeechConfig):
    """fairseq's `convtransformer`, ESPnet-ST's (Inaguma et al. 2020)."""

    name: Literal["convtransformer"] = "convtransformer"  # type: ignore[assignment]
    """Chooses the family of models."""
    conv_version: Literal["convtransformer"] = "convtransformer"  # type: ignore[assignment]
    """Convolutions over time and frequencies; there are no others."""
    conv_out_channels: int = 512
    """Their channels (not given: encoder_embed_dim)."""
    max_source_positions: int = dataclasses.field(default=3000, metadata=LIMIT)
    """Longest source, in frames of features."""

    @staticmethod
    def follow(values: dict[str, Any]) -> None:
        """Also the channels of the convolutions, which are as many as the encoder is wide."""
        SpeechConfig.follow(values)
        if "encoder_embed_dim" in values:
            values.setdefault("conv_out_channels", values["encoder_embed_dim"])

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, usual in (("ctc_weight", 0.0), ("encoder_freezing_updates", 0)):
            if getattr(self, key) != usual:
                raise ValueError(f"config.model.{key}: {getattr(self, key)}, but models of this "
                                 "family have no such thing; use s2t_transformer with "
                                 "conv_version=convtransformer")


def _size(embed: int, ffn: int, heads: int, dropout: float, **more: int) -> dict[str, Any]:
    return {"encoder_embed_dim": embed, "encoder_ffn_embed_dim": ffn,
            "encoder_attention_heads": heads, "decoder_attention_heads": heads,
            "dropout": dropout, **more}


S2T_ARCHS: dict[str, dict[str, Any]] = {
    "s2t_transformer": {},
    "s2t_transformer_xs": _size(256, 1024, 4, 0.3, encoder_layers=6, decoder_layers=3),
    "s2t_transformer_s": _size(256, 2048, 4, 0.1),
    "s2t_transformer_sp": _size(256, 2048, 4, 0.1, encoder_layers=16),
    "s2t_transformer_m": _size(512, 2048, 8, 0.15),
    "s2t_transformer_mp": _size(512, 2048, 8, 0.15, encoder_layers=16),
    "s2t_transformer_l": _size(1024, 4096, 16, 0.2),
    "s2t_transformer_lp": _size(1024, 4096, 16, 0.2, encoder_layers=16),
}
"""fairseq architecture name -> the defaults that it changes."""
CONFORMER_ARCHS: dict[str, dict[str, Any]] = {"s2t_conformer": {}}
CONV_ARCHS: dict[str, dict[str, Any]] = {
    "convtransformer": {},
    "convtransformer_espnet": {
        "encoder_embed_dim": 256, "encoder_layers": 12, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4},
}
