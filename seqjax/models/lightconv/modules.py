"""Encoder and decoder with lightweight or dynamic convolutions, whole sequences at a time.

Parameters of like layers are stacked on axis 0 under `layers`; the convolutions' own, whose
shapes follow each layer's kernel size, are beside them under `convs_N`. At run time they are
placed in one frame (`lightconv_layers.Frame`) and run in the same stack.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from seqjax.models.lightconv.config import DecoderConfig, LightConvConfig
from seqjax.models.lightconv.layers import (
    Frame,
    block,
    causal_frame,
    centred_frame,
    convolve,
    same_segment,
    taps,
)
from seqjax.models.parts import decoder_layer
from seqjax.models.parts.attention import MultiheadAttention, segment_mask
from seqjax.models.parts.decoder_ends import DecoderEnds
from seqjax.models.parts.decoder_layer import LayerForm
from seqjax.models.parts.initializers import Initializer, uniform, xavier_uniform
from seqjax.models.parts.layers import Embedding, LayerNorm, Linear, dropout, dropout_key
from seqjax.models.parts.module_model import PAD
from seqjax.models.parts.positions import Positions
from seqjax.models.parts.stack import stack
from seqjax.models.parts.stack_ends import Ends
from seqjax.models.protocol import Encoded, Params, Source


def _kernel_init(heads: int, width: int) -> Initializer:
    """torch's `xavier_uniform_` for a convolution's weights [H, 1, K], which we keep [H, K]."""
    return uniform((6.0 / (width + heads * width)) ** 0.5)


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
            self.weight = self.param(
                "weight", _kernel_init(self.heads, self.width), (self.heads, self.width))

    def __call__(self) -> jax.Array:
        """[H, K], or [C, H, K] from which inputs make them."""
        if self.kind == "dynamic":
            return self.weight_linear.kernel.reshape(self.channels, self.heads, self.width)
        return self.weight


def encoder_form(cfg: LightConvConfig) -> LayerForm:
    """The switches of an encoder's layers."""
    return LayerForm(
        pre_norm=cfg.encoder_normalize_before, dropout=cfg.dropout,
        activation_dropout=cfg.relu_dropout, norms=("layer_norm1", "", "layer_norm2"),
    )


def decoder_form(cfg: DecoderConfig) -> LayerForm:
    """The switches of a decoder's layers."""
    return LayerForm(
        pre_norm=cfg.decoder_normalize_before, dropout=cfg.dropout,
        activation_dropout=cfg.relu_dropout,
        norms=("conv_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"),
    )


ConfigT = TypeVar("ConfigT", bound=DecoderConfig)


