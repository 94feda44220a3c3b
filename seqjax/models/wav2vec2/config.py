"""Configuration of wav2vec 2.0 (Baevski et al. 2020). Field names and defaults are fairseq's."""

from __future__ import annotations

import dataclasses
from typing import Literal

from seqjax.config import gives
from seqjax.models.parts.audio_encoder_config import WaveformEncoderConfig
from seqjax.models.parts.configs import ORIGIN, TRAINING_ONLY, check_positive, check_rates


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
class Wav2Vec2Config(QuantizerConfig, NegativesConfig, WaveformEncoderConfig):
    """fairseq's `wav2vec2`, pretraining included."""

    name: Literal["wav2vec2"] = "wav2vec2"
    """Chooses the family of models."""
    arch: str | None = dataclasses.field(default=None, metadata=ORIGIN)
    """fairseq's architecture name."""
    encoder_layerdrop: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """Chance of leaving out a layer."""
    dropout_features: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """On what targets are made of."""
    final_dim: int = 0
    """Width in which frames and targets are compared (0: encoder_embed_dim)."""
    logit_temp: float = 0.1
    """Cosines are divided by it."""
    target_glu: bool = False
    """A gated linear unit on targets and negatives."""
    crop_seq_to_multiple: int = 1
    """Frames behind the last multiple of it are left out."""
    pretraining_heads: bool = True
    """What pretraining needs behind the encoder: quantizers and projections. False of weights
    that have none of it any more (transformers' `Wav2Vec2Model`)."""

    def __post_init__(self) -> None:
        self.check_waveforms()
        check_rates(self, ("encoder_layerdrop", "dropout_features"))
        check_positive(self, (
            "quantizer_depth", "quantizer_factor", "latent_vars", "latent_groups",
            "crop_seq_to_multiple"))
        for name in ("num_negatives", "cross_sample_negatives", "codebook_negatives"):
            if getattr(self, name) < 0:
                raise ValueError(f"config.model.{name}: {getattr(self, name)} is negative")
        if self.logit_temp <= 0:
            raise ValueError(f"config.model.logit_temp: {self.logit_temp} is not positive")
        self._check_quantizers()

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
    def has_projection(self) -> bool:
        """Inputs that are quantized have a projection of their own."""
        return super().has_projection and not self.quantize_input

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
