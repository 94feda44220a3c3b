"""Configuration of the recurrent models and fairseq's named architectures.

Field names and defaults are fairseq's (`lstm`, `lstm_lm`); None means "as fairseq derives
it from another key", and the properties say from which.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from seqjax.config import gives
from seqjax.models.parts.configs import (
    LIMIT,
    ORIGIN,
    RUNTIME,
    TRAINING_ONLY,
    check_cutoffs,
    check_positive,
    check_rates,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _DecoderConfig:
    """The decoder's keys, which the translation and the language model share."""

    arch: str | None = dataclasses.field(default=None, metadata=ORIGIN)
    """fairseq's architecture name; sets defaults of the other keys."""
    dropout: float = dataclasses.field(default=0.1, metadata=TRAINING_ONLY)
    """What the dropout keys below are where they are None."""
    decoder_embed_dim: int = 512
    """Width of the target embedding."""
    decoder_hidden_size: int | None = None
    """None: decoder_embed_dim."""
    decoder_layers: int = 1
    """Layers of the decoder."""
    decoder_out_embed_dim: int = 512
    """Width in front of the output projection; another width than the hidden size adds
    `additional_fc`."""
    decoder_dropout_in: float | None = dataclasses.field(default=None, metadata=TRAINING_ONLY)
    """On the target embedding (None: dropout)."""
    decoder_dropout_out: float | None = dataclasses.field(default=None, metadata=TRAINING_ONLY)
    """On every layer's output, attention's included (None: dropout)."""
    share_decoder_input_output_embed: bool = False
    """The output projection is the target embedding (not with an adaptive softmax)."""
    adaptive_softmax_cutoff: tuple[int, ...] | None = dataclasses.field(
        default=None, metadata=gives("clusters"))
    """Ids at which a new cluster of the output layer begins (None: an ordinary softmax).
    Train with `loss.name=adaptive_loss`."""
    max_target_positions: int = dataclasses.field(default=100_000, metadata=LIMIT)
    """Longest target, eos included; of a language model the longest block."""
    time_unroll: int = dataclasses.field(default=1, metadata=RUNTIME)
    """Positions computed in one turn of the loop over time; changes no number."""

    FOLLOWS: ClassVar[Mapping[str, str]] = {
        "decoder_hidden_size": "decoder_width", "decoder_dropout_in": "decoder_in_rate",
        "decoder_dropout_out": "decoder_out_rate",
    }
    """Key -> the property that says what it comes to."""

    def __post_init__(self) -> None:
        check_rates(self, ("dropout", "decoder_dropout_in", "decoder_dropout_out"))
        check_positive(self, (
            "decoder_embed_dim", "decoder_hidden_size", "decoder_layers",
            "decoder_out_embed_dim", "time_unroll",
        ))
        check_cutoffs(self.adaptive_softmax_cutoff)
        if self.ties_output and self.decoder_embed_dim != self.decoder_out_embed_dim:
            raise ValueError(
                "config.model: a shared output projection needs decoder_embed_dim "
                f"({self.decoder_embed_dim}) equal to decoder_out_embed_dim "
                f"({self.decoder_out_embed_dim})"
            )

    @property
    def ties_output(self) -> bool:
        """Whether the output projection is the decoder's embedding."""
        return self.share_decoder_input_output_embed and self.adaptive_softmax_cutoff is None

    @property
    def decoder_width(self) -> int:
        """Size of the decoder's states."""
        return self.decoder_hidden_size or self.decoder_embed_dim

    @property
    def decoder_in_rate(self) -> float:
        """Dropout of the target embedding."""
        return self.dropout if self.decoder_dropout_in is None else self.decoder_dropout_in

    @property
    def decoder_out_rate(self) -> float:
        """Dropout of the decoder's outputs."""
        return self.dropout if self.decoder_dropout_out is None else self.decoder_dropout_out


