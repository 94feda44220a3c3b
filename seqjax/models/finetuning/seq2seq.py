"""Models that write what is heard: an encoder of waveforms, fine-tuned, and a decoder of words;
waveforms in, states of whole targets or of single steps out (`protocol.EncoderDecoder`)."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from seqjax.models.finetuning.config import WritingConfig
from seqjax.models.finetuning.model import FinetunedModel
from seqjax.models.finetuning.modules import FinetunedEncoder
from seqjax.models.parts.module_model import PAD, ModuleEncoderDecoder
from seqjax.models.protocol import Cache, Encoded, Features, Params, Weights
from seqjax.models.transformer import decoding
from seqjax.models.transformer.modules import Decoder


class Seq2Seq(nn.Module):
    """fairseq's `Wav2Vec2Seq2SeqModel`."""

    config: WritingConfig
    words: int
    output_size: int | None
    dtype: DTypeLike = jnp.float32
    pad: int = PAD

    def setup(self) -> None:
        cfg = self.config
        width = cfg.decoder_embed_dim
        self.encoder = FinetunedEncoder(
            cfg, cfg.blocks, None if width == cfg.encoder_embed_dim else width, self.dtype)
        self.decoder = Decoder(
            cfg.decoder, self.dtype, self.words, self.output_size, None, memory_dim=width,
            pad=self.pad, words=self.words)

    def encode(self, *inputs: Any, **options: Any) -> tuple[jax.Array, jax.Array]:
        x, frames = self.encoder.encode(*inputs, **options)
        return self.encoder.projected(x), frames

    def hidden(self, *inputs: Any, **options: Any) -> tuple[jax.Array, jax.Array]:
        return self.encoder.hidden(*inputs, **options)

    def decode(
        self, tokens: jax.Array, encoded: Encoded, segments: jax.Array | None
    ) -> tuple[jax.Array, jax.Array | None]:
        return self.decoder(tokens, self.decoder.embed_tokens(tokens), encoded, segments)

    def __call__(self, samples: jax.Array) -> jax.Array:
        """Touches every parameter (for initialisation)."""
        total = self.encoder.touched(samples)
        encoded = Encoded(out=jnp.zeros((1, 1, self.config.decoder_embed_dim)),
                          mask=jnp.ones((1, 1), bool))
        hidden, _ = self.decode(jnp.zeros((1, 1), jnp.int32), encoded, None)
        return total + self.decoder.own_output(hidden).sum()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seq2SeqModel(FinetunedModel, ModuleEncoderDecoder):
    """fairseq's `wav2vec_seq2seq`."""

    config: WritingConfig  # type: ignore[assignment]
    pad: int = PAD
    _decoding: ClassVar[Any] = decoding

    @property
    def _module(self) -> Seq2Seq:  # type: ignore[override]
        return Seq2Seq(self.config, self.target_vocab_size, self._own_output(),
                       self.compute_dtype, self.pad)

    @property
    def _encoder_path(self) -> tuple[str, ...]:
        return ("encoder", "w2v_model")

    def prepare(self, params: Params) -> Weights:
        """See `protocol`."""
        return decoding.prepare(
            self.config.decoder, params["decoder"], dtype=self.compute_dtype,
            table=self._table(params), projection=self._projection(params), pad=self.pad)

    def start(
        self, weights: Weights, encoded: Encoded | None, *, rows: int, beam: int, capacity: int,
    ) -> Cache:
        """See `protocol`."""
        return decoding.start(self.config.decoder, weights, encoded, rows=rows, beam=beam,
                              capacity=capacity)

    def step(
        self, weights: Weights, tokens: jax.Array, cache: Cache, *,
        position: jax.Array, ancestors: jax.Array,
    ) -> tuple[Features, Cache]:
        """See `protocol`."""
        return decoding.step(self.config.decoder, weights, tokens, cache, position=position,
                             ancestors=ancestors)
