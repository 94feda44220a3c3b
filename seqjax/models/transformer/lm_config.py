"""Configuration of the transformer language model and fairseq's named architectures.

Field names and defaults are fairseq's. How text becomes blocks of tokens is in the task's
configuration.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from seqjax.models.parts.configs import (
    ORIGIN,
    RuntimeConfig,
    check_bands,
    check_layers,
    follow_kept,
)
from seqjax.models.transformer.config import DecoderConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerLanguageModelConfig(RuntimeConfig, DecoderConfig):
    """fairseq's `transformer_lm`: a decoder without a source."""

    name: Literal["transformer_lm"] = "transformer_lm"
    """Chooses the family of models."""
    arch: str | None = dataclasses.field(default=None, metadata=ORIGIN)
    """fairseq's architecture name; sets defaults of the other keys. All but
    `transformer_lm` itself are pre-norm."""
    adaptive_input: bool = False
    """Embed rare words in fewer dimensions (Baevski and Auli 2019)."""
    adaptive_input_cutoff: tuple[int, ...] | None = None
    """Ids at which a new band of the embedding begins."""
    adaptive_input_factor: float = 4.0
    """Each band has this many times fewer dimensions than the one before."""
    tie_adaptive_weights: bool = False
    """The output layer's words are the bands of the adaptive input."""
    tie_adaptive_proj: bool = False
    """With `tie_adaptive_weights`: so are the projections of its tail clusters."""

    @staticmethod
    def follow(values: dict[str, Any]) -> None:
        """As many layers as are kept."""
        follow_kept(values)

    def __post_init__(self) -> None:
        check_layers(self)
        self.check_form()
        heads = self.decoder_attention_heads
        if heads < 1 or self.decoder_embed_dim % heads:
            raise ValueError(
                f"config.model: decoder_embed_dim {self.decoder_embed_dim} is not a multiple of "
                f"decoder_attention_heads {heads}"
            )
        for rate in ("dropout", "attention_dropout", "activation_dropout", "decoder_layerdrop",
                     "adaptive_softmax_dropout"):
            if not 0.0 <= getattr(self, rate) < 1.0:
                raise ValueError(f"config.model.{rate}: {getattr(self, rate)} is not in [0, 1)")
        for key in ("adaptive_input", "adaptive_softmax"):
            check_bands(self, key)
        if self.adaptive_input and self.adaptive_input_cutoff is None:
            raise ValueError("config.model.adaptive_input needs adaptive_input_cutoff")
        self._check_sharing()

    def _check_sharing(self) -> None:
        if self.share_decoder_input_output_embed and self.adaptive_softmax_cutoff is None:
            if self.adaptive_input:
                raise ValueError(
                    "config.model.share_decoder_input_output_embed: an adaptive input cannot be "
                    "an ordinary output layer; set adaptive_softmax_cutoff and "
                    "tie_adaptive_weights instead"
                )
            if self.input_dim != self.output_dim:
                raise ValueError(
                    "config.model: a shared output projection needs decoder_output_dim "
                    f"({self.output_dim}) equal to the embedding's width ({self.input_dim})"
                )
        if not self.tie_adaptive_weights:
            return
        if not self.adaptive_input or self.adaptive_softmax_cutoff is None:
            raise ValueError(
                "config.model.tie_adaptive_weights needs adaptive_input and "
                "adaptive_softmax_cutoff"
            )
        same = ("cutoff", "factor")
        if any(getattr(self, f"adaptive_input_{k}") != getattr(self, f"adaptive_softmax_{k}")
               for k in same):
            raise ValueError(
                "config.model.tie_adaptive_weights needs the same cutoffs and factor for "
                f"adaptive_input ({self.adaptive_input_cutoff}, {self.adaptive_input_factor}) and "
                f"adaptive_softmax ({self.adaptive_softmax_cutoff}, "
                f"{self.adaptive_softmax_factor})"
            )
        widths = (self.adaptive_input_dim, self.decoder_embed_dim, self.output_dim)
        if len(set(widths)) > 1:
            raise ValueError(
                "config.model.tie_adaptive_weights needs decoder_input_dim, decoder_embed_dim and "
                f"decoder_output_dim to be equal, not {widths}"
            )

    FOLLOWS: ClassVar[Mapping[str, str]] = {
        "decoder_input_dim": "adaptive_input_dim", "decoder_output_dim": "output_dim",
    }
    """Key -> the property that says what it comes to."""

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

    @property
    def output_dim(self) -> int:
        """Width in front of the output layer."""
        return self.decoder_output_dim or self.decoder_embed_dim


def _size(embed: int, ffn: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "decoder_embed_dim": embed, "decoder_ffn_embed_dim": ffn, "decoder_layers": layers,
        "decoder_attention_heads": heads, "decoder_normalize_before": True,
    }


def _gpt(embed: int, ffn: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        **_size(embed, ffn, layers, heads), "dropout": 0.1, "attention_dropout": 0.1,
        "activation_fn": "gelu",
    }


def _gpt3(embed: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        **_size(embed, 4 * embed, layers, heads), "decoder_learned_pos": True, "dropout": 0.0,
        "attention_dropout": 0.0, "activation_fn": "gelu",
        "share_decoder_input_output_embed": True,
    }


_WIKI103 = {
    **_size(1024, 4096, 16, 8), "dropout": 0.3, "attention_dropout": 0.1,
    "activation_dropout": 0.1, "adaptive_input": True, "tie_adaptive_weights": True,
    "adaptive_input_cutoff": (20000, 60000), "adaptive_softmax_cutoff": (20000, 60000),
    "adaptive_softmax_dropout": 0.2, "no_decoder_final_norm": True, "tie_adaptive_proj": True,
}
_GBW = {
    **_size(512, 4096, 12, 16), "dropout": 0.1, "attention_dropout": 0.1,
    "no_decoder_final_norm": True,
}

ARCHS: dict[str, dict[str, Any]] = {
    "transformer_lm": {},
    "transformer_lm_big": _size(1024, 4096, 12, 16),
    "transformer_lm_wiki103": _WIKI103,
    "transformer_lm_baevski_wiki103": _WIKI103,
    "transformer_lm_gbw": _GBW,
    "transformer_lm_baevski_gbw": _GBW,
    "transformer_lm_gpt": _gpt(768, 3072, 12, 12),
    "transformer_lm_gpt2_tiny": _gpt(64, 64, 2, 1),
    "transformer_lm_gpt2_small": _gpt(1024, 4096, 24, 16),
    "transformer_lm_gpt2_medium": _gpt(1280, 5120, 36, 20),
    "transformer_lm_gpt2_big": _gpt(1600, 6400, 48, 25),
    "transformer_lm_gpt2_big_wide": _gpt(2048, 8192, 24, 32),
    "transformer_lm_gpt2_bigger": _gpt(2048, 8192, 48, 32),
    "transformer_lm_gpt3_small": _gpt3(768, 12, 12),
    "transformer_lm_gpt3_medium": _gpt3(1024, 24, 16),
    "transformer_lm_gpt3_large": _gpt3(1536, 24, 16),
    "transformer_lm_gpt3_xl": _gpt3(2048, 24, 32),
    "transformer_lm_gpt3_2_7": _gpt3(2560, 32, 32),
    "transformer_lm_gpt3_6_7": _gpt3(4096, 32, 32),
    "transformer_lm_gpt3_13": _gpt3(5120, 40, 40),
    "transformer_lm_gpt3_175": _gpt3(12288, 96, 96),
}
"""fairseq architecture name -> the defaults that it changes."""
