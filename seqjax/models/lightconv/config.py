"""Configuration of lightweight and dynamic convolutions and fairseq's named architectures.

Field names and defaults are fairseq's (`lightconv`, `lightconv_lm`); None means "as fairseq
derives it from another key", and the properties say from which.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from seqjax.config import gives
from seqjax.models.parts.configs import (
    ORIGIN,
    TRAINING_ONLY,
    RuntimeConfig,
    check_positive,
    check_rates,
    limit,
)
from seqjax.models.transformer.lm_config import TransformerLanguageModelConfig

ConvType = Literal["lightweight", "dynamic"]


def kernel_sizes(sizes: tuple[int, ...], layers: int, side: str) -> tuple[int, ...]:
    """One kernel size for each layer; a single one is for all of them.

    Raises:
      ValueError: another number of sizes, or one below 1.
    """
    key = f"config.model.{side}_kernel_size_list"
    if len(sizes) not in (1, layers):
        raise ValueError(
            f"{key}: {len(sizes)} sizes {sizes} for {layers} layers; give one, or one for each"
        )
    if min(sizes) < 1:
        raise ValueError(f"{key}: {sizes} must be positive")
    return sizes * layers if len(sizes) == 1 else sizes


@dataclasses.dataclass(frozen=True, kw_only=True)
class _CommonConfig(RuntimeConfig):
    """What the translation and the language model share."""

    arch: str | None = dataclasses.field(default=None, metadata=ORIGIN)
    """fairseq's architecture name; sets defaults of the other keys."""
    dropout: float = dataclasses.field(default=0.1, metadata=TRAINING_ONLY)
    """On the embeddings and on the output of every sublayer."""
    attention_dropout: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """On the weights of the attention to the source."""
    relu_dropout: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """After the activation of the feed-forward network."""
    input_dropout: float = dataclasses.field(default=0.1, metadata=TRAINING_ONLY)
    """In front of each convolution block."""
    weight_dropout: float | None = dataclasses.field(default=None, metadata=TRAINING_ONLY)
    """Of the convolutions' weights (None: attention_dropout)."""
    weight_softmax: bool = True
    """A convolution's weights are positive and sum to one."""
    decoder_conv_dim: int | None = None
    """Channels of the convolutions (None: the decoder's width)."""
    decoder_layers: int = 6
    """Layers of the decoder."""
    decoder_attention_heads: int = 8
    """Heads of the attention, and groups of channels that share a convolution's weights."""
    decoder_learned_pos: bool = False
    """Learned positions instead of sinusoids."""
    decoder_kernel_size_list: tuple[int, ...] = (3, 7, 15, 31, 31, 31)
    """One kernel size for each layer, or one for all."""
    decoder_glu: bool = True
    """Gated linear units in front of the convolutions."""
    decoder_conv_type: ConvType = "dynamic"
    """Kernels are learned (`lightweight`), or computed from the input at each position
    (`dynamic`)."""
    decoder_output_dim: int | None = None
    """Width in front of the output layer (None: the decoder's width)."""
    short_batch_softmax: bool = False
    """Teacher-forced dynamic convolutions normalise over the last n taps only, where n is
    the length of the batch's longest target, if that is shorter than the kernel. fairseq's
    Python code does, its CUDA code and its decoding do not; results then depend on what
    else is in the batch. Packed rows never do."""
    share_decoder_input_output_embed: bool = False
    """The output projection is the target embedding."""
    no_token_positional_embeddings: bool = False
    """No positions are added to the embeddings."""
    max_target_positions: int = dataclasses.field(
        default=1024, metadata=limit(table="decoder_learned_pos"))
    """Longest target, eos included; of a language model the longest block."""

    def __post_init__(self) -> None:
        check_rates(self, (
            "dropout", "attention_dropout", "relu_dropout", "input_dropout", "weight_dropout"))
        self._check_side("decoder")

    def _check_side(self, side: str) -> None:
        check_positive(self, (
            f"{side}_embed_dim", f"{side}_conv_dim", f"{side}_layers", f"{side}_attention_heads"))
        sizes, layers = getattr(self, f"{side}_kernel_size_list"), getattr(self, f"{side}_layers")
        kernel_sizes(sizes, layers, side)
        heads = getattr(self, f"{side}_attention_heads")
        for what, width in (("width", getattr(self, f"{side}_width")),
                            ("conv_dim", getattr(self, f"{side}_channels"))):
            if width % heads:
                raise ValueError(
                    f"config.model: the {side}'s {what} {width} is not a multiple of "
                    f"{side}_attention_heads {heads}"
                )

    @property
    def weight_rate(self) -> float:
        """Dropout of the convolutions' weights."""
        return self.attention_dropout if self.weight_dropout is None else self.weight_dropout

    @property
    def decoder_width(self) -> int:
        """Width of the decoder's layers."""
        raise NotImplementedError

    @property
    def decoder_channels(self) -> int:
        """Channels of the decoder's convolutions."""
        return self.decoder_conv_dim or self.decoder_width

    @property
    def decoder_kernels(self) -> tuple[int, ...]:
        """Kernel size of each decoder layer."""
        return kernel_sizes(self.decoder_kernel_size_list, self.decoder_layers, "decoder")

    @property
    def output_dim(self) -> int:
        """Width in front of the output layer."""
        return self.decoder_output_dim or self.decoder_width


