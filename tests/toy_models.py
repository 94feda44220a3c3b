"""A tiny model for tests of search: its logits depend on the source and on every token of
the prefix, each at its position, and it finds the prefix as transformers do, through
ancestors in a cache that never moves. A numpy twin computes the same from a plain list."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from seqjax.models.protocol import Encoded, Features


@struct.dataclass
class ToyCache:
    past: jax.Array
    """[B, W, C, D]."""
    source: jax.Array
    """[B, D]."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyModel:
    """hidden = tanh(source + sum of decayed embeddings of the prefix)."""

    vocabulary: int = 12
    width: int = 8
    sharpness: float = 3.0
    eos_bias: float = 0.0
    pad: int = 1
    eos: int = 2
    max_source_positions: int = 40
    max_target_positions: int = 100
    config: None = None

    def init(self, rng):
        a, b, c = jax.random.split(rng, 3)
        shape = (self.vocabulary, self.width)
        return {"source": jax.random.normal(a, shape), "embed": jax.random.normal(b, shape),
                "out": self.sharpness * jax.random.normal(c, shape[::-1])}

    def encode(self, params, source, *, rng=None):
        mask = source.mask
        return Encoded(out=params["source"][source.values] * mask[..., None], mask=mask)

    def features(self, params, prev_output_tokens, encoded, *, segments=None, rng=None):
        embedded = params["embed"][prev_output_tokens]
        t = jnp.arange(embedded.shape[1])
        decay = jnp.where(t[:, None] >= t, 0.7 ** (t[:, None] - t), 0.0)
        past = jnp.einsum("ts,bsd->btd", decay, embedded)
        hidden = jnp.tanh(self._summary(encoded)[:, None] + past)
        return self._features(params, hidden)

    def prepare(self, params):
        return params

    def start(self, weights, encoded, *, rows, beam, capacity):
        summary = self._summary(encoded)
        past = jnp.zeros((summary.shape[0], beam, capacity, self.width))
        return ToyCache(past=past, source=summary)

    def step(self, weights, tokens, cache, *, position, ancestors):
        embedded = weights["embed"][tokens]
        past = jax.lax.dynamic_update_slice_in_dim(
            cache.past, embedded[:, :, None], position, axis=2)
        c = jnp.arange(past.shape[2])
        decay = jnp.where(c <= position, 0.7 ** (position - c), 0.0)
        here = ancestors[..., None] == jnp.arange(past.shape[1])  # [B, W, C, slot]
        total = jnp.einsum("bwcx,c,bxcd->bwd", here.astype(past.dtype), decay, past)
        hidden = jnp.tanh(cache.source[:, None] + total)
        return self._features(weights, hidden), cache.replace(past=past)

    def grow(self, cache, *, capacity):
        more = capacity - cache.past.shape[2]
        return cache.replace(past=jnp.pad(cache.past, ((0, 0), (0, 0), (0, more), (0, 0))))

    def reorder(self, cache, parents):
        return cache

    def _summary(self, encoded):
        return encoded.out.sum(1) / jnp.maximum(encoded.mask.sum(1, keepdims=True), 1)

    def _features(self, params, hidden):
        def project(projection, hidden):
            return (hidden @ projection).at[..., self.eos].add(self.eos_bias)

        return Features(hidden=hidden, projection=params["out"], project=project)

    def numpy_logits(self, params, source, tokens):
        """[V] float64 after the tokens (without the leading eos)."""
        params = {k: np.asarray(v, np.float64) for k, v in params.items()}
        fed = [self.eos, *tokens]
        hidden = params["source"][list(source)].mean(0)
        for i, token in enumerate(fed):
            hidden = hidden + 0.7 ** (len(fed) - 1 - i) * params["embed"][token]
        logits = np.tanh(hidden) @ params["out"]
        logits[self.eos] += self.eos_bias
        return logits


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurrentToy(ToyModel):
    """The same function, with a small state that follows hypotheses by `reorder`."""

    def start(self, weights, encoded, *, rows, beam, capacity):
        state = jnp.broadcast_to(self._summary(encoded)[:, None],
                                 (encoded.out.shape[0], beam, self.width))
        return (state, jnp.zeros_like(state))

    def step(self, weights, tokens, cache, *, position, ancestors):
        source, past = cache
        past = 0.7 * past + weights["embed"][tokens]
        return self._features(weights, jnp.tanh(source + past)), (source, past)

    def grow(self, cache, *, capacity):
        return cache

    def reorder(self, cache, parents):
        source, past = cache
        return source, jnp.take_along_axis(past, parents[..., None], axis=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyLanguageModel:
    """A `protocol.LanguageModel`: the toy without its source."""

    toy: ToyModel = ToyModel()
    pad: int = 1
    eos: int = 2
    max_target_positions: int = 100
    config: None = None

    def init(self, rng):
        return self.toy.init(rng)

    def features(self, params, prev_output_tokens, encoded=None, *, segments=None, rng=None):
        nothing = self._nothing(prev_output_tokens.shape[0])
        return self.toy.features(params, prev_output_tokens, nothing)

    def prepare(self, params):
        return params

    def start(self, weights, encoded, *, rows, beam, capacity):
        nothing = self._nothing(rows)
        return self.toy.start(weights, nothing, rows=rows, beam=beam, capacity=capacity)

    def step(self, weights, tokens, cache, *, position, ancestors):
        return self.toy.step(weights, tokens, cache, position=position, ancestors=ancestors)

    def grow(self, cache, *, capacity):
        return self.toy.grow(cache, capacity=capacity)

    def reorder(self, cache, parents):
        return cache

    def numpy_logits(self, params, tokens):
        silent = {**params, "source": np.zeros_like(params["source"])}
        return self.toy.numpy_logits(silent, [2], tokens)

    def _nothing(self, batch):
        return Encoded(out=jnp.zeros((batch, 1, self.toy.width)), mask=jnp.ones((batch, 1), bool))
