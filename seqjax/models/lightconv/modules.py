"""Encoder and decoder with lightweight or dynamic convolutions, whole sequences at a time.

Parameters of like layers are stacked on axis 0 under `layers`; the convolutions' own, whose
shapes follow each layer's kernel size, are beside them under `convs_N`. At run time they are
placed in one frame (`lightconv_layers.Frame`) and run in the same stack.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.models.lightconv.layers import (
    Frame,
    causal_frame,
    centred_frame,
    convolve,
    normalise,
    same_segment,
)
from seqjax.models.parts.attention import MultiheadAttention, segment_mask
from seqjax.models.parts.layers import (
    Embedding,
    Initializer,
    LayerNorm,
    Linear,
    dropout,
    embedding_init,
    xavier_uniform,
)
from seqjax.models.parts.module_model import PAD
from seqjax.models.parts.positions import Positions
from seqjax.models.parts.stack import stack
from seqjax.models.protocol import Encoded, Source


def gated(x: jax.Array) -> jax.Array:
    """Half of the channels, each times the sigmoid of its partner in the other half."""
    value, gate = jnp.split(x, 2, axis=-1)
    return value * jax.nn.sigmoid(gate)


def _kernel_init() -> Initializer:
    """torch's `xavier_uniform_` for a convolution's weights [H, 1, K], which we keep [H, K]."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        heads, width = shape
        bound = (6.0 / (width + heads * width)) ** 0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Convolution(nn.Module):
    """The parameters of one layer's convolution."""

    kind: str
    heads: int
    channels: int
    width: int

    def setup(self) -> None:
        if self.kind == "dynamic":
            self.weight_linear = Linear(self.channels, self.heads * self.width, use_bias=False)
        else:
            self.weight = self.param("weight", _kernel_init(), (self.heads, self.width))

    def __call__(self) -> jax.Array:
        """[H, K], or [C, H, K] from which inputs make them."""
        if self.kind == "dynamic":
            return self.weight_linear.kernel.reshape(self.channels, self.heads, self.width)
        return self.weight