@dataclasses.dataclass(frozen=True, kw_only=True)
class LSTMConfig(_DecoderConfig):
    """fairseq's `lstm`: recurrent encoder and decoder with attention and input feeding."""

    name: Literal["lstm"] = "lstm"
    """Chooses the family of models."""
    encoder_embed_dim: int = 512
    """Width of the source embedding."""
    encoder_freeze_embed: bool = dataclasses.field(default=False, metadata=TRAINING_ONLY)
    """No gradient into the source embedding."""
    encoder_hidden_size: int | None = None
    """Of one direction (None: encoder_embed_dim)."""
    encoder_layers: int = 1
    """Layers of the encoder; as many as the decoder's."""
    encoder_bidirectional: bool = False
    """Read the source from both ends."""
    encoder_dropout_in: float | None = dataclasses.field(default=None, metadata=TRAINING_ONLY)
    """On the source embedding (None: dropout)."""
    encoder_dropout_out: float | None = dataclasses.field(default=None, metadata=TRAINING_ONLY)
    """On every encoder layer's output (None: dropout)."""
    decoder_freeze_embed: bool = dataclasses.field(default=False, metadata=TRAINING_ONLY)
    """No gradient into the target embedding."""
    decoder_attention: bool = True
    """Attend to the source at every position."""
    share_all_embeddings: bool = False
    """One embedding for source, target and output."""
    max_source_positions: int = dataclasses.field(default=100_000, metadata=LIMIT)
    """Longest source, eos included."""

    FOLLOWS: ClassVar[Mapping[str, str]] = {
        **_DecoderConfig.FOLLOWS, "encoder_hidden_size": "encoder_width",
        "encoder_dropout_in": "encoder_in_rate", "encoder_dropout_out": "encoder_out_rate",
    }
    """Key -> the property that says what it comes to."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rates(self, ("encoder_dropout_in", "encoder_dropout_out"))
        check_positive(self, ("encoder_embed_dim", "encoder_hidden_size", "encoder_layers"))
        if self.encoder_layers != self.decoder_layers:
            raise ValueError(
                f"config.model: encoder_layers ({self.encoder_layers}) must equal "
                f"decoder_layers ({self.decoder_layers}): each decoder layer starts from the "
                "encoder layer beside it"
            )
        if self.share_all_embeddings and self.encoder_embed_dim != self.decoder_embed_dim:
            raise ValueError(
                f"config.model.share_all_embeddings needs encoder_embed_dim "
                f"({self.encoder_embed_dim}) equal to decoder_embed_dim "
                f"({self.decoder_embed_dim})"
            )

    @property
    def shares_input(self) -> bool:
        """Whether one embedding serves source and target."""
        return self.share_all_embeddings

    @property
    def ties_output(self) -> bool:
        shared = self.share_decoder_input_output_embed or self.share_all_embeddings
        return shared and self.adaptive_softmax_cutoff is None

    @property
    def encoder_width(self) -> int:
        """Size of the encoder's states in one direction."""
        return self.encoder_hidden_size or self.encoder_embed_dim

    @property
    def encoder_units(self) -> int:
        """Width of the encoder's output."""
        return self.encoder_width * (2 if self.encoder_bidirectional else 1)

    @property
    def encoder_in_rate(self) -> float:
        """Dropout of the source embedding."""
        return self.dropout if self.encoder_dropout_in is None else self.encoder_dropout_in

    @property
    def encoder_out_rate(self) -> float:
        """Dropout of the encoder's outputs."""
        return self.dropout if self.encoder_dropout_out is None else self.encoder_dropout_out


@dataclasses.dataclass(frozen=True, kw_only=True)
class LSTMLanguageModelConfig(_DecoderConfig):
    """fairseq's `lstm_lm`: the decoder without a source."""

    name: Literal["lstm_lm"] = "lstm_lm"
    """Chooses the family of models."""
    residuals: bool = False
    """Add to each layer's output, on its way to the next layer, the layer's own state of
    the position before: what fairseq's switch of this name does."""


ARCHS: dict[str, dict[str, Any]] = {
    "lstm": {},
    "lstm_wiseman_iwslt_de_en": {
        "encoder_embed_dim": 256, "encoder_dropout_in": 0.0, "encoder_dropout_out": 0.0,
        "decoder_embed_dim": 256, "decoder_out_embed_dim": 256, "decoder_dropout_in": 0.0,
    },
    "lstm_luong_wmt_en_de": {
        "encoder_embed_dim": 1000, "encoder_layers": 4, "encoder_dropout_out": 0.0,
        "decoder_embed_dim": 1000, "decoder_layers": 4, "decoder_out_embed_dim": 1000,
        "decoder_dropout_out": 0.0,
    },
}
"""fairseq architecture name -> the defaults that it changes."""

LM_ARCHS: dict[str, dict[str, Any]] = {"lstm_lm": {}}
"""Likewise for language models."""
