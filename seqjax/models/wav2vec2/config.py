"""Configuration of wav2vec 2.0 (Baevski et al. 2020). Field names and defaults are fairseq's."""

from __future__ import annotations

import dataclasses
from typing import Literal

from seqjax.config import gives
from seqjax.models.parts.audio_config import ConvLayer, MaskConfig, conv_layers
from seqjax.models.parts.configs import (
    LIMIT,
    ORIGIN,
    TRAINING_ONLY,
    RuntimeConfig,
    check_positive,
    check_rates,
)

Activation = Literal[
    "relu", "gelu", "gelu_fast", "gelu_accurate", "tanh", "linear", "swish"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantizerConfig:
    """Codebooks, of which each frame chooses one entry per group."""

    quantize_targets: bool = False
    """Targets and negatives are quantized."""
    quantize_input: bool = False
    """What the encoder reads is quantized."""
    same_quantizer: bool = False
    """With both: by one quantizer."""
    quantizer_depth: int = 1
    """Linear layers that score the entries."""
    quantizer_factor: int = 3
    """Those but the last are this many times as wide as the features."""
    latent_vars: int = 320
    """Entries of each group."""
    latent_groups: int = 2
    """Groups, whose chosen entries are joined."""
    latent_dim: int = 0
    """Width of what is joined (0: final_dim for targets, encoder_embed_dim for inputs)."""
    latent_temp: tuple[float, float, float] = dataclasses.field(
        default=(2.0, 0.5, 0.999995), metadata=TRAINING_ONLY)
    """Of the Gumbel softmax in training: first temperature, last temperature, and what it is
    multiplied by at each update."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NegativesConfig:
    """What the true target of a masked frame is told apart from."""

    num_negatives: int = dataclasses.field(
        default=100, metadata={**TRAINING_ONLY, **gives("negatives")})
    """Negatives for each masked frame from the same row."""
    negatives_from_everywhere: bool = False
    """From all frames instead of masked ones."""
    cross_sample_negatives: int = dataclasses.field(default=0, metadata=TRAINING_ONLY)
    """Further negatives, from any row of the batch."""
    codebook_negatives: int = dataclasses.field(default=0, metadata=TRAINING_ONLY)
    """Further negatives, joined of any entries of the codebooks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wav2Vec2Config(QuantizerConfig, NegativesConfig, MaskConfig, RuntimeConfig):
    """fairseq's `wav2vec2`, pretraining included."""

    name: Literal["wav2vec2"] = "wav2vec2"
    """Chooses the family of models."""
    arch: str | None = dataclasses.field(default=None, metadata=ORIGIN)
    """fairseq's architecture name."""
    extractor_mode: Literal["default", "layer_norm"] = "default"
    """Norms of the convolutions over samples: `default` has one group norm, behind the first,
    whose statistics are over a row's frames, padding's too, so that a row's features depend on
    what it is batched with; `layer_norm` one in each layer, of each frame by itself."""
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
    encoder_layerdrop: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """Chance of leaving out a layer."""
    dropout_input: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """On what the transformer is made to read."""
    dropout_features: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """On what targets are made of."""
    final_dim: int = 0
    """Width in which frames and targets are compared (0: encoder_embed_dim)."""
    layer_norm_first: bool = False
    """Norms in front of each sublayer (pre-norm) instead of behind it."""
    conv_feature_layers: str = "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]"
    """The convolutions over samples: (channels, width, stride) of each."""
    conv_bias: bool = False
    """These have biases."""
    logit_temp: float = 0.1
    """Cosines are divided by it."""
    target_glu: bool = False
    """A gated linear unit on targets and negatives."""
    feature_grad_mult: float = dataclasses.field(default=1.0, metadata=TRAINING_ONLY)
    """What gradients into the convolutions over samples are multiplied by (0: these are not
    trained)."""
    require_same_masks: bool = dataclasses.field(default=True, metadata=TRAINING_ONLY)
    """As many masked frames in each row, as training needs."""
    mask_dropout: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """Share of the masked frames that are left as they are after all."""
    mask_channel_before: bool = dataclasses.field(default=False, metadata=TRAINING_ONLY)
    """Channels are masked before frames, so that masked frames keep all of the mask's."""
    conv_pos: int = 128
    """Frames that the convolution which stands for positions sees."""
    conv_pos_groups: int = 16
    """Its groups."""
    pos_conv_depth: int = 1
    """Convolutions that share these frames; more than one have norms in place of weight norm."""
    max_positions: int = dataclasses.field(default=100000, metadata=LIMIT)
    """Longest row, in frames."""
    required_seq_len_multiple: int = dataclasses.field(default=2, metadata=TRAINING_ONLY)
    """Rows of frames are padded to a multiple of it inside the transformer; changes no number."""
    crop_seq_to_multiple: int = 1
    """Frames behind the last multiple of it are left out."""

    def __post_init__(self) -> None:
        check_rates(self, (
            "dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop",
            "dropout_input", "dropout_features", "mask_dropout"))
        check_positive(self, (
            "encoder_layers", "encoder_embed_dim", "encoder_ffn_embed_dim",
            "encoder_attention_heads", "quantizer_depth", "quantizer_factor", "latent_vars",
            "latent_groups", "conv_pos", "conv_pos_groups", "pos_conv_depth", "max_positions",
            "required_seq_len_multiple", "crop_seq_to_multiple"))
        self.check_masks()
        for name in ("num_negatives", "cross_sample_negatives", "codebook_negatives"):
            if getattr(self, name) < 0:
                raise ValueError(f"config.model.{name}: {getattr(self, name)} is negative")
        if self.logit_temp <= 0:
            raise ValueError(f"config.model.logit_temp: {self.logit_temp} is not positive")
        if self.feature_grad_mult < 0:
            raise ValueError(
                f"config.model.feature_grad_mult: {self.feature_grad_mult} is negative")
        for key in ("encoder_attention_heads", "conv_pos_groups"):
            if self.encoder_embed_dim % getattr(self, key):
                raise ValueError(
                    f"config.model.encoder_embed_dim: {self.encoder_embed_dim} is not a multiple "
                    f"of {key} {getattr(self, key)}")
        self._check_quantizers()
        conv_layers(self.conv_feature_layers)

    def _check_quantizers(self) -> None:
        first, last, decay = self.latent_temp
        if not (first > 0 and last > 0 and 0 < decay <= 1):
            raise ValueError(
                f"config.model.latent_temp: {self.latent_temp}; temperatures are positive, and "
                "what they are multiplied by is in (0, 1]")
        widths = {"latent_dim": self.target_code_dim} if self.quantize_targets else {}
        if self.quantize_input:
            widths["latent_dim (of inputs)"] = self.input_code_dim
        for key, width in widths.items():
            if width % self.latent_groups:
                raise ValueError(
                    f"config.model.{key}: {width} is not a multiple of latent_groups "
                    f"{self.latent_groups}")
        if self.shares_quantizer and self.target_code_dim != self.comparison_dim:
            raise ValueError(
                f"config.model.latent_dim: {self.latent_dim} differs from final_dim "
                f"{self.comparison_dim}, which same_quantizer needs (fairseq's does)")
        if self.codebook_negatives:
            if not self.quantize_targets:
                raise ValueError(
                    "config.model.codebook_negatives: only quantized targets have a codebook; "
                    "set quantize_targets")
            entries = self.latent_vars**self.latent_groups
            if self.codebook_negatives >= entries or entries >= 2**31:
                raise ValueError(
                    f"config.model.codebook_negatives: {self.codebook_negatives} of {entries} "
                    "joined entries (latent_vars ** latent_groups; fewer than 2**31)")

    @property
    def conv_layers(self) -> tuple[ConvLayer, ...]:
        """The convolutions over samples."""
        return conv_layers(self.conv_feature_layers)

    @property
    def feature_dim(self) -> int:
        """Channels of the last of them."""
        return self.conv_layers[-1].channels

    @property
    def comparison_dim(self) -> int:
        """Width in which frames and targets are compared."""
        return self.final_dim if self.final_dim > 0 else self.encoder_embed_dim

    @property
    def shares_quantizer(self) -> bool:
        """Whether one quantizer serves targets and inputs."""
        return self.quantize_input and self.quantize_targets and self.same_quantizer

    @property
    def target_code_dim(self) -> int:
        """Width of a quantized target."""
        return self.latent_dim if self.latent_dim > 0 else self.comparison_dim

    @property
    def input_code_dim(self) -> int:
        """Width of a quantized input."""
        if self.shares_quantizer:
            return self.target_code_dim
        return self.latent_dim if self.latent_dim > 0 else self.encoder_embed_dim

    @property
    def negatives(self) -> int:
        """Negatives of each masked frame that are frames."""
        return self.num_negatives + self.cross_sample_negatives
