"""Speech-to-text transformers, whole sequences at a time: parameters and forward passes.

Features [B, S, F] of audio come in, states of fewer frames and of the decoder go out. The
decoder is the transformer's; position-by-position decoding is in `transformer/decoding.py`.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from seqjax.models.parts.layers import LayerNorm, Linear, dropout, dropout_key, norm_eps
from seqjax.models.parts.module_model import PAD
from seqjax.models.parts.positions import Positions, form_of
from seqjax.models.parts.stack import hidden_states, stack
from seqjax.models.protocol import Encoded, Source
from seqjax.models.s2t_transformer.config import S2TConformerConfig, SpeechConfig
from seqjax.models.s2t_transformer.conformer import ConformerLayer, relative_sinusoids
from seqjax.models.s2t_transformer.subsampling import (
    Frames,
    PlaneSubsampler,
    Subsampler,
    frames_of,
)
from seqjax.models.transformer.modules import Decoder, EncoderLayer, embedding_scale


def frame_positions(cfg: SpeechConfig) -> Positions:
    """Sinusoids of frames."""
    return Positions(cfg.encoder_embed_dim, False, cfg.max_source_positions, PAD, *form_of(cfg))


def marks(frames: Frames) -> jax.Array:
    """[B, T] int32 that `Positions` takes for tokens, padding where no frame is real."""
    return jnp.where(frames.real, PAD + 1, PAD)


class FrameEncoder(nn.Module):
    """Convolutions over frames, then layers; subclasses say which."""

    config: SpeechConfig
    dtype: DTypeLike
    words: int
    """Words that a CTC loss is about."""

    def setup(self) -> None:
        cfg, dim = self.config, self.config.encoder_embed_dim
        kind = PlaneSubsampler if cfg.over_frequencies else Subsampler
        self.subsample = kind(cfg, dim, self.dtype)
        self.declare()
        if cfg.ctc_weight > 0:
            self.ctc_proj = Linear(dim, self.words, dtype=self.dtype)

    def declare(self) -> None:
        """Part of `setup`: `layers` and what stands beside them."""
        raise NotImplementedError

    def read(self, source: Source) -> tuple[Frames, tuple]:
        """Subsampled frames, and what the layers are called with."""
        raise NotImplementedError

    def leave(self, x: jax.Array) -> jax.Array:
        """What the decoder is given of the last layer's output."""
        return x

    def __call__(self, source: Source) -> Encoded:
        frames, inputs = self.read(source)
        x, found = self.layers(*inputs)
        return Encoded(out=self.leave(x), mask=frames.real, state=found)

    def hidden_states(self, source: Source) -> jax.Array:
        """[L + 1, B, T, D]: what the first layer reads, then every layer's output."""
        return hidden_states(self.layers, *self.read(source)[1])

    def ctc_logits(self, x: jax.Array) -> jax.Array:
        """Float32 [B, T, V] of the encoder's states [B, T, D]."""
        return self.ctc_proj(x).astype(jnp.float32)

    def scaled(self, source: Source) -> Frames:
        """Subsampled frames as positions are added to them."""
        frames = self.subsample(frames_of(source))
        scale = embedding_scale(self.config, self.config.encoder_embed_dim)
        if scale is None:
            return frames
        return dataclasses.replace(frames, values=frames.values * scale)

    def drop(self, x: jax.Array) -> jax.Array:
        """The first layer's input, in the type of matrix products."""
        return dropout(x, self.config.dropout, dropout_key(self)).astype(self.dtype)


class TransformerFrameEncoder(FrameEncoder):
    """fairseq's `S2TTransformerEncoder` and `ConvTransformerEncoder`."""

    def declare(self) -> None:
        cfg = self.config
        self.embed_positions = frame_positions(cfg)
        self.layers = stack(EncoderLayer, cfg, length=cfg.encoder_layers, inputs=1)(
            cfg, self.dtype)
        if cfg.encoder_normalize_before:
            self.layer_norm = LayerNorm(cfg.encoder_embed_dim, norm_eps(cfg))

    def leave(self, x: jax.Array) -> jax.Array:
        return self.layer_norm(x) if self.config.encoder_normalize_before else x

    def read(self, source: Source) -> tuple[Frames, tuple]:
        frames = self.scaled(source)
        x = frames.values + self.embed_positions(marks(frames), None)
        return frames, (self.drop(x), frames.real[:, None, None, :])


class ConformerFrameEncoder(FrameEncoder):
    """fairseq's `S2TConformerEncoder`. Its states are `ConformerLayer`'s statistics of the batch
    when it is trained."""

    config: S2TConformerConfig  # type: ignore[assignment]

    def declare(self) -> None:
        cfg, dim = self.config, self.config.encoder_embed_dim
        if cfg.pos_enc_type == "abs":
            self.embed_positions = frame_positions(cfg)
        self.linear = Linear(dim, dim, dtype=self.dtype)
        self.layers = stack(ConformerLayer, cfg, length=cfg.encoder_layers, inputs=3)(
            cfg, self.dtype)

    def read(self, source: Source) -> tuple[Frames, tuple]:
        cfg, frames = self.config, self.scaled(source)
        x = frames.values
        if cfg.pos_enc_type == "abs":
            x = x + self.embed_positions(marks(frames), None)
        x = self.drop(self.linear(x))
        distances = None
        if cfg.pos_enc_type == "rel_pos":
            distances = jnp.asarray(relative_sinusoids(x.shape[1], cfg.encoder_embed_dim))
        return frames, (x, frames.real, frames.seen, distances)


class SpeechToText(nn.Module):
    """Parameters and forward passes."""

    config: SpeechConfig
    words: int
    """Entries of the dictionary that is predicted."""
    output_size: int | None
    """See `DecoderEnds`."""
    output_ends: tuple[int, ...] | None
    dtype: DTypeLike = jnp.float32
    pad: int = PAD

    def setup(self) -> None:
        cfg = self.config
        if isinstance(cfg, S2TConformerConfig):
            self.encoder = ConformerFrameEncoder(cfg, self.dtype, self.words)
        else:
            self.encoder = TransformerFrameEncoder(cfg, self.dtype, self.words)
        self.decoder = Decoder(
            cfg, self.dtype, self.words, self.output_size, self.output_ends,
            memory_dim=cfg.encoder_embed_dim, pad=self.pad, words=self.words)

    def encode(self, source: Source) -> Encoded:
        return self.encoder(source)

    def decode(
        self, tokens: jax.Array, encoded: Encoded, segments: jax.Array | None
    ) -> tuple[jax.Array, jax.Array | None]:
        return self.decoder(tokens, self.decoder.embed_tokens(tokens), encoded, segments)

    def encoder_states(self, source: Source) -> jax.Array:
        return self.encoder.hidden_states(source)

    def decoder_states(
        self, tokens: jax.Array, encoded: Encoded, segments: jax.Array | None
    ) -> jax.Array:
        return self.decoder.hidden_states(
            tokens, self.decoder.embed_tokens(tokens), encoded, segments)

    def ctc_logits(self, states: jax.Array) -> jax.Array:
        return self.encoder.ctc_logits(states)

    def __call__(self, source: Source, tokens: jax.Array) -> jax.Array:
        """Touches every parameter (for initialisation)."""
        encoded = self.encode(source)
        if self.config.ctc_weight > 0:
            self.ctc_logits(encoded.out)
        hidden, _ = self.decode(tokens, encoded, None)
        return self.decoder.own_output(hidden)
