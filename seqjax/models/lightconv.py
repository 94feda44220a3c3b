"""fairseq's `lightconv`: convolutions in place of self-attention (Wu et al. 2019).

`LightConvModel` is a `protocol.EncoderDecoder`, for lightweight and dynamic convolutions.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.models import lightconv_decoding as decoding
from seqjax.models.decoding import project_kernel, project_table
from seqjax.models.lightconv_config import LightConvConfig
from seqjax.models.lightconv_modules import Decoder, Encoder
from seqjax.models.protocol import Cache, Encoded, Features, Params, Weights

PAD = 1
EOS = 2


class LightConv(nn.Module):
    """Parameters and forward passes; which embeddings are shared is decided here."""

    config: LightConvConfig
    source_vocab_size: int
    target_vocab_size: int
    dtype: Any = jnp.float32

    def setup(self) -> None:
        cfg = self.config
        self.encoder = Encoder(cfg, self.dtype, self.source_vocab_size)
        self.decoder = Decoder(
            cfg, self.dtype, None if cfg.share_all_embeddings else self.target_vocab_size,
            None if cfg.ties_output else self.target_vocab_size, True,
        )

    def encode(self, source: jax.Array, segments: jax.Array | None) -> Encoded:
        return self.encoder(source, segments)

    def decode(
        self, tokens: jax.Array, encoded: Encoded, segments: jax.Array | None
    ) -> tuple[jax.Array, jax.Array | None]:
        side = self.encoder if self.config.share_all_embeddings else self.decoder
        return self.decoder(tokens, side.embed_tokens(tokens), encoded, segments)

    def __call__(self, source: jax.Array, tokens: jax.Array) -> jax.Array:
        """Touches every parameter (for initialisation)."""
        hidden, _ = self.decode(tokens, self.encode(source, None), None)
        return hidden if self.config.ties_output else self.decoder.output_projection(hidden)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LightConvModel:
    """`protocol.EncoderDecoder` for fairseq's `lightconv`."""

    config: LightConvConfig
    source_vocab_size: int
    target_vocab_size: int
    compute_dtype: Any = jnp.float32
    """Type of matrix products and activations; statistics and logits stay float32."""
    pad: int = PAD
    eos: int = EOS

    def __post_init__(self) -> None:
        if self.config.share_all_embeddings and self.source_vocab_size != self.target_vocab_size:
            raise ValueError(
                "config.model.share_all_embeddings needs a joined dictionary; the source has "
                f"{self.source_vocab_size} entries, the target {self.target_vocab_size} "
                "(preprocess with --joined-dictionary)"
            )

    @functools.cached_property
    def _module(self) -> LightConv:
        return LightConv(
            self.config, self.source_vocab_size, self.target_vocab_size, self.compute_dtype
        )

    @property
    def max_source_positions(self) -> int:
        return self.config.max_source_positions

    @property
    def max_target_positions(self) -> int:
        return self.config.max_target_positions

    def init(self, rng: jax.Array) -> Params:
        dummy = jnp.full((1, 1), EOS, jnp.int32)
        return self._module.init({"params": rng}, dummy, dummy)["params"]

    def encode(
        self, params: Params, source: jax.Array, *,
        segments: jax.Array | None = None, rng: jax.Array | None = None,
    ) -> Encoded:
        return self._apply(params, rng, 0, source, segments, method="encode")

    def features(
        self, params: Params, prev_output_tokens: jax.Array, encoded: Encoded, *,
        segments: jax.Array | None = None, rng: jax.Array | None = None,
    ) -> Features:
        """See `protocol`; `extra` is the attention [L, B, H, T, S]."""
        hidden, attention = self._apply(
            params, rng, 1, prev_output_tokens, encoded, segments, method="decode"
        )
        projection, project = self._projection(params)
        return Features(hidden=hidden, projection=projection, project=project, extra=attention)

    def _apply(
        self, params: Params, rng: jax.Array | None, half: int, *args: Any, method: str
    ) -> Any:
        rngs = None if rng is None else {"dropout": jax.random.fold_in(rng, half)}
        return self._module.apply({"params": params}, *args, rngs=rngs, method=method)

    def _table(self, params: Params) -> jax.Array:
        side = "encoder" if self.config.share_all_embeddings else "decoder"
        return params[side]["embed_tokens"]["embedding"]

    def _projection(self, params: Params) -> tuple[jax.Array, Any]:
        if self.config.ties_output:
            return self._table(params), project_table
        return params["decoder"]["output_projection"]["kernel"], project_kernel

    def prepare(self, params: Params) -> Weights:
        return decoding.prepare(
            self.config, params["decoder"], table=self._table(params),
            projection=self._projection(params), dtype=self.compute_dtype,
        )

    def start(self, weights: Weights, encoded: Encoded, *, beam: int, capacity: int) -> Cache:
        del capacity  # rings have one size
        return decoding.start(self.config, weights, encoded, beam=beam)

    def step(
        self, weights: Weights, tokens: jax.Array, cache: Cache, *,
        position: jax.Array, ancestors: jax.Array,
    ) -> tuple[Features, Cache]:
        return decoding.step(
            self.config, weights, tokens, cache, position=position, ancestors=ancestors
        )

    def grow(self, cache: Cache, *, capacity: int) -> Cache:
        del capacity
        return cache

    def reorder(self, cache: Cache, parents: jax.Array) -> Cache:
        del parents  # history is found through the ancestor table
        return cache