class _Layer(nn.Module):
    """What encoder and decoder layers share."""

    config: Any
    dtype: Any
    frame: Frame

    def _drop(self, x: jax.Array, rate: float) -> jax.Array:
        return dropout(x, rate, self.make_rng("dropout") if self.has_rng("dropout") else None)

    def _linear(self, width: int, features: int, name: str) -> Linear:
        return Linear(
            width, features, name=name, dtype=self.dtype, kernel_init=xavier_uniform(),
            bias_init=nn.initializers.zeros_init(),
        )

    def _block(
        self, x: jax.Array, weights: jax.Array, valid: jax.Array, *, side: str,
        real: jax.Array | None, seen: jax.Array | None,
    ) -> jax.Array:
        """The convolution between two projections.

        Args:
          weights: the layer's, in the frame.
          valid: [width] bool, the frame's taps that the layer has.
          real: [B, T]; padding is zeros to its neighbours (None: all).
          seen: [B, T, width] bool, what packing lets be seen (None: all).
        """
        cfg = self.config
        width, channels = getattr(cfg, f"{side}_width"), getattr(cfg, f"{side}_channels")
        glu, heads = getattr(cfg, f"{side}_glu"), getattr(cfg, f"{side}_attention_heads")
        x = self._drop(x, cfg.input_dropout)
        x = self._linear(width, channels * (2 if glu else 1), "linear1")(x)
        x = gated(x) if glu else x
        if real is not None:
            x = jnp.where(real[..., None], x, 0)
        if getattr(cfg, f"{side}_conv_type") == "dynamic":
            weights = jnp.einsum("btc,chk->bthk", x, weights.astype(self.dtype))
        else:
            weights = weights[None, None]
        taps = normalise(weights, valid, softmax=cfg.weight_softmax)
        rows = x.shape[0] if self.has_rng("dropout") and cfg.weight_rate else taps.shape[0]
        taps = jnp.broadcast_to(taps, (rows, x.shape[1], *taps.shape[2:]))
        taps = self._drop(taps, cfg.weight_rate)
        if seen is not None:
            taps = jnp.where(seen[:, :, None], taps, 0)
        groups = x.reshape(*x.shape[:2], heads, channels // heads)
        y = convolve(groups, taps, left=self.frame.left).reshape(x.shape)
        return self._drop(self._linear(channels, width, "linear2")(y), cfg.dropout)

    def _feed_forward(self, x: jax.Array, width: int, inner: int) -> jax.Array:
        hidden = jax.nn.relu(self._linear(width, inner, "fc1")(x))
        y = self._linear(inner, width, "fc2")(self._drop(hidden, self.config.relu_dropout))
        return self._drop(y, self.config.dropout)


class EncoderLayer(_Layer):
    """Convolution and feed-forward, pre- or post-norm."""

    @nn.compact
    def __call__(
        self, x: jax.Array, weights: jax.Array, valid: jax.Array, real: jax.Array,
        seen: jax.Array | None,
    ) -> tuple[jax.Array, None]:
        cfg, pre = self.config, self.config.encoder_normalize_before
        norm = LayerNorm(cfg.encoder_width, name="layer_norm1")
        y = norm(x) if pre else x
        x = x + self._block(y, weights, valid, side="encoder", real=real, seen=seen)
        x = x if pre else norm(x)
        norm = LayerNorm(cfg.encoder_width, name="layer_norm2")
        y = norm(x) if pre else x
        x = x + self._feed_forward(y, cfg.encoder_width, cfg.encoder_ffn_embed_dim)
        return x if pre else norm(x), None


class DecoderLayer(_Layer):
    """Causal convolution, attention to the source if there is one, feed-forward."""

    @nn.compact
    def __call__(
        self, x: jax.Array, weights: jax.Array, valid: jax.Array, seen: jax.Array | None,
        memory: jax.Array | None, memory_mask: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array | None]:
        cfg, pre = self.config, self.config.decoder_normalize_before
        width = cfg.decoder_width
        norm = LayerNorm(width, name="conv_layer_norm")
        y = norm(x) if pre else x
        x = x + self._block(y, weights, valid, side="decoder", real=None, seen=seen)
        x = x if pre else norm(x)
        probs = None
        if memory is not None:
            norm = LayerNorm(width, name="encoder_attn_layer_norm")
            attention = MultiheadAttention(
                width, cfg.decoder_attention_heads, kdim=memory.shape[-1],
                dropout=cfg.attention_dropout, dtype=self.dtype, name="encoder_attn",
            )
            y, probs = attention(norm(x) if pre else x, memory, memory_mask)
            x = x + self._drop(y, cfg.dropout)
            x = x if pre else norm(x)
        norm = LayerNorm(width, name="final_layer_norm")
        x = x + self._feed_forward(norm(x) if pre else x, width, cfg.decoder_ffn)
        return x if pre else norm(x), probs


class _Side(nn.Module):
    """What encoder and decoder share."""

    config: Any
    dtype: Any

    def _dropped(self, x: jax.Array) -> jax.Array:
        key = self.make_rng("dropout") if self.has_rng("dropout") else None
        return dropout(x, self.config.dropout, key)

    def _convolutions(self, side: str) -> list[Convolution]:
        cfg = self.config
        make = functools.partial(
            Convolution, getattr(cfg, f"{side}_conv_type"), getattr(cfg, f"{side}_attention_heads"),
            getattr(cfg, f"{side}_channels"),
        )
        return [make(width) for width in getattr(cfg, f"{side}_kernels")]

    @staticmethod
    def _seen(segments: jax.Array | None, frame: Frame) -> jax.Array | None:
        if segments is None:
            return None
        return same_segment(segments, width=frame.width, left=frame.left)


class Encoder(_Side):
    """fairseq's `LightConvEncoder`."""

    vocab_size: int

    def setup(self) -> None:
        cfg, dim = self.config, self.config.encoder_width
        self.embed_tokens = Embedding(self.vocab_size, dim, PAD)
        if not cfg.no_token_positional_embeddings:
            self.embed_positions = Positions(
                dim, cfg.encoder_learned_pos, cfg.max_source_positions
            )
        self.frame = centred_frame(cfg.encoder_kernels)
        self.convs = self._convolutions("encoder")
        self.layers = stack(EncoderLayer, cfg, length=cfg.encoder_layers, inputs=2, own=2)(
            cfg, self.dtype, self.frame
        )
        if cfg.encoder_normalize_before:
            self.layer_norm = LayerNorm(dim)

    def __call__(self, source: Source) -> Encoded:
        cfg, tokens, segments = self.config, source.values, source.visible_segments
        x = self.embed_tokens(tokens) * cfg.encoder_width**0.5
        if not cfg.no_token_positional_embeddings:
            x = x + self.embed_positions(tokens, source.segments)
        real = source.mask
        x = self._dropped(x).astype(self.dtype)
        weights = self.frame.place([conv() for conv in self.convs])
        valid = jnp.asarray(self.frame.valid())
        x, _ = self.layers(x, weights, valid, real, self._seen(segments, self.frame))
        if cfg.encoder_normalize_before:
            x = self.layer_norm(x)
        return Encoded(out=x, mask=real, segments=segments)


class Decoder(_Side):
    """fairseq's `LightConvDecoder`, up to the output layer."""

    vocab_size: int | None
    """Rows of its own embedding (None: it is given embedded tokens)."""
    output_size: int | None
    """Columns of its own output projection (None: tied, or adaptive)."""
    final_norm: bool
    """With `decoder_normalize_before`: a norm behind the last layer."""

    def setup(self) -> None:
        cfg, dim = self.config, self.config.decoder_width
        if self.vocab_size is not None:
            self.embed_tokens = Embedding(self.vocab_size, cfg.input_dim, PAD)
        if cfg.input_dim != dim:
            self.project_in_dim = self._bias_free(cfg.input_dim, dim)
        if not cfg.no_token_positional_embeddings:
            self.embed_positions = Positions(
                dim, cfg.decoder_learned_pos, cfg.max_target_positions
            )
        self.frame = causal_frame(cfg.decoder_kernels)
        self.convs = self._convolutions("decoder")
        self.layers = stack(DecoderLayer, cfg, length=cfg.decoder_layers, inputs=3, own=2)(
            cfg, self.dtype, self.frame
        )
        if cfg.decoder_normalize_before and self.final_norm:
            self.layer_norm = LayerNorm(dim)
        if cfg.output_dim != dim:
            self.project_out_dim = self._bias_free(dim, cfg.output_dim)
        if self.output_size is not None:
            init = embedding_init(cfg.output_dim, None)
            self.output_projection = Linear(
                cfg.output_dim, self.output_size, use_bias=False, dtype=self.dtype,
                kernel_init=lambda key, shape, dtype=jnp.float32: init(key, shape[::-1], dtype).T,
            )

    def _bias_free(self, width: int, features: int) -> Linear:
        return Linear(
            width, features, use_bias=False, kernel_init=xavier_uniform(), dtype=self.dtype
        )

    def __call__(
        self, tokens: jax.Array, embedded: jax.Array, encoded: Encoded | None,
        segments: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array | None]:
        """Decoder states, teacher-forced.

        Args:
          tokens: [B, T] previous output tokens.
          embedded: [B, T, input_dim], their rows of the embedding.

        Returns:
          Hidden states [B, T, output_dim]; attention to the source [L, B, H, T, S].
        """
        cfg = self.config
        x = embedded * cfg.decoder_width**0.5
        if cfg.input_dim != cfg.decoder_width:
            x = self.project_in_dim(x)
        if not cfg.no_token_positional_embeddings:
            x = x + self.embed_positions(tokens, segments)
        x = self._dropped(x).astype(self.dtype)
        memory, memory_mask = None, None
        if encoded is not None:
            memory, memory_mask = encoded.out, encoded.mask[:, None, None, :]
            if segments is not None and encoded.segments is not None:
                memory_mask = segment_mask(segments, encoded.segments)
        weights = self.frame.place([conv() for conv in self.convs])
        valid = self._valid(tokens, packed=segments is not None)
        seen = self._seen(segments, self.frame)
        x, attention = self.layers(x, weights, valid, seen, memory, memory_mask)
        if cfg.decoder_normalize_before and self.final_norm:
            x = self.layer_norm(x)
        if cfg.output_dim != cfg.decoder_width:
            x = self.project_out_dim(x)
        return x, attention

    def _valid(self, tokens: jax.Array, *, packed: bool) -> jax.Array:
        """[L, width] bool: the taps that each layer normalises over."""
        valid = jnp.asarray(self.frame.valid())
        if packed or not self.config.short_batch_softmax:
            return valid
        if self.config.decoder_conv_type != "dynamic":
            return valid
        longest = (tokens != PAD).sum(1).max()
        return valid & (jnp.arange(self.frame.width) >= self.frame.width - longest)
