"""Configuration of a model that is put together of a pretrained encoder of waveforms and a
pretrained decoder of text (Li et al. 2021, Babu et al. 2021: XLS-R and mBART).

Field names and defaults are fairseq's; what fairseq keeps as the encoder's own configuration
(`w2v_args`) are keys here, and of its `activation_fn` the name is `w2v_activation_fn`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from seqjax.models.finetuning.config import FinetuningConfig
from seqjax.models.parts.audio_encoder_config import Activation, WaveformEncoderConfig
from seqjax.models.parts.configs import (
    TRAINING_ONLY,
    check_bands,
    check_layers,
    check_positive,
    check_rates,
)
from seqjax.models.transformer.config import TransformerConfig, WritingDecoderConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderSectionConfig(FinetuningConfig, WaveformEncoderConfig):
    """The section of the encoder alone, as its modules read it."""

    name: str = ""
    """It is no family's."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptorConfig:
    """Convolutions between encoder and decoder, which make few frames of many."""

    adaptor_n_layers: int = 3
    """Gated convolutions (0: there is no adaptor)."""
    adaptor_kernel_size: int = 3
    """Frames that each sees; an odd number."""
    adaptor_stride: int = 2
    """Frames of which each makes one."""
    adaptor_layerdrop: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """How often one is skipped in training."""
    adaptor_layernorm: bool = False
    """A norm in front of them."""
    adaptor_proj: bool = False
    """Feed-forward networks in front of them and behind them; and a norm behind the encoder's
    projection."""
    encoder_proj: bool = False
    """The encoder's states are projected to the decoder's width where that is another
    (adaptor_proj does so too). Otherwise the adaptor is as wide as the encoder."""

    def check_adaptor(self) -> None:
        """Raises ValueError for sizes that cannot be, naming the key."""
        check_positive(self, ("adaptor_stride",))
        check_rates(self, ("adaptor_layerdrop",))
        if self.adaptor_n_layers < 0:
            raise ValueError(
                f"config.model.adaptor_n_layers: {self.adaptor_n_layers} is negative")
        if self.adaptor_kernel_size < 1 or self.adaptor_kernel_size % 2 == 0:
            raise ValueError(
                f"config.model.adaptor_kernel_size: {self.adaptor_kernel_size} is no odd number")


@dataclasses.dataclass(frozen=True, kw_only=True)
class XMTransformerConfig(
        AdaptorConfig, FinetuningConfig, WaveformEncoderConfig, WritingDecoderConfig):
    """fairseq's `xm_transformer`."""

    name: Literal["xm_transformer"] = "xm_transformer"
    """Chooses the family of models."""
    w2v_activation_fn: Activation = "gelu"
    """Of the encoder's feed-forward networks."""
    activation_fn: Activation = "relu"
    """Of the decoder's feed-forward networks."""
    dropout: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """In the encoder: on its input and on the output of every sublayer."""
    attention_dropout: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """In the encoder: on attention weights."""
    activation_dropout: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """In the encoder: after the activation of the feed-forward networks."""
    mask_channel_prob: float = dataclasses.field(default=0.5, metadata=TRAINING_ONLY)
    """As `mask_prob`, of channels; these become 0 in all frames of a row."""
    feature_grad_mult: float = dataclasses.field(default=0.1, metadata=TRAINING_ONLY)
    """What gradients into the convolutions over samples are multiplied by. (fairseq has 0.1
    whatever its command says.)"""
    decoder_dropout: float = dataclasses.field(default=0.1, metadata=TRAINING_ONLY)
    """In the decoder: on the embeddings and on the output of every sublayer."""
    decoder_attention_dropout: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """In the decoder: on attention weights."""
    decoder_activation_dropout: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """In the decoder: after the activation of the feed-forward networks."""
    finetune_w2v_params: str = dataclasses.field(default="all", metadata=TRAINING_ONLY)
    """Parameters of the encoder that are trained: `all`, or pieces of their names (fairseq's),
    with commas: `layer_norm,self_attn`."""
    finetune_decoder_params: str = dataclasses.field(default="all", metadata=TRAINING_ONLY)
    """Those of the decoder, likewise: `encoder_attn,self_attn`."""
    w2v_freezing_updates: int | None = dataclasses.field(default=None, metadata=TRAINING_ONLY)
    """After more updates than these the whole encoder is trained (None: never)."""
    encoder_layers: int = 24
    """Layers of the encoder."""
    encoder_embed_dim: int = 1024
    """Width of the encoder."""
    encoder_ffn_embed_dim: int = 4096
    """Inner width of its feed-forward networks."""
    encoder_attention_heads: int = 16
    """Heads of its attention."""
    decoder_embed_dim: int = 1024
    """Width of the decoder."""
    decoder_ffn_embed_dim: int = 4096
    """Inner width of its feed-forward networks."""
    decoder_layers: int = 12
    """Layers of the decoder."""
    decoder_attention_heads: int = 16
    """Heads of its attention; the width is a multiple of them."""

    FOLLOWS: ClassVar[Mapping[str, str]] = {
        "decoder_input_dim": "input_dim", "decoder_output_dim": "output_dim",
    }
    """Key -> the property that says what it comes to."""

    def __post_init__(self) -> None:
        self.check_waveforms()
        self.check_finetuning()
        self.check_adaptor()
        check_layers(self)
        check_bands(self, "adaptive_softmax")
        check_rates(self, ("decoder_dropout", "decoder_attention_dropout",
                           "decoder_activation_dropout"))
        self.decoder_section.check_form()

    @property
    def encoder_section(self) -> EncoderSectionConfig:
        """The section of the encoder alone."""
        names = {f.name for f in dataclasses.fields(EncoderSectionConfig)} - {"name"}
        own = {name: getattr(self, name) for name in names}
        return EncoderSectionConfig(**{**own, "activation_fn": self.w2v_activation_fn})

    @property
    def decoder_section(self) -> TransformerConfig:
        """That of the decoder alone, as a transformer's whose encoder's states it reads."""
        names = {"scan_unroll", "remat"} | {
            f.name for f in dataclasses.fields(WritingDecoderConfig)}
        own = {name: getattr(self, name) for name in names}
        rates = {rate: getattr(self, f"decoder_{rate}") for rate in (
            "dropout", "attention_dropout", "activation_dropout")}
        return TransformerConfig(**{**own, **rates, "encoder_embed_dim": self.memory_dim,
                                    "encoder_attention_heads": 1})

    @property
    def projects(self) -> bool:
        """Whether the encoder's states are projected to the decoder's width."""
        return (self.adaptor_proj or self.encoder_proj) and (
            self.encoder_embed_dim != self.decoder_embed_dim)

    @property
    def memory_dim(self) -> int:
        """Width of what the decoder reads, and of the adaptor."""
        own = self.adaptor_proj or self.encoder_proj
        return self.decoder_embed_dim if own else self.encoder_embed_dim

    @property
    def max_source_positions(self) -> int:
        """Longest source, in frames of the encoder's convolutions."""
        return self.max_positions



ARCHS: dict[str, dict[str, Any]] = {"xm_transformer": {}}
"""fairseq architecture name -> the defaults that it changes."""
