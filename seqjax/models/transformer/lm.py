"""fairseq's transformer language model: the decoder of `modules.py` without a source.

`TransformerLanguageModel` is what the rest of the project sees (`protocol.LanguageModel`).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.models.parts.module_model import PAD, ModuleLanguageModel, adaptive_input
from seqjax.models.protocol import Encoded, Features, Params
from seqjax.models.transformer import decoding
from seqjax.models.transformer.lm_config import TransformerLanguageModelConfig
from seqjax.models.transformer.modules import Decoder


class _LMDecoder(Decoder):
    """The decoder with an adaptive input where asked for."""

    input_ends: tuple[int, ...] | None = None

    def setup(self) -> None:
        super().setup()
        cfg = self.config
        if self.input_ends is not None:
            self.embed_tokens = adaptive_input(
                cfg, self.input_ends, width=cfg.decoder_embed_dim, dtype=self.dtype
            )


class _TransformerLM(nn.Module):
    """Parameters and forward pass."""

    config: TransformerLanguageModelConfig
    input_size: int | None
    output_size: int | None
    input_ends: tuple[int, ...] | None
    output_ends: tuple[int, ...] | None
    dtype: Any = jnp.float32
    pad: int = PAD
    words: int = 0
    """See `Decoder`."""

    def setup(self) -> None:
        self.decoder = _LMDecoder(
            self.config, self.dtype, self.input_size, None, self.output_size,
            self.output_ends, input_ends=self.input_ends, pad=self.pad, words=self.words,
        )

    def decode(self, tokens: jax.Array, segments: jax.Array | None) -> jax.Array:
        embedded = self.decoder.embed_tokens(tokens)
        return self.decoder(tokens, embedded, None, segments)[0]

    def decoder_states(self, tokens: jax.Array) -> jax.Array:
        return self.decoder.hidden_states(tokens, self.decoder.embed_tokens(tokens), None)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Touches every parameter (for initialisation)."""
        return self.decoder.own_output(self.decode(tokens, None))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerLanguageModel(ModuleLanguageModel):
    """`protocol.LanguageModel` for fairseq's transformer language model."""

    config: TransformerLanguageModelConfig
    any_special_ids: ClassVar[bool] = True
    _decoding: ClassVar[Any] = decoding

    @functools.cached_property
    def _module(self) -> _TransformerLM:  # type: ignore[override]
        return _TransformerLM(
            self.config, None if self.config.adaptive_input else self.source_vocab_size,
            self._own_output(), self._input_ends, self._output_ends, self.compute_dtype,
            self.pad, self.target_vocab_size,
        )

    def decoder_states(
        self, params: Params, prev_output_tokens: jax.Array, encoded: Encoded | None = None,
    ) -> jax.Array:
        """See `protocol.LayeredStepper`."""
        del encoded  # there is no source
        found: Any = self._apply(params, None, 1, prev_output_tokens, method="decoder_states")
        return found

    def features(
        self, params: Params, prev_output_tokens: jax.Array, encoded: Encoded | None = None, *,
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
        return super().features(params, prev_output_tokens, encoded, segments=segments, rng=rng)