@dataclasses.dataclass(frozen=True, kw_only=True)
class LightConvConfig(_CommonConfig):
    """fairseq's `lightconv`: convolutions in place of self-attention (Wu et al. 2019)."""

    name: Literal["lightconv"] = "lightconv"
    """Chooses the family of models."""
    encoder_embed_dim: int = 512
    """Width of the encoder."""
    encoder_conv_dim: int | None = None
    """Channels of the convolutions (None: encoder_embed_dim)."""
    encoder_ffn_embed_dim: int = 2048
    """Inner width of the feed-forward network."""
    encoder_layers: int = 7
    """Layers of the encoder."""
    encoder_attention_heads: int = 8
    """Groups of channels that share a convolution's weights."""
    encoder_normalize_before: bool = False
    """Norms in front of each sublayer (pre-norm) instead of behind it."""
    encoder_learned_pos: bool = False
    """Learned positions instead of sinusoids."""
    encoder_kernel_size_list: tuple[int, ...] = (3, 7, 15, 31, 31, 31, 31)
    """One kernel size for each layer, or one for all."""
    encoder_glu: bool = True
    """Gated linear units in front of the convolutions."""
    encoder_conv_type: ConvType = "dynamic"
    """Kernels are learned (`lightweight`), or computed from the input at each position
    (`dynamic`)."""
    decoder_embed_dim: int | None = None
    """None: encoder_embed_dim."""
    decoder_ffn_embed_dim: int | None = None
    """None: encoder_ffn_embed_dim."""
    decoder_normalize_before: bool = False
    """Norms in front of each sublayer (pre-norm) instead of behind it."""
    share_all_embeddings: bool = False
    """One embedding for source, target and output."""
    max_source_positions: int = dataclasses.field(
        default=1024, metadata=limit(table="encoder_learned_pos"))
    """Longest source, eos included."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_side("encoder")
        check_positive(self, ("encoder_ffn_embed_dim", "decoder_ffn_embed_dim"))
        if self.encoder_embed_dim != self.decoder_width:
            raise ValueError(
                f"config.model: encoder_embed_dim ({self.encoder_embed_dim}) must equal "
                f"decoder_embed_dim ({self.decoder_width})"
            )
        if self.ties_output and self.output_dim != self.decoder_width:
            raise ValueError(
                "config.model: a shared output projection needs decoder_output_dim "
                f"({self.output_dim}) equal to decoder_embed_dim ({self.decoder_width})"
            )

    FOLLOWS: ClassVar[Mapping[str, str]] = {
        "encoder_conv_dim": "encoder_channels", "decoder_conv_dim": "decoder_channels",
        "decoder_embed_dim": "decoder_width", "decoder_ffn_embed_dim": "decoder_ffn",
        "decoder_output_dim": "output_dim", "weight_dropout": "weight_rate",
        "encoder_kernel_size_list": "encoder_kernels",
        "decoder_kernel_size_list": "decoder_kernels",
    }
    """Key -> the property that says what it comes to."""

    @property
    def shares_input(self) -> bool:
        """Whether the decoder reads the encoder's embedding."""
        return self.share_all_embeddings

    @property
    def ties_output(self) -> bool:
        """Whether the output projection is the decoder's embedding."""
        return self.share_decoder_input_output_embed or self.share_all_embeddings

    @property
    def encoder_width(self) -> int:
        """Width of the encoder's layers."""
        return self.encoder_embed_dim

    @property
    def encoder_channels(self) -> int:
        """Channels of the encoder's convolutions."""
        return self.encoder_conv_dim or self.encoder_embed_dim

    @property
    def encoder_kernels(self) -> tuple[int, ...]:
        """Kernel size of each encoder layer."""
        return kernel_sizes(self.encoder_kernel_size_list, self.encoder_layers, "encoder")

    @property
    def decoder_width(self) -> int:
        return self.decoder_embed_dim or self.encoder_embed_dim

    @property
    def decoder_ffn(self) -> int:
        """Inner width of the decoder's feed-forward network."""
        return self.decoder_ffn_embed_dim or self.encoder_ffn_embed_dim

    @property
    def input_dim(self) -> int:
        """Width of the target embedding."""
        return self.decoder_width


