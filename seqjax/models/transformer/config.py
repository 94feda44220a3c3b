"""Configuration of the encoder-decoder transformer and fairseq's named architectures.

Field names and defaults are fairseq's. The last fields say how it is computed; they
change no number beyond rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from seqjax.models.parts.configs import (
    ORIGIN,
    TRAINING_ONLY,
    AdaptiveSoftmaxConfig,
    RuntimeConfig,
    check_bands,
    check_layers,
    follow_kept,
    limit,
)
from seqjax.models.parts.heads_config import ClassificationHeadsConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormFormerConfig:
    """What NormFormer (Shleifer, Weston and Ott 2021) adds to each layer of a decoder. Encoders
    have none of it, as in fairseq."""

    scale_attn: bool = False
    """A norm behind self-attention."""
    scale_fc: bool = False
    """A norm inside the feed-forward network, in front of its second matrix."""
    scale_heads: bool = False
    """A learned factor for each head's share of self-attention's output."""
    scale_resids: bool = False
    """A learned factor for each dimension of what the feed-forward network is added to."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerConfig:
    """What the layers of encoders and decoders share, and what stands in front of them."""

    activation_fn: Literal[
        "relu", "gelu", "gelu_fast", "gelu_accurate", "tanh", "linear", "swish"
    ] = "relu"
    """Of the feed-forward network."""
    dropout: float = dataclasses.field(default=0.1, metadata=TRAINING_ONLY)
    """On the embeddings and on the output of every sublayer."""
    attention_dropout: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """On the weights of the attention."""
    activation_dropout: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """After the activation of the feed-forward network."""
    no_token_positional_embeddings: bool = False
    """No positions are added to the embeddings."""
    no_scale_embedding: bool = False
    """Embeddings are not multiplied by the square root of their width."""
    layernorm_embedding: bool = False
    """A norm behind the embeddings."""
    layer_norm_eps: float = 1e-5
    """Added to the variance in every layer norm."""
    linear_bias: bool = True
    """Biases in the matrices of the layers: attention's and the feed-forward network's."""
    position_offset: int | None = None
    """Position of the first token: of sinusoids, or the row of the table of learned positions,
    which has this many more rows (None: one behind padding's id, as in fairseq)."""
    sinusoid_spacing: Literal["inclusive", "exclusive"] = "inclusive"
    """Of the frequencies of sinusoids, which go from 1 down to 1/10000: `inclusive` of that, as
    in tensor2tensor and fairseq, or `exclusive`, as in Vaswani et al. 2017."""

    def check_form(self) -> None:
        """Raises ValueError for an epsilon or a position that there is not."""
        if not self.layer_norm_eps > 0.0:
            raise ValueError(
                f"config.model.layer_norm_eps: {self.layer_norm_eps} is not positive")
        if self.position_offset is not None and self.position_offset < 0:
            raise ValueError(
                f"config.model.position_offset: {self.position_offset} is negative")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderStackConfig(LayerConfig):
    """Layers that see all of the source, whatever it is made of."""

    encoder_embed_dim: int = 512
    """Width of the encoder."""
    encoder_ffn_embed_dim: int = 2048
    """Inner width of the feed-forward network."""
    encoder_layers: int = 6
    """Layers of the encoder."""
    encoder_attention_heads: int = 8
    """Heads of the attention; the width is a multiple of them."""
    encoder_normalize_before: bool = False
    """Norms in front of each sublayer (pre-norm) instead of behind it."""
    encoder_layerdrop: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """How often a layer is skipped in training (LayerDrop, Fan et al. 2019)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig(EncoderStackConfig):
    """An encoder of words."""

    encoder_layers_to_keep: tuple[int, ...] | None = dataclasses.field(
        default=None, metadata=ORIGIN)
    """Of the model that `init_from` names, the layers to begin with, from 0 (None: all);
    their number is `encoder_layers`, whatever that says."""
    encoder_learned_pos: bool = False
    """Learned positions instead of sinusoids."""
    no_encoder_final_norm: bool = False
    """A pre-norm encoder without a norm behind its last layer: fairseq's of early 2018, which
    later versions tell by `encoder.version`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig(LayerConfig, NormFormerConfig, AdaptiveSoftmaxConfig):
    """Layers that see what came before."""

    decoder_embed_dim: int = 512
    """Width of the decoder."""
    decoder_ffn_embed_dim: int = 2048
    """Inner width of the feed-forward network."""
    decoder_layers: int = 6
    """Layers of the decoder."""
    decoder_layers_to_keep: tuple[int, ...] | None = dataclasses.field(
        default=None, metadata=ORIGIN)
    """Of the model that `init_from` names, the layers to begin with, from 0 (None: all);
    their number is `decoder_layers`, whatever that says."""
    decoder_attention_heads: int = 8
    """Heads of the attention; the width is a multiple of them."""
    decoder_normalize_before: bool = False
    """Norms in front of each sublayer (pre-norm) instead of behind it."""
    decoder_learned_pos: bool = False
    """Learned positions instead of sinusoids."""
    decoder_layerdrop: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """How often a layer is skipped in training (LayerDrop, Fan et al. 2019)."""
    decoder_input_dim: int | None = None
    """Width of the embedding (None: decoder_embed_dim)."""
    decoder_output_dim: int | None = None
    """Width in front of the output projection (None: decoder_embed_dim)."""
    share_decoder_input_output_embed: bool = False
    """The output projection is the embedding (not with an adaptive softmax)."""
    output_bias: bool = False
    """A bias of each word's logit (not with an adaptive softmax)."""
    pad_begins: bool = False
    """What the decoder reads begins with padding's symbol, which there is a token as any other."""
    no_decoder_final_norm: bool = False
    """A pre-norm decoder without a norm behind its last layer."""
    max_target_positions: int = dataclasses.field(
        default=1024, metadata=limit(table="decoder_learned_pos"))
    """Longest target, or block of tokens of a language model (with learned positions: rows of
    their table)."""

    def check_form(self) -> None:
        """Also raises ValueError for an output layer that has no place for a bias."""
        super().check_form()
        if self.output_bias and self.adaptive_softmax_cutoff is not None:
            raise ValueError(
                "config.model.output_bias: an adaptive softmax (adaptive_softmax_cutoff) has none")

    @property
    def input_dim(self) -> int:
        """Width of the target embedding."""
        raise NotImplementedError

    @property
    def output_dim(self) -> int:
        """Width in front of the output projection."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class WritingDecoderConfig(DecoderConfig):
    """Of a decoder beside an encoder that reads no words."""

    @property
    def shares_input(self) -> bool:
        """There are no words in the source whose embedding could be shared."""
        return False

    @property
    def ties_output(self) -> bool:
        """Whether the output projection is the decoder's embedding (never an adaptive one)."""
        return self.share_decoder_input_output_embed and self.adaptive_softmax_cutoff is None

    @property
    def input_dim(self) -> int:
        """Width of the target embedding."""
        return self.decoder_input_dim or self.decoder_embed_dim

    @property
    def output_dim(self) -> int:
        """Width in front of the output projection."""
        return self.decoder_output_dim or self.decoder_embed_dim


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderOnlyConfig(RuntimeConfig, EncoderConfig):
    """A model that is an encoder."""

    @property
    def max_source_positions(self) -> int:
        """Tokens of a source at most."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig(RuntimeConfig, EncoderConfig, DecoderConfig):
    """fairseq's `transformer`."""

    name: Literal["transformer"] = "transformer"
    """Chooses the family of models."""
    arch: str | None = dataclasses.field(default=None, metadata=ORIGIN)
    """fairseq's architecture name; sets defaults of the other keys."""
    share_all_embeddings: bool = False
    """One embedding for source, target and output."""
    merge_src_tgt_embed: bool = False
    """One embedding for source, target and output."""
    cross_self_attention: bool = False
    """The decoder's self-attention looks at the source and at what came before together
    (Peitz et al. 2019)."""
    no_cross_attention: bool = False
    """A decoder without attention to the source of its own; without `cross_self_attention` it
    never sees the source."""
    max_source_positions: int = dataclasses.field(
        default=1024, metadata=limit(table="encoder_learned_pos"))
    """Longest source, eos included (with learned positions: rows of their table)."""

    @staticmethod
    def follow(values: dict[str, Any]) -> None:
        """Sizes of the decoder that are not given are the encoder's, and one embedding for
        both sides is the output's too: fairseq's `base_architecture` and `build_model`."""
        follow_kept(values)
        for size in ("embed_dim", "ffn_embed_dim"):
            if f"encoder_{size}" in values:
                values.setdefault(f"decoder_{size}", values[f"encoder_{size}"])
        if values.get("share_all_embeddings") or values.get("merge_src_tgt_embed"):
            values["share_decoder_input_output_embed"] = True

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_sharing()

    def _check_sizes(self) -> None:
        check_layers(self)
        self.check_form()
        for side in ("encoder", "decoder"):
            dim = getattr(self, f"{side}_embed_dim")
            heads = getattr(self, f"{side}_attention_heads")
            if heads < 1 or dim % heads:
                raise ValueError(
                    f"config.model: {side}_embed_dim {dim} is not a multiple of "
                    f"{side}_attention_heads {heads}"
                )
        for rate in ("dropout", "attention_dropout", "activation_dropout",
                     "encoder_layerdrop", "decoder_layerdrop", "adaptive_softmax_dropout"):
            if not 0.0 <= getattr(self, rate) < 1.0:
                raise ValueError(f"config.model.{rate}: {getattr(self, rate)} is not in [0, 1)")
        if self.cross_self_attention and self.encoder_embed_dim != self.decoder_embed_dim:
            raise ValueError(
                f"config.model.cross_self_attention needs encoder_embed_dim "
                f"({self.encoder_embed_dim}) equal to decoder_embed_dim ({self.decoder_embed_dim})"
            )

    def _check_sharing(self) -> None:
        check_bands(self, "adaptive_softmax")
        if self.share_all_embeddings and self.encoder_embed_dim != self.input_dim:
            raise ValueError(
                "config.model.share_all_embeddings needs encoder_embed_dim "
                f"({self.encoder_embed_dim}) equal to the decoder's input width ({self.input_dim})"
            )

    FOLLOWS: ClassVar[Mapping[str, str]] = {
        "decoder_input_dim": "input_dim", "decoder_output_dim": "output_dim",
    }
    """Key -> the property that says what it comes to."""

    @property
    def shares_input(self) -> bool:
        """Whether the decoder reads the encoder's embedding."""
        return self.share_all_embeddings or self.merge_src_tgt_embed

    @property
    def ties_output(self) -> bool:
        """Whether the output projection is the decoder's embedding (never an adaptive one)."""
        shared = self.shares_input or self.share_decoder_input_output_embed
        return shared and self.adaptive_softmax_cutoff is None

    @property
    def input_dim(self) -> int:
        """Width of the target embedding."""
        return self.decoder_input_dim or self.decoder_embed_dim

    @property
    def output_dim(self) -> int:
        """Width in front of the output projection."""
        return self.decoder_output_dim or self.decoder_embed_dim


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerAlignConfig(TransformerConfig):
    """fairseq's `transformer_align`."""

    name: Literal["transformer_align"] = "transformer_align"  # type: ignore[assignment]
    """Chooses the family of models."""
    alignment_heads: int = 1
    """Heads (the first ones) whose mean attention to the source is the alignment."""
    alignment_layer: int = 4
    """Decoder layer, from 0, that aligns. Where there is no such layer the model translates
    but gives no alignments, as fairseq's."""
    full_context_alignment: bool = False
    """Take the alignment from a second pass in which every position sees the whole target."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.no_cross_attention:
            raise ValueError(
                "config.model.no_cross_attention: a transformer_align aligns by its attention to "
                "the source; use the arch transformer")
        if self.alignment_heads < 1:
            raise ValueError(
                f"config.model.alignment_heads: {self.alignment_heads} must be 1 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifyingTransformerConfig(ClassificationHeadsConfig, TransformerConfig):
    """A transformer with heads that classify sentences by the decoder's states."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classification_heads and self.output_dim != self.encoder_embed_dim:
            raise ValueError(
                "config.model.classification_heads: heads are as wide as the encoder "
                f"({self.encoder_embed_dim}) and read the decoder's states ({self.output_dim}): "
                "give encoder_embed_dim and decoder_output_dim one value")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainedTransformerConfig(ClassifyingTransformerConfig):
    """One that is pretrained on noised text and is as large as fairseq's first."""

    activation_fn: Literal[
        "relu", "gelu", "gelu_fast", "gelu_accurate", "tanh", "linear", "swish"
    ] = "gelu"
    """Of the feed-forward network."""
    encoder_embed_dim: int = 1024
    """Width of the encoder."""
    encoder_ffn_embed_dim: int = 4096
    """Inner width of the feed-forward network."""
    encoder_layers: int = 12
    """Layers of the encoder."""
    encoder_attention_heads: int = 16
    """Heads of the attention; the width is a multiple of them."""
    encoder_learned_pos: bool = True
    """Learned positions instead of sinusoids."""
    decoder_embed_dim: int = 1024
    """Width of the decoder."""
    decoder_ffn_embed_dim: int = 4096
    """Inner width of the feed-forward network."""
    decoder_layers: int = 12
    """Layers of the decoder."""
    decoder_attention_heads: int = 16
    """Heads of the attention; the width is a multiple of them."""
    decoder_learned_pos: bool = True
    """Learned positions instead of sinusoids."""
    share_decoder_input_output_embed: bool = True
    """The output projection is the target embedding (not with an adaptive softmax)."""
    share_all_embeddings: bool = True
    """One embedding for source, target and output."""
    layernorm_embedding: bool = True
    """A norm behind the embeddings."""


