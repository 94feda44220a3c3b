"""fairseq's `fconv_lm`: gated convolutional language models (Dauphin et al. 2017).

`FConvLanguageModel` is a `protocol.LanguageModel`: the decoder of `model.py` without
positions and without a source.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
from flax import linen as nn

from seqjax.models.fconv.config import FConvLanguageModelConfig
from seqjax.models.fconv.model import ConvolutionalModel
from seqjax.models.fconv.modules import Side
from seqjax.models.parts.layers import dropout
from seqjax.models.parts.outputs import ADAPTIVE_FACTOR
from seqjax.models.parts.prepared_model import features_of
from seqjax.models.protocol import Encoded, Features, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class FConvLanguageModel(ConvolutionalModel):
    """`protocol.LanguageModel` for fairseq's `fconv_lm`."""

    config: FConvLanguageModelConfig

    def __post_init__(self) -> None:
        self._check_softmax(self.config.decoder_convolutions[-1].channels, ADAPTIVE_FACTOR)

    @property
    def _sides(self) -> Mapping[str, nn.Module]:
        cfg, ends = self.config, self._output_ends
        return {"decoder": Side(
            cfg.decoder_convolutions, cfg.decoder_embed_dim, self.source_vocab_size, cfg.dropout,
            out=None if ends else cfg.decoder_embed_dim,
            output_size=None if ends else self.target_vocab_size, output_ends=ends)}

    def features(
        self, params: Params, prev_output_tokens: jax.Array, encoded: Encoded | None = None, *,
        segments: jax.Array | None = None, rng: jax.Array | None = None,
    ) -> Features:
        """See `protocol`."""
        del encoded  # there is no source
        keys = (None,) * 3 if rng is None else jax.random.split(rng, 3)
        weights = self._prepared(params, keys[0])
        hidden, _ = self._hidden(
            weights, prev_output_tokens, None, segments=segments, rng=keys[1]
        )
        if self._output_ends is not None:
            hidden = dropout(hidden, self.config.adaptive_softmax_dropout, keys[2])
        return features_of(weights, hidden, None)
