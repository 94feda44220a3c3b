"""fairseq's `transformer_align`: a transformer whose attention is taught to align words.

The parameters are the transformer's. What differs is which attention `features` tells of:
some heads of one layer, from a pass without the causal mask if the configuration says so
("Jointly Learning to Align and Translate with Transformer Models", Garg et al. 2019).
"""

from __future__ import annotations

import dataclasses

import jax

from seqjax.models.protocol import Encoded, Features, Params
from seqjax.models.transformer.config import TransformerAlignConfig
from seqjax.models.transformer.model import TransformerModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerAlignModel(TransformerModel):
    """`protocol.EncoderDecoder` for fairseq's `transformer_align`."""

    config: TransformerAlignConfig

    def features(
        self, params: Params, prev_output_tokens: jax.Array, encoded: Encoded | None = None, *,
        segments: jax.Array | None = None, rng: jax.Array | None = None,
    ) -> Features:
        """See `protocol`; the attention is [1, B, alignment_heads, T, S], or None where the
        decoder has no layer `alignment_layer`."""
        features = super().features(
            params, prev_output_tokens, encoded, segments=segments, rng=rng
        )
        attention = features.attention
        if self.config.full_context_alignment:
            # Compiled programs that do not use the attention do not run this pass.
            _, attention = self._apply(
                params, rng, 2, prev_output_tokens, encoded, segments, True, method="decode"
            )
        return dataclasses.replace(features, attention=self._alignment(attention))

    def _alignment(self, attention: jax.Array | None) -> jax.Array | None:
        """The aligning heads' part of [L, B, H, T, S]."""
        cfg = self.config
        if attention is None or not 0 <= cfg.alignment_layer < cfg.decoder_layers:
            return None
        return attention[cfg.alignment_layer][None, :, : cfg.alignment_heads]
