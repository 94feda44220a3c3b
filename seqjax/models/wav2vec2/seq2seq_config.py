"""Configuration of wav2vec 2.0 with a transformer's decoder behind it. Field names and defaults are
fairseq's."""

from __future__ import annotations

import dataclasses
from typing import Literal

from seqjax.models.finetuning.config import FinetuningConfig
from seqjax.models.parts.audio_encoder_config import WaveformEncoderConfig
from seqjax.models.parts.configs import TRAINING_ONLY, check_positive, check_rates, limit
from seqjax.models.transformer.config import TransformerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wav2VecSeq2SeqConfig(FinetuningConfig, WaveformEncoderConfig):
    """fairseq's `wav2vec_seq2seq`."""

    name: Literal["wav2vec_seq2seq"] = "wav2vec_seq2seq"
    """Chooses the family of models."""
    decoder_embed_dim: int = 768
    """Width of the decoder."""
    decoder_ffn_embed_dim: int = 3072
    """Inner width of its feed-forward networks."""
    decoder_layers: int = 6
    """Its layers."""
    decoder_layerdrop: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """Chance of leaving out one of them."""
    decoder_attention_heads: int = 4
    """Heads of its attention."""
    decoder_learned_pos: bool = False
    """Learned positions."""
    decoder_normalize_before: bool = False
    """Norms in front of each sublayer (pre-norm)."""
    no_token_positional_embeddings: bool = False
    """No positions."""
    decoder_dropout: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """On embeddings and on the output of every sublayer of the decoder."""
    decoder_attention_dropout: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """On its attention weights."""
    decoder_activation_dropout: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """After the activation of its feed-forward networks."""
    max_target_positions: int = dataclasses.field(
        default=2048, metadata=limit(table="decoder_learned_pos"))
    """Longest target (with learned positions: rows of their table)."""
    share_decoder_input_output_embed: bool = False
    """One table for the words that the decoder reads and predicts."""

    def __post_init__(self) -> None:
        self.check_waveforms()
        self.check_finetuning()
        check_rates(self, ("decoder_layerdrop", "decoder_dropout", "decoder_attention_dropout",
                           "decoder_activation_dropout"))
        check_positive(self, (
            "decoder_embed_dim", "decoder_ffn_embed_dim", "decoder_layers",
            "decoder_attention_heads", "max_target_positions"))

    @property
    def decoder(self) -> TransformerConfig:
        """The decoder as a transformer's, whose activation is the default one."""
        return TransformerConfig(
            encoder_embed_dim=self.decoder_embed_dim, decoder_embed_dim=self.decoder_embed_dim,
            decoder_input_dim=self.decoder_embed_dim, decoder_output_dim=self.decoder_embed_dim,
            decoder_ffn_embed_dim=self.decoder_ffn_embed_dim, decoder_layers=self.decoder_layers,
            decoder_layerdrop=self.decoder_layerdrop,
            decoder_attention_heads=self.decoder_attention_heads,
            decoder_learned_pos=self.decoder_learned_pos,
            decoder_normalize_before=self.decoder_normalize_before,
            no_token_positional_embeddings=self.no_token_positional_embeddings,
            dropout=self.decoder_dropout, attention_dropout=self.decoder_attention_dropout,
            activation_dropout=self.decoder_activation_dropout,
            max_target_positions=self.max_target_positions,
            share_decoder_input_output_embed=self.share_decoder_input_output_embed,
            scan_unroll=self.scan_unroll, remat=self.remat)

    @property
    def max_source_positions(self) -> int:
        """Frames of the longest row."""
        return self.max_positions

    @property
    def shares_input(self) -> bool:
        """There are no words to read."""
        return False

    @property
    def ties_output(self) -> bool:
        """Whether the words predicted are those of the decoder's embedding."""
        return self.share_decoder_input_output_embed