@dataclasses.dataclass(frozen=True, kw_only=True)
class LightConvLanguageModelConfig(_CommonConfig):
    """fairseq's `lightconv_lm`: the decoder without a source; always pre-norm, without a
    final norm."""

    name: Literal["lightconv_lm"] = "lightconv_lm"
    """Chooses the family of models."""
    decoder_embed_dim: int = 512
    """Width of the layers."""
    decoder_ffn_embed_dim: int = 2048
    """Inner width of the feed-forward network."""
    decoder_input_dim: int | None = None
    """Width of the embedding (None: decoder_embed_dim)."""
    adaptive_input: bool = False
    """Embed rare words in fewer dimensions (Baevski and Auli 2019)."""
    adaptive_input_cutoff: tuple[int, ...] | None = None
    """Ids at which a new band of the embedding begins."""
    adaptive_input_factor: float = 4.0
    """Each band has this many times fewer dimensions than the one before."""
    adaptive_softmax_cutoff: tuple[int, ...] | None = dataclasses.field(
        default=None, metadata=gives("clusters"))
    """Ids at which a new cluster of the output layer begins (None: an ordinary softmax).
    Train with `loss.name=adaptive_loss`."""
    adaptive_softmax_factor: float = 4.0
    """Each tail cluster has this many times fewer dimensions than the one before."""
    adaptive_softmax_dropout: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """In front of the output layer and inside its tail clusters."""
    tie_adaptive_weights: bool = False
    """The output layer's words are the bands of the adaptive input."""
    tie_adaptive_proj: bool = False
    """With `tie_adaptive_weights`: so are the projections of its tail clusters."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, ("decoder_ffn_embed_dim", "decoder_input_dim"))
        # Embedding and output layer are the transformer's, and so is what they refuse.
        TransformerLanguageModelConfig(**{key: getattr(self, key) for key in (
            "decoder_embed_dim", "decoder_attention_heads", "decoder_input_dim",
            "decoder_output_dim", "share_decoder_input_output_embed", "adaptive_input",
            "adaptive_input_cutoff", "adaptive_input_factor", "adaptive_softmax_cutoff",
            "adaptive_softmax_factor", "adaptive_softmax_dropout", "tie_adaptive_weights",
            "tie_adaptive_proj",
        )})

    FOLLOWS: ClassVar[Mapping[str, str]] = {
        "decoder_conv_dim": "decoder_channels", "decoder_input_dim": "adaptive_input_dim",
        "decoder_output_dim": "output_dim", "weight_dropout": "weight_rate",
        "decoder_kernel_size_list": "decoder_kernels",
    }
    """Key -> the property that says what it comes to."""

    @property
    def decoder_width(self) -> int:
        return self.decoder_embed_dim

    @property
    def decoder_ffn(self) -> int:
        """Inner width of the feed-forward network."""
        return self.decoder_ffn_embed_dim

    @property
    def decoder_normalize_before(self) -> bool:
        """Always: fairseq forces it."""
        return True

    @property
    def adaptive_input_dim(self) -> int:
        """Width of the first band of an adaptive input."""
        return self.decoder_input_dim or self.decoder_embed_dim

    @property
    def input_dim(self) -> int:
        """Width of what the embedding gives; an adaptive one projects by itself."""
        if self.adaptive_input:
            return self.decoder_embed_dim
        return self.decoder_input_dim or self.decoder_embed_dim


DecoderConfig = LightConvConfig | LightConvLanguageModelConfig
"""What has a decoder of this family."""



_BIG: dict[str, Any] = {
    "attention_dropout": 0.1, "encoder_embed_dim": 1024, "encoder_ffn_embed_dim": 4096,
    "encoder_attention_heads": 16, "decoder_embed_dim": 1024, "decoder_ffn_embed_dim": 4096,
    "decoder_attention_heads": 16, "dropout": 0.3,
}

ARCHS: dict[str, dict[str, Any]] = {
    "lightconv": {},
    "lightconv_iwslt_de_en": {
        "encoder_ffn_embed_dim": 1024, "encoder_attention_heads": 4,
        "decoder_ffn_embed_dim": 1024, "decoder_attention_heads": 4, "attention_dropout": 0.1,
        "weight_dropout": 0.1, "encoder_glu": False, "decoder_glu": False, "input_dropout": 0.0,
    },
    "lightconv_wmt_en_de": {},
    "lightconv_wmt_en_de_big": _BIG,
    "lightconv_wmt_en_fr_big": {**_BIG, "dropout": 0.1},
    "lightconv_wmt_zh_en_big": {
        **_BIG, "dropout": 0.2, "attention_dropout": 0.2, "weight_dropout": 0.2,
    },
}
"""fairseq architecture name -> the defaults that it changes."""

LM_ARCHS: dict[str, dict[str, Any]] = {
    "lightconv_lm": {},
    "lightconv_lm_gbw": {
        "attention_dropout": 0.1, "decoder_ffn_embed_dim": 4096, "decoder_attention_heads": 16,
    },
}
"""Likewise for language models."""
