"""Search with language models: they look like encoder-decoders whose source says nothing.

    decoder = Decoder(Continuation(model), config)
    decoder.decode(params, [[eos]] * n, prefixes=prompts)

Outputs begin with their prompt, whose tokens count towards lengths, as fairseq has it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from seqjax.models.protocol import Cache, Encoded, Features, LanguageModel, Params, Weights


@dataclasses.dataclass(frozen=True)
class Continuation:
    """`protocol.EncoderDecoder` for a `protocol.LanguageModel`: sources are ignored."""

    model: LanguageModel

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def pad(self) -> int:
        return self.model.pad

    @property
    def eos(self) -> int:
        return self.model.eos

    @property
    def max_source_positions(self) -> int:
        return self.model.max_target_positions

    @property
    def max_target_positions(self) -> int:
        return self.model.max_target_positions

    def init(self, rng: jax.Array) -> Params:
        return self.model.init(rng)

    def encode(
        self, params: Params, source: jax.Array, *,
        segments: jax.Array | None = None, rng: jax.Array | None = None,
    ) -> Encoded:
        """Keeps nothing of the source but the number of rows."""
        out = jnp.zeros((source.shape[0], 1, 1), jnp.float32)
        return Encoded(out=out, mask=jnp.ones((source.shape[0], 1), bool))

    def features(
        self, params: Params, prev_output_tokens: jax.Array, encoded: Encoded, *,
        segments: jax.Array | None = None, rng: jax.Array | None = None,
    ) -> Features:
        return self.model.features(params, prev_output_tokens, segments=segments, rng=rng)

    def prepare(self, params: Params) -> Weights:
        return self.model.prepare(params)

    def start(self, weights: Weights, encoded: Encoded, *, beam: int, capacity: int) -> Cache:
        return self.model.start(
            weights, batch=encoded.out.shape[0], beam=beam, capacity=capacity
        )

    def step(
        self, weights: Weights, tokens: jax.Array, cache: Cache, *,
        position: jax.Array, ancestors: jax.Array,
    ) -> tuple[Features, Cache]:
        return self.model.step(weights, tokens, cache, position=position, ancestors=ancestors)

    def grow(self, cache: Cache, *, capacity: int) -> Cache:
        return self.model.grow(cache, capacity=capacity)

    def reorder(self, cache: Cache, parents: jax.Array) -> Cache:
        return self.model.reorder(cache, parents)
