"""fairseq's `lightconv_lm`: the decoder of `lightconv.py` without a source.

`LightConvLanguageModel` is a `protocol.LanguageModel`.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.models import adaptive
from seqjax.models import lightconv_decoding as decoding
from seqjax.models.adaptive import AdaptiveInput, AdaptiveSoftmax, band_ends, band_widths
from seqjax.models.decoding import project_kernel, project_table
from seqjax.models.layers import dropout
from seqjax.models.lightconv_config import LightConvLanguageModelConfig
from seqjax.models.lightconv_modules import Decoder
from seqjax.models.protocol import Cache, Features, Params, Weights

PAD = 1
EOS = 2


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
                self.input_ends, widths, cfg.decoder_width, self.dtype
            )
        if self.output_ends is not None:
            self.adaptive_softmax = AdaptiveSoftmax(
                cfg.output_dim, self.output_ends, cfg.adaptive_softmax_factor,
                cfg.tie_adaptive_weights, cfg.tie_adaptive_proj,
            )

    def decode(self, tokens: jax.Array, segments: jax.Array | None) -> jax.Array:
        return self(tokens, self.embed_tokens(tokens), None, segments)[0]


class _LanguageModel(nn.Module):
    """Parameters and forward pass."""

    config: LightConvLanguageModelConfig
    input_size: int | None
    output_size: int | None
    input_ends: tuple[int, ...] | None
    output_ends: tuple[int, ...] | None
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.decoder = _LMDecoder(
            self.config, self.dtype, self.input_size, self.output_size, False,
            input_ends=self.input_ends, output_ends=self.output_ends,
        )

    def decode(self, tokens: jax.Array, segments: jax.Array | None) -> jax.Array:
        return self.decoder.decode(tokens, segments)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Touches every parameter (for initialisation)."""
        hidden = self.decode(tokens, None)
        if self.output_ends is not None:
            self.decoder.adaptive_softmax()
        elif self.output_size is not None:
            hidden = self.decoder.output_projection(hidden)
        return hidden


@dataclasses.dataclass(frozen=True, kw_only=True)
class LightConvLanguageModel:
    """`protocol.LanguageModel` for fairseq's `lightconv_lm`."""

    config: LightConvLanguageModelConfig
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
            (cfg.adaptive_input_dim, cfg.adaptive_input_factor, self._input_ends,
             "adaptive_input_factor"),
            (cfg.output_dim, cfg.adaptive_softmax_factor, self._output_ends,
             "adaptive_softmax_factor"),
        ):
            if ends is not None:
                band_widths(width, factor, len(ends), key=key)

    @property
    def _input_ends(self) -> tuple[int, ...] | None:
        cutoff = self.config.adaptive_input_cutoff
        if not self.config.adaptive_input or cutoff is None:
            return None
        return band_ends(cutoff, self.source_vocab_size, key="adaptive_input_cutoff")

    @property
    def _output_ends(self) -> tuple[int, ...] | None:
        cutoff = self.config.adaptive_softmax_cutoff
        if cutoff is None:
            return None
        return band_ends(cutoff, self.target_vocab_size, key="adaptive_softmax_cutoff")

    @functools.cached_property
    def _module(self) -> _LanguageModel:
        cfg = self.config
        own = self._output_ends is None and not cfg.share_decoder_input_output_embed
        return _LanguageModel(
            cfg, None if cfg.adaptive_input else self.source_vocab_size,
            self.target_vocab_size if own else None, self._input_ends, self._output_ends,
            self.compute_dtype,
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
        """See `protocol`."""
        key, rngs = None, None
        if rng is not None:
            rngs = {"dropout": jax.random.fold_in(rng, 1)}
        hidden: Any = self._module.apply(
            {"params": params}, prev_output_tokens, segments, rngs=rngs, method="decode"
        )
        if rng is not None and self._output_ends is not None:
            key = jax.random.fold_in(rng, 2)
            rate = self.config.adaptive_softmax_dropout
            hidden = dropout(hidden, rate, jax.random.fold_in(rng, 3))
        projection, project = self._projection(params, key)
        return Features(hidden=hidden, projection=projection, project=project)

    def _table(self, params: Params) -> Any:
        embedding = params["decoder"]["embed_tokens"]
        if self._input_ends is None:
            return embedding["embedding"]
        return adaptive.input_table(embedding, self._input_ends)

    def _projection(self, params: Params, key: jax.Array | None) -> tuple[Any, Any]:
        cfg, decoder = self.config, params["decoder"]
        if self._output_ends is not None:
            tied = self._table(params) if cfg.tie_adaptive_weights else None
            projection = adaptive.output_projection(
                decoder["adaptive_softmax"], tied, ends=self._output_ends, key=key,
                dropout=cfg.adaptive_softmax_dropout,
            )
            return projection, adaptive.log_probs
        if cfg.share_decoder_input_output_embed:
            return self._table(params), project_table
        return decoder["output_projection"]["kernel"], project_kernel

    def prepare(self, params: Params) -> Weights:
        wide = self._input_ends is None
        return decoding.prepare(
            self.config, params["decoder"], table=self._table(params), dtype=self.compute_dtype,
            projection=self._projection(params, None),
            look_up=decoding.look_up_rows if wide else adaptive.look_up,
        )

    def start(self, weights: Weights, *, batch: int, beam: int, capacity: int) -> Cache:
        del capacity  # rings have one size
        return decoding.start(self.config, weights, None, beam=beam, batch=batch)

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
