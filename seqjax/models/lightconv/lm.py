"""fairseq's `lightconv_lm`: the decoder of `lightconv.py` without a source.

`LightConvLanguageModel` is a `protocol.LanguageModel`.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from seqjax.models.lightconv import decoding
from seqjax.models.lightconv.config import LightConvLanguageModelConfig
from seqjax.models.lightconv.modules import Decoder
from seqjax.models.parts.module_model import ModuleLanguageModel, adaptive_input, adaptive_softmax


class _LMDecoder(Decoder):
    """The decoder with an adaptive input and an adaptive softmax where asked for."""

    input_ends: tuple[int, ...] | None = None
    output_ends: tuple[int, ...] | None = None

    def setup(self) -> None:
        super().setup()
        cfg = cast(LightConvLanguageModelConfig, self.config)
        if self.input_ends is not None:
            self.embed_tokens = adaptive_input(
                cfg, self.input_ends, width=cfg.decoder_width, dtype=self.dtype
            )
        if self.output_ends is not None:
            self.adaptive_softmax = adaptive_softmax(cfg, self.output_ends)

    def decode(self, tokens: jax.Array, segments: jax.Array | None) -> jax.Array:
        return self(tokens, self.embed_tokens(tokens), None, segments)[0]


class _LanguageModel(nn.Module):
    """Parameters and forward pass."""

    config: LightConvLanguageModelConfig
    input_size: int | None
    output_size: int | None
    input_ends: tuple[int, ...] | None
    output_ends: tuple[int, ...] | None
    dtype: DTypeLike = jnp.float32

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
class LightConvLanguageModel(ModuleLanguageModel):
    """`protocol.LanguageModel` for fairseq's `lightconv_lm`."""

    config: LightConvLanguageModelConfig
    _decoding: ClassVar[Any] = decoding

    @functools.cached_property
    def _module(self) -> _LanguageModel:  # type: ignore[override]
        return _LanguageModel(
            self.config, None if self.config.adaptive_input else self.source_vocab_size,
            self._own_output(), self._input_ends, self._output_ends, self.compute_dtype,
        )
