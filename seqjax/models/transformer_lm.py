"""fairseq's transformer language model: the decoder of `transformer.py` without a source.

`TransformerLMModel` is what the rest of the project sees (`protocol.LanguageModel`).
Nothing here knows losses or search.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.models import adaptive, decoding
from seqjax.models.adaptive import AdaptiveInput, AdaptiveSoftmax, band_ends, band_widths
from seqjax.models.layers import dropout
from seqjax.models.protocol import Cache, Features, Params, Weights
from seqjax.models.transformer import EOS, PAD, Decoder
from seqjax.models.transformer_lm_config import TransformerLMConfig


class _LMDecoder(Decoder):
    """The decoder with an adaptive input and an adaptive softmax where asked for."""

    input_ends: tuple[int, ...] | None = None
    output_ends: tuple[int, ...] | None = None

    def setup(self) -> None:
        super().setup()
        cfg = self.config
        if self.input_ends is not None:
            widths = band_widths(
                cfg.adaptive_input_dim, cfg.adaptive_input_factor, len(self.input_ends),
                key="adaptive_input_factor",
            )
            self.embed_tokens = AdaptiveInput(
                self.input_ends, widths, cfg.decoder_embed_dim, self.dtype
            )
        if self.output_ends is not None:
            self.adaptive_softmax = AdaptiveSoftmax(
                cfg.output_dim, self.output_ends, cfg.adaptive_softmax_factor,
                cfg.tie_adaptive_weights, cfg.tie_adaptive_proj,
            )


class _TransformerLM(nn.Module):
    """Parameters and forward pass."""

    config: TransformerLMConfig
    input_size: int
    output_size: int
    dtype: Any = jnp.float32

    def setup(self) -> None:
        cfg = self.config
        adaptive_output = cfg.adaptive_softmax_cutoff is not None
        own_output = not (adaptive_output or cfg.share_decoder_input_output_embed)
        self.decoder = _LMDecoder(
            cfg, self.dtype, None if cfg.adaptive_input else self.input_size, None,
            self.output_size if own_output else None,
            input_ends=input_ends(cfg, self.input_size),
            output_ends=output_ends(cfg, self.output_size),
        )

    def decode(self, tokens: jax.Array, segments: jax.Array | None) -> jax.Array:
        embedded = self.decoder.embed_tokens(tokens)
        return self.decoder(tokens, embedded, None, segments)[0]

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Touches every parameter (for initialisation)."""
        hidden = self.decode(tokens, None)
        if self.config.adaptive_softmax_cutoff is not None:
            self.decoder.adaptive_softmax()
        elif not self.config.share_decoder_input_output_embed:
            hidden = self.decoder.output_projection(hidden)
        return hidden


def input_ends(cfg: TransformerLMConfig, vocab_size: int) -> tuple[int, ...] | None:
    """Ends of the bands of the adaptive input (None: an ordinary embedding)."""
    if not cfg.adaptive_input:
        return None
    assert cfg.adaptive_input_cutoff is not None
    return band_ends(cfg.adaptive_input_cutoff, vocab_size, key="adaptive_input_cutoff")


