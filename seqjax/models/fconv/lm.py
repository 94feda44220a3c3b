"""fairseq's `fconv_lm`: gated convolutional language models (Dauphin et al. 2017).

`FConvLanguageModel` is a `protocol.LanguageModel`: the decoder of `fconv.py` without
positions and without a source.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from seqjax.models.fconv import layers
from seqjax.models.fconv.config import FConvLanguageModelConfig
from seqjax.models.fconv.model import Cache, ConvolutionalModel, Weights, empty_rings
from seqjax.models.parts.adaptive import AdaptiveSoftmax, log_probs, output_projection
from seqjax.models.parts.layers import dropout
from seqjax.models.parts.outputs import ADAPTIVE_FACTOR, project_biased
from seqjax.models.protocol import Encoded, Features, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class FConvLanguageModel(ConvolutionalModel):
    """`protocol.LanguageModel` for fairseq's `fconv_lm`."""

    config: FConvLanguageModelConfig

    def __post_init__(self) -> None:
        self._check_softmax(self._width, ADAPTIVE_FACTOR)

    @property
    def _width(self) -> int:
        return self.config.decoder_convolutions[-1].channels

    def init(self, rng: jax.Array) -> Params:
        cfg, dim = self.config, self.config.decoder_embed_dim
        first, second = jax.random.split(rng)
        decoder: dict[str, Any] = {
            "embed_tokens": layers.embedding(self.source_vocab_size, dim),
            **layers.stack_parameters(cfg.decoder_convolutions, dim, dropout=cfg.dropout),
        }
        if self._output_ends is None:
            decoder["fc2"] = layers.dense(self._width, dim)
            decoder["fc3"] = layers.dense(dim, self.target_vocab_size, dropout=cfg.dropout)
        decoder = layers.start(first, decoder)
        if self._output_ends is not None:
            softmax = AdaptiveSoftmax(self._width, self._output_ends, ADAPTIVE_FACTOR, False, False)
            decoder["adaptive_softmax"] = softmax.init(second)["params"]
        return {"decoder": decoder}

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
        return self._features(weights, hidden, None)

    def prepare(self, params: Params) -> Weights:
        return self._prepared(params, None)

    def start(
        self, weights: Weights, encoded: Encoded | None, *, rows: int, beam: int, capacity: int,
    ) -> Cache:
        del weights, capacity
        rings = empty_rings(
            self.config.decoder_convolutions, batch=rows, beam=beam, dtype=self.compute_dtype
        )
        return Cache(rings=rings, memory=None)

    def _prepared(self, params: Params, key: jax.Array | None) -> Weights:
        """`key` is for dropout inside an adaptive softmax."""
        cfg, decoder, dtype = self.config, params["decoder"], self.compute_dtype
        stack = layers.fold(decoder, len(cfg.decoder_convolutions), dtype=dtype)
        if self._output_ends is None:
            return Weights(
                stack=stack, fc2=layers.folded(decoder["fc2"], dtype),
                projection=layers.folded(decoder["fc3"], dtype), project=project_biased,
            )
        projection = output_projection(
            decoder["adaptive_softmax"], None, ends=self._output_ends, key=key,
            dropout=cfg.adaptive_softmax_dropout,
        )
        return Weights(stack=stack, fc2=None, projection=projection, project=log_probs)
