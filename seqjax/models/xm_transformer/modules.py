"""Parameters and forward passes: samples to states of frames, by an adaptor to fewer of them, and
those of the decoder."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax.typing import DTypeLike

from seqjax.models.finetuning.modules import FinetunedEncoder
from seqjax.models.parts.audio import Drawn
from seqjax.models.parts.audio_config import frame_count
from seqjax.models.parts.convolutions import Convolution
from seqjax.models.parts.layers import LayerNorm, Linear, dropout_key, gated
from seqjax.models.parts.module_model import PAD
from seqjax.models.protocol import Encoded
from seqjax.models.transformer.modules import Decoder
from seqjax.models.xm_transformer.config import XMTransformerConfig


@struct.dataclass
class Frames:
    """States of frames."""

    x: jax.Array
    """[B, T, D]."""
    lengths: jax.Array
    """[B] int32: real ones of each row."""
    extents: jax.Array
    """[B] int32: those that convolutions see, padding's too: up to the end of the longest row, as
    fairseq's, or of the row itself."""

    def upto(self, counts: jax.Array) -> jax.Array:
        """The states with zeros behind the first `counts` [B]."""
        within = jnp.arange(self.x.shape[1]) < counts[:, None]
        return jnp.where(within[..., None], self.x, 0)


def with_states(frames: Frames, x: jax.Array) -> Frames:
    """The same frames with other states."""
    return dataclasses.replace(frames, x=x)


class FeedForward(nn.Module):
    """Half of what two linear layers with a ReLU between them make of states, added to these, and
    a norm behind."""

    width: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        inner = 4 * self.width
        y = jax.nn.relu(Linear(self.width, inner, dtype=self.dtype, name="linear_0")(x))
        y = Linear(inner, self.width, dtype=self.dtype, name="linear_2")(y)
        return LayerNorm(self.width, name="norm")(x + 0.5 * y)


class Adaptor(nn.Module):
    """fairseq's `Conv1dAdaptor`."""

    config: XMTransformerConfig
    dtype: DTypeLike

    @nn.compact
    def __call__(self, frames: Frames) -> Frames:
        cfg, width, x = self.config, self.config.memory_dim, frames.x
        size, stride = cfg.adaptor_kernel_size, cfg.adaptor_stride
        if cfg.adaptor_layernorm:
            x = LayerNorm(width, name="layernorm")(x)
        if cfg.adaptor_proj:
            x = FeedForward(width, self.dtype, name="proj")(x)
        frames = with_states(frames, x)
        frames = with_states(frames, frames.upto(frames.lengths))
        for i in range(cfg.adaptor_n_layers):
            x = gated(Convolution(
                width, 2 * width, size, stride=stride, padding=size // 2, dtype=self.dtype,
                name=f"conv_{i}")(frames.x))
            lengths, extents = (
                -(-n // stride) for n in (frames.lengths, frames.extents))
            made = Frames(x=x, lengths=lengths, extents=extents)
            frames = self._dropped(frames, with_states(made, made.upto(extents)))
        x = frames.x
        if cfg.adaptor_proj:
            x = FeedForward(width, self.dtype, name="post_proj")(x)
        frames = with_states(frames, x)
        return with_states(frames, frames.upto(frames.lengths))

    def _dropped(self, before: Frames, after: Frames) -> Frames:
        """Those after a convolution; now and then in training, with a shape that stays the same,
        those before it."""
        rate, key = self.config.adaptor_layerdrop, dropout_key(self)
        if key is None or not rate:
            return after
        longer = before.x.shape[1] - after.x.shape[1]
        after = with_states(after, jnp.pad(after.x, ((0, 0), (0, longer), (0, 0))))
        drop = jax.random.uniform(key) < rate
        return jax.tree.map(lambda a, b: jnp.where(drop, a, b), before, after)


class Encoder(nn.Module):
    """fairseq's `Wav2VecEncoderWithAdaptor`."""

    config: XMTransformerConfig
    dtype: DTypeLike

    def setup(self) -> None:
        cfg = self.config
        width = cfg.decoder_embed_dim if cfg.projects else None
        self.w2v_encoder = FinetunedEncoder(cfg.encoder_section, False, width, self.dtype)
        if cfg.projects and cfg.adaptor_proj:
            self.w2v_proj_ln = LayerNorm(cfg.decoder_embed_dim)
        if cfg.adaptor_n_layers:
            self.adaptor = Adaptor(cfg, self.dtype)

    def __call__(
        self, samples: jax.Array, real: jax.Array, drawn: Drawn, update: jax.Array | None,
        alone: bool,
    ) -> Encoded:
        cfg = self.config
        x, mask = self.w2v_encoder.encode(samples, real, drawn, update=update, alone=alone)
        x = self.w2v_encoder.projected(x)
        if cfg.projects and cfg.adaptor_proj:
            x = self.w2v_proj_ln(x)
        if not cfg.adaptor_n_layers:
            return Encoded(out=x, mask=mask)
        lengths = mask.sum(axis=1, dtype=jnp.int32)
        heard = frame_count(real.sum(axis=1, dtype=jnp.int32), cfg.conv_layers)
        longest = heard if alone else jnp.broadcast_to(heard.max(), heard.shape)
        frames = self.adaptor(Frames(
            x=x, lengths=lengths, extents=jnp.where(lengths > 0, longest, 0)))
        return Encoded(
            out=frames.x, mask=jnp.arange(frames.x.shape[1]) < frames.lengths[:, None])

    def touched(self, samples: jax.Array) -> jax.Array:
        """Every parameter, and states (for initialisation)."""
        self.w2v_encoder.touched(samples)
        return self(samples, jnp.ones(samples.shape, bool), Drawn(), None, False).out


class XMTransformer(nn.Module):
    """Parameters and forward passes."""

    config: XMTransformerConfig
    words: int
    output_size: int | None
    """See `DecoderEnds`."""
    output_ends: tuple[int, ...] | None
    dtype: DTypeLike = jnp.float32
    pad: int = PAD

    def setup(self) -> None:
        cfg = self.config
        self.encoder = Encoder(cfg, self.dtype)
        self.decoder = Decoder(
            cfg.decoder_section, self.dtype, self.words, self.output_size, self.output_ends,
            memory_dim=cfg.memory_dim, pad=self.pad, words=self.words)

    def encode(
        self, samples: jax.Array, real: jax.Array, drawn: Drawn, update: jax.Array | None,
        alone: bool,
    ) -> Encoded:
        return self.encoder(samples, real, drawn, update, alone)

    def decode(
        self, tokens: jax.Array, encoded: Encoded, segments: jax.Array | None
    ) -> tuple[jax.Array, jax.Array | None]:
        return self.decoder(tokens, self.decoder.embed_tokens(tokens), encoded, segments)

    def decoder_states(
        self, tokens: jax.Array, encoded: Encoded, segments: jax.Array | None
    ) -> jax.Array:
        return self.decoder.hidden_states(
            tokens, self.decoder.embed_tokens(tokens), encoded, segments)

    def __call__(self, samples: jax.Array, tokens: jax.Array) -> jax.Array:
        """Touches every parameter (for initialisation)."""
        out = self.encoder.touched(samples)
        encoded = Encoded(out=out, mask=jnp.ones(out.shape[:2], bool))
        hidden, _ = self.decode(tokens, encoded, None)
        return self.decoder.own_output(hidden)
