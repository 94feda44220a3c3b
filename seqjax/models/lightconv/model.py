"""fairseq's `lightconv`: convolutions in place of self-attention (Wu et al. 2019).

`LightConvModel` is a `protocol.EncoderDecoder`, for lightweight and dynamic convolutions.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from seqjax.models.lightconv import decoding
from seqjax.models.lightconv.config import LightConvConfig
from seqjax.models.lightconv.modules import Decoder, Encoder
from seqjax.models.parts.module_model import ModuleEncoderDecoder
from seqjax.models.protocol import Encoded, Source


class LightConv(nn.Module):
    """Parameters and forward passes; which embeddings are shared is decided here."""

    config: LightConvConfig
    source_vocab_size: int
    target_vocab_size: int
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        cfg = self.config
        self.encoder = Encoder(cfg, self.dtype, self.source_vocab_size)
        self.decoder = Decoder(
            cfg, self.dtype, None if cfg.shares_input else self.target_vocab_size,
            None if cfg.ties_output else self.target_vocab_size, final_norm=True)

    def encode(self, source: Source) -> Encoded:
        return self.encoder(source)

    def decode(
        self, tokens: jax.Array, encoded: Encoded, segments: jax.Array | None
    ) -> tuple[jax.Array, jax.Array | None]:
        side = self.encoder if self.config.shares_input else self.decoder
        return self.decoder(tokens, side.embed_tokens(tokens), encoded, segments)

    def __call__(self, source: Source, tokens: jax.Array) -> jax.Array:
        """Touches every parameter (for initialisation)."""
        hidden, _ = self.decode(tokens, self.encode(source), None)
        return self.decoder.own_output(hidden)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LightConvModel(ModuleEncoderDecoder):
    """`protocol.EncoderDecoder` for fairseq's `lightconv`."""

    config: LightConvConfig
    _decoding: ClassVar[Any] = decoding

    def __post_init__(self) -> None:
        self._check_joined("share_all_embeddings needs")

    @functools.cached_property
    def _module(self) -> LightConv:  # type: ignore[override]
        return LightConv(
            self.config, self.source_vocab_size, self.target_vocab_size, self.compute_dtype
        )