def output_ends(cfg: TransformerLMConfig, vocab_size: int) -> tuple[int, ...] | None:
    """Ends of the clusters of the adaptive softmax (None: an ordinary softmax)."""
    if cfg.adaptive_softmax_cutoff is None:
        return None
    return band_ends(cfg.adaptive_softmax_cutoff, vocab_size, key="adaptive_softmax_cutoff")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerLMModel:
    """`protocol.LanguageModel` for fairseq's transformer language model."""

    config: TransformerLMConfig
    source_vocab_size: int
    """Entries of the dictionary: what is read."""
    target_vocab_size: int
    """What is predicted; smaller with a truncated output dictionary."""
    compute_dtype: Any = jnp.float32
    """Type of matrix products and activations; statistics and logits stay float32."""
    pad: int = PAD
    eos: int = EOS

    def __post_init__(self) -> None:
        cfg = self.config
        tied = cfg.share_decoder_input_output_embed or cfg.tie_adaptive_weights
        if tied and self.source_vocab_size != self.target_vocab_size:
            raise ValueError(
                "config.model: a shared embedding predicts every entry of the dictionary "
                f"({self.source_vocab_size}), not the first {self.target_vocab_size}; unset "
                "share_decoder_input_output_embed and tie_adaptive_weights, or "
                "task.output_dictionary_size"
            )
        for width, factor, ends, key in (
            (cfg.adaptive_input_dim, cfg.adaptive_input_factor,
             input_ends(cfg, self.source_vocab_size), "adaptive_input_factor"),
            (cfg.output_dim, cfg.adaptive_softmax_factor,
             output_ends(cfg, self.target_vocab_size), "adaptive_softmax_factor"),
        ):
            if ends is not None:
                band_widths(width, factor, len(ends), key=key)

    @functools.cached_property
    def _module(self) -> _TransformerLM:
        return _TransformerLM(
            self.config, self.source_vocab_size, self.target_vocab_size, self.compute_dtype
        )

    @property
    def max_target_positions(self) -> int:
        return self.config.max_target_positions

    def init(self, rng: jax.Array) -> Params:
        return self._module.init({"params": rng}, jnp.full((1, 1), EOS, jnp.int32))["params"]

    def features(
        self, params: Params, prev_output_tokens: jax.Array, *,
        segments: jax.Array | None = None, rng: jax.Array | None = None,
    ) -> Features:
        cfg = self.config
        length = prev_output_tokens.shape[1]
        learned = cfg.decoder_learned_pos and not cfg.no_token_positional_embeddings
        if learned and segments is None and length > cfg.max_target_positions:
            raise ValueError(
                f"a row of {length} tokens, but the model has learned "
                f"{cfg.max_target_positions} positions (config.model.max_target_positions)"
            )
        rngs = None if rng is None else {"dropout": jax.random.fold_in(rng, 1)}
        hidden: Any = self._module.apply(
            {"params": params}, prev_output_tokens, segments, rngs=rngs, method="decode"
        )
        key = None
        if rng is not None and cfg.adaptive_softmax_cutoff is not None:
            key = jax.random.fold_in(rng, 2)
            hidden = dropout(hidden, cfg.adaptive_softmax_dropout, jax.random.fold_in(rng, 3))
        projection, project = self._projection(params, key)
        return Features(hidden=hidden, projection=projection, project=project)

    def _table(self, params: Params) -> Any:
        embedding = params["decoder"]["embed_tokens"]
        ends = input_ends(self.config, self.source_vocab_size)
        if ends is None:
            return embedding["embedding"]
        return adaptive.input_table(embedding, ends)

    def _projection(self, params: Params, key: jax.Array | None) -> tuple[Any, Any]:
        cfg, decoder = self.config, params["decoder"]
        ends = output_ends(cfg, self.target_vocab_size)
        if ends is not None:
            tied = self._table(params) if cfg.tie_adaptive_weights else None
            projection = adaptive.output_projection(
                decoder["adaptive_softmax"], tied, ends=ends, key=key,
                dropout=cfg.adaptive_softmax_dropout,
            )
            return projection, adaptive.log_probs
        if cfg.share_decoder_input_output_embed:
            return self._table(params), decoding.project_table
        return decoder["output_projection"]["kernel"], decoding.project_kernel

    def prepare(self, params: Params) -> Weights:
        table = self._table(params)
        look_up = adaptive.look_up if isinstance(table, adaptive.AdaptiveTable) else None
        return decoding.prepare(
            self.config, params["decoder"], table=table, dtype=self.compute_dtype,
            projection=self._projection(params, None), look_up=look_up,
        )

    def start(self, weights: Weights, *, batch: int, beam: int, capacity: int) -> Cache:
        return decoding.start(
            self.config, weights, None, batch=batch, beam=beam, capacity=capacity
        )

    def step(
        self, weights: Weights, tokens: jax.Array, cache: Cache, *,
        position: jax.Array, ancestors: jax.Array,
    ) -> tuple[Features, Cache]:
        return decoding.step(
            self.config, weights, tokens, cache, position=position, ancestors=ancestors
        )

    def grow(self, cache: Cache, *, capacity: int) -> Cache:
        return decoding.grow(cache, capacity=capacity)

    def reorder(self, cache: Cache, parents: jax.Array) -> Cache:
        return cache