class _Layer(nn.Module, Generic[ConfigT]):
    """What encoder and decoder layers share."""

    config: ConfigT
    dtype: DTypeLike
    frame: Frame

    def _key(self) -> jax.Array | None:
        return dropout_key(self)

    def _parameters(
        self, form: LayerForm, *, width: int, channels: int, inner: int, glu: bool,
        reads: bool = False,
    ) -> Params:
        options: dict[str, Any] = dict(
            dtype=self.dtype, kernel_init=xavier_uniform(), bias_init=nn.initializers.zeros_init())
        first = Linear(width, channels * (2 if glu else 1), name="linear1", **options)
        return {
            "linear1": first.weights(),
            "linear2": Linear(channels, width, name="linear2", **options).weights(),
            **decoder_layer.parameters(form, width=width, inner=inner, reads=reads, **options),
        }

    def _mix(
        self, w: Params, weights: jax.Array, valid: jax.Array, *, glu: bool, heads: int,
        seen: jax.Array | None, real: jax.Array | None = None,
    ) -> decoder_layer.Mix:
        """The convolution block of whole rows.

        Args:
          w: `_parameters`.
          weights: of the layer's convolution, in the frame.
          valid: [width] bool, the frame's taps that the layer has.
          seen: [B, T, width] bool, what packing lets be seen (None: all).
          real: [B, T]; padding is zeros to its neighbours (None: all).
        """
        cfg = self.config

        def convolution(x: jax.Array) -> jax.Array:
            if real is not None:
                x = jnp.where(real[..., None], x, 0)
            found = taps(weights, x, valid, softmax=cfg.weight_softmax)
            rows = x.shape[0] if self.has_rng("dropout") and cfg.weight_rate else found.shape[0]
            found = jnp.broadcast_to(found, (rows, x.shape[1], *found.shape[2:]))
            found = dropout(found, cfg.weight_rate, self._key())
            if seen is not None:
                found = jnp.where(seen[:, :, None], found, 0)
            groups = x.reshape(*x.shape[:2], heads, x.shape[2] // heads)
            return convolve(groups, found, left=self.frame.left).reshape(x.shape)

        return lambda x: block(
            w, dropout(x, cfg.input_dropout, self._key()), convolution, glu=glu)


class EncoderLayer(_Layer[LightConvConfig]):
    """Convolution and feed-forward, pre- or post-norm."""

    @nn.compact
    def __call__(
        self, x: jax.Array, weights: jax.Array, valid: jax.Array, real: jax.Array,
        seen: jax.Array | None,
    ) -> tuple[jax.Array, None]:
        cfg, form = self.config, encoder_form(self.config)
        w = self._parameters(
            form, width=cfg.encoder_width, channels=cfg.encoder_channels,
            inner=cfg.encoder_ffn_embed_dim, glu=cfg.encoder_glu,
        )
        mix = self._mix(
            w, weights, valid, glu=cfg.encoder_glu, heads=cfg.encoder_attention_heads,
            seen=seen, real=real,
        )
        return decoder_layer.layer(w, x, form=form, mix=mix, key=self._key)[0], None


class DecoderLayer(_Layer[DecoderConfig]):
    """Causal convolution, attention to the source if there is one, feed-forward."""

    @nn.compact
    def __call__(
        self, x: jax.Array, weights: jax.Array, valid: jax.Array, seen: jax.Array | None,
        memory: jax.Array | None, memory_mask: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array | None]:
        cfg, form = self.config, decoder_form(self.config)
        width, heads = cfg.decoder_width, cfg.decoder_attention_heads
        w = self._parameters(
            form, width=width, channels=cfg.decoder_channels, inner=cfg.decoder_ffn,
            glu=cfg.decoder_glu, reads=memory is not None,
        )
        attention = None if memory is None else MultiheadAttention(
            width, heads, kdim=memory.shape[-1], dropout=cfg.attention_dropout, dtype=self.dtype,
            name="encoder_attn",
        )
        return decoder_layer.layer(
            w, x, form=form, key=self._key,
            mix=self._mix(w, weights, valid, glu=cfg.decoder_glu, heads=heads, seen=seen),
            read=None if attention is None else lambda y: attention(y, memory, memory_mask),
        )


def _convolutions(cfg: DecoderConfig, side: str) -> list[Convolution]:
    """Those of an encoder or of a decoder, as a part of its `setup`."""
    kind, heads, channels, kernels = (
        getattr(cfg, f"{side}_{key}") for key in (
            "conv_type", "attention_heads", "channels", "kernels"))
    return [Convolution(kind, heads, channels, width) for width in kernels]


def _seen(segments: jax.Array | None, frame: Frame) -> jax.Array | None:
    if segments is None:
        return None
    return same_segment(segments, width=frame.width, left=frame.left)


class Encoder(Ends[LightConvConfig]):
    """fairseq's `LightConvEncoder`."""

    vocab_size: int

    def setup(self) -> None:
        cfg, dim = self.config, self.config.encoder_width
        self.embed_tokens = Embedding(self.vocab_size, dim, PAD)
        if not cfg.no_token_positional_embeddings:
            self.embed_positions = Positions(
                dim, cfg.encoder_learned_pos, cfg.max_source_positions, PAD
            )
        self.frame = centred_frame(cfg.encoder_kernels)
        self.convs = _convolutions(cfg, "encoder")
        self.layers = stack(EncoderLayer, cfg, length=cfg.encoder_layers, inputs=2, own=2)(
            cfg, self.dtype, self.frame
        )
        if cfg.encoder_normalize_before:
            self.layer_norm = LayerNorm(dim)

    def __call__(self, source: Source) -> Encoded:
        cfg, tokens, segments = self.config, source.values, source.visible_segments
        x = self.enter(
            self.embed_tokens(tokens), tokens, source.segments, scale=cfg.encoder_width**0.5)
        real = source.mask
        weights = self.frame.place([conv() for conv in self.convs])
        valid = jnp.asarray(self.frame.valid())
        x, _ = self.layers(x, weights, valid, real, _seen(segments, self.frame))
        return Encoded(out=self.leave(x), mask=real, segments=segments)


class Decoder(DecoderEnds[DecoderConfig]):
    """fairseq's `LightConvDecoder`, up to the output layer."""

    final_norm: bool = False
    """With `decoder_normalize_before`: a norm behind the last layer."""

    def setup(self) -> None:
        cfg, dim = self.config, self.config.decoder_width
        self.declare(dim)
        self.frame = causal_frame(cfg.decoder_kernels)
        self.convs = _convolutions(cfg, "decoder")
        self.layers = stack(DecoderLayer, cfg, length=cfg.decoder_layers, inputs=3, own=2)(
            cfg, self.dtype, self.frame
        )
        if cfg.decoder_normalize_before and self.final_norm:
            self.layer_norm = LayerNorm(dim)

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
        x = self.enter(embedded, tokens, segments, scale=self.config.decoder_width**0.5)
        memory, memory_mask = None, None
        if encoded is not None:
            memory, memory_mask = encoded.out, encoded.mask[:, None, None, :]
            if segments is not None and encoded.segments is not None:
                memory_mask = segment_mask(segments, encoded.segments)
        weights = self.frame.place([conv() for conv in self.convs])
        valid = self._valid(tokens, packed=segments is not None)
        seen = _seen(segments, self.frame)
        x, attention = self.layers(x, weights, valid, seen, memory, memory_mask)
        return self.leave(x), attention

    def _valid(self, tokens: jax.Array, *, packed: bool) -> jax.Array:
        """[L, width] bool: the taps that each layer normalises over."""
        valid = jnp.asarray(self.frame.valid())
        if packed or not self.config.short_batch_softmax:
            return valid
        if self.config.decoder_conv_type != "dynamic":
            return valid
        longest = (tokens != PAD).sum(1).max()
        return valid & (jnp.arange(self.frame.width) >= self.frame.width - longest)