def _size(embed: int, ffn: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        f"{side}_{key}": value
        for side in ("encoder", "decoder")
        for key, value in (
            ("embed_dim", embed), ("ffn_embed_dim", ffn), ("layers", layers),
            ("attention_heads", heads),
        )
    }


_BIG = _size(1024, 4096, 6, 16)

ARCHS: dict[str, dict[str, Any]] = {
    "transformer": {},
    "transformer_tiny": _size(64, 64, 2, 2),
    "transformer_iwslt_de_en": _size(512, 1024, 6, 4),
    "transformer_wmt_en_de": {},
    "transformer_vaswani_wmt_en_de_big": {**_BIG, "dropout": 0.3},
    "transformer_vaswani_wmt_en_fr_big": {**_BIG, "dropout": 0.1},
    "transformer_wmt_en_de_big": {**_BIG, "dropout": 0.3, "attention_dropout": 0.1},
    "transformer_wmt_en_de_big_t2t": {
        **_BIG, "dropout": 0.3, "attention_dropout": 0.1, "activation_dropout": 0.1,
        "encoder_normalize_before": True, "decoder_normalize_before": True,
    },
}
"""fairseq architecture name -> the defaults that it changes."""

ALIGN_ARCHS: dict[str, dict[str, Any]] = {
    "transformer_align": {},
    "transformer_wmt_en_de_big_align": ARCHS["transformer_wmt_en_de_big"],
}
"""The same for `transformer_align`."""
