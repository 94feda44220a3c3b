"""fairseq's `lstm_lm`: the recurrent decoder of `lstm.py` without a source.

`LSTMLanguageModel` is a `protocol.LanguageModel`.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from seqjax.models.lstm import layers
from seqjax.models.lstm.config import LSTMLanguageModelConfig
from seqjax.models.lstm.model import PAD, Cache, RecurrentModel, Weights, embedding, segment_starts
from seqjax.models.parts.layers import dropout, embed
from seqjax.models.parts.parameters import initialise
from seqjax.models.protocol import Encoded, Features, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class LSTMLanguageModel(RecurrentModel):
    """`protocol.LanguageModel` for fairseq's `lstm_lm`."""

    config: LSTMLanguageModelConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.config.ties_output and self.source_vocab_size != self.target_vocab_size:
            raise ValueError(
                "config.model.share_decoder_input_output_embed: a shared embedding predicts "
                f"every entry of the dictionary ({self.source_vocab_size}), not the first "
                f"{self.target_vocab_size}"
            )

    def init(self, rng: jax.Array) -> Params:
        decoder = layers.decoder_parameters(self.config, units=0, attention=False)
        decoder["embed_tokens"] = embedding(
            self.source_vocab_size, self.config.decoder_embed_dim
        )
        first, second = jax.random.split(rng)
        return {"decoder": {**initialise(first, decoder), **self._init_output(second)}}

    def features(
        self, params: Params, prev_output_tokens: jax.Array, encoded: Encoded | None = None, *,
        segments: jax.Array | None = None, rng: jax.Array | None = None,
    ) -> Features:
        """See `protocol`."""
        del encoded  # there is no source
        cfg = self.config
        keys = (None,) * 4 if rng is None else jax.random.split(rng, 4)
        weights = self._prepared(params, keys[3])
        x = embed(weights.table, prev_output_tokens, pad=PAD)
        x = dropout(x, cfg.decoder_in_rate, keys[0]).astype(self.compute_dtype)
        first = self._zero_state(x.shape[0], 1)
        restart = None
        if segments is not None:
            zero = jax.tree.map(
                lambda a: jnp.broadcast_to(a, (*x.shape[:2], a.shape[-1])), first
            )
            restart = segment_starts(segments, x), zero
        out, _ = layers.decode(
            weights.decoder, x, first, None, restart=restart, rate=cfg.decoder_out_rate,
            rng=keys[1], unroll=cfg.time_unroll,
        )
        return self._features(weights, out, None, keys[2])

    def prepare(self, params: Params) -> Weights:
        return self._prepared(params, None)

    def start(
        self, weights: Weights, encoded: Encoded | None, *, rows: int, beam: int, capacity: int,
    ) -> Cache:
        del weights, capacity
        return Cache(state=self._zero_state(rows, beam), memory=None)

    def _prepared(self, params: Params, key: jax.Array | None) -> Weights:
        decoder = params["decoder"]
        table = decoder["embed_tokens"]["embedding"]
        return self._weights(decoder, table, key=key, residuals=self.config.residuals)

    def _zero_state(self, batch: int, beam: int) -> layers.State:
        shape = (batch, beam, self.config.decoder_width)
        count = self.config.decoder_layers
        return layers.State(
            hidden=(jnp.zeros(shape, self.compute_dtype),) * count,
            cell=(jnp.zeros(shape, jnp.float32),) * count, feed=None,
        )
