"""fairseq's encoder-decoder transformer, whole sequences at a time.

`TransformerModel` is what the rest of the project sees (`protocol.EncoderDecoder`);
position-by-position decoding is in `decoding.py`.
"""

from __future__ import annotations

import functools
from typing import cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from seqjax.models.parts import decoder_layer, normformer
from seqjax.models.parts.attention import MultiheadAttention, causal_mask, joint_mask, segment_mask
from seqjax.models.parts.configs import RuntimeConfig
from seqjax.models.parts.decoder_ends import DecoderEnds
from seqjax.models.parts.decoder_layer import LayerForm
from seqjax.models.parts.layers import Embedding, LayerNorm, dropout_key
from seqjax.models.parts.module_model import PAD
from seqjax.models.parts.positions import Positions, form_of
from seqjax.models.parts.stack import Layer, hidden_states, stack
from seqjax.models.parts.stack_ends import Ends
from seqjax.models.protocol import Encoded, Source
from seqjax.models.transformer.config import (
    DecoderConfig,
    EncoderOnlyConfig,
    EncoderStackConfig,
    LayerConfig,
    TransformerConfig,
)


def encoder_form(cfg: EncoderStackConfig) -> LayerForm:
    """The switches of an encoder's layers."""
    return LayerForm(
        pre_norm=cfg.encoder_normalize_before, activation=cfg.activation_fn, dropout=cfg.dropout,
        activation_dropout=cfg.activation_dropout, layerdrop=cfg.encoder_layerdrop,
        eps=cfg.layer_norm_eps,
    )


def decoder_form(cfg: DecoderConfig) -> LayerForm:
    """The switches of a decoder's layers."""
    return LayerForm(
        pre_norm=cfg.decoder_normalize_before, activation=cfg.activation_fn, dropout=cfg.dropout,
        activation_dropout=cfg.activation_dropout, layerdrop=cfg.decoder_layerdrop,
        eps=cfg.layer_norm_eps,
    )


def embedding_scale(cfg: LayerConfig, width: int) -> float | None:
    """What embeddings are multiplied by (None: nothing)."""
    return None if cfg.no_scale_embedding else width**0.5


def as_read(tokens: jax.Array, segments: jax.Array | None, *, pad: int) -> jax.Array:
    """`tokens` [B, T] with another symbol in the place of padding's that begins a sequence, as
    masks and positions take it."""
    if segments is None:
        first = jnp.arange(tokens.shape[1]) == 0
    else:
        first = segments != jnp.pad(segments[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    return jnp.where(first & (tokens == pad), pad + 1, tokens)


class EncoderLayer(Layer):
    """Self-attention and feed-forward, pre- or post-norm."""

    config: EncoderStackConfig
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, None]:
        cfg, form = self.config, encoder_form(self.config)
        dim = cfg.encoder_embed_dim
        attention = MultiheadAttention(
            dim, cfg.encoder_attention_heads, dropout=cfg.attention_dropout,
            dtype=self.dtype, use_bias=cfg.linear_bias, name="self_attn",
        )
        w = decoder_layer.parameters(
            form, width=dim, inner=cfg.encoder_ffn_embed_dim, use_bias=cfg.linear_bias)
        x, _ = decoder_layer.layer(
            w, x, form=form, mix=lambda y: attention(y, None, mask)[0],
            key=lambda: dropout_key(self),
        )
        return x, None


class DecoderLayer(Layer):
    """Causal self-attention, attention to the source, feed-forward."""

    config: DecoderConfig
    dtype: DTypeLike
    memory_dim: int | None = None
    """Width of the encoder's output (None: no attention to a source)."""
    joint: bool = False
    """Self-attention sees the source too; `mask` is then over both (`joint_mask`)."""

    @nn.compact
    def __call__(
        self, x: jax.Array, memory: jax.Array | None, mask: jax.Array,
        memory_mask: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array | None]:
        cfg, form = self.config, decoder_form(self.config)
        dim, reads = cfg.decoder_embed_dim, self.memory_dim is not None
        make = functools.partial(
            MultiheadAttention, dim, cfg.decoder_attention_heads, dropout=cfg.attention_dropout,
            dtype=self.dtype, use_bias=cfg.linear_bias,
        )
        own = make(name="self_attn")
        other = make(name="encoder_attn", kdim=self.memory_dim) if reads else None

        def mix(y: jax.Array) -> jax.Array:
            if not self.joint or memory is None:
                return own(y, None, mask)[0]
            return own(y, jnp.concatenate([memory, y], axis=1), mask)[0]

        w = {
            **decoder_layer.parameters(
                form, width=dim, inner=cfg.decoder_ffn_embed_dim, reads=reads,
                use_bias=cfg.linear_bias),
            **normformer.parameters(self, cfg),
        }
        return decoder_layer.layer(
            w, x, form=form, mix=mix, key=lambda: dropout_key(self),
            read=None if other is None else lambda y: other(y, memory, memory_mask),
        )


class Encoder(Ends[TransformerConfig | EncoderOnlyConfig]):
    """fairseq's `TransformerEncoder`."""

    vocab_size: int
    pad: int = PAD

    def setup(self) -> None:
        cfg, dim = self.config, self.config.encoder_embed_dim
        self.embed_tokens = Embedding(self.vocab_size, dim, self.pad)
        if not cfg.no_token_positional_embeddings:
            self.embed_positions = Positions(
                dim, cfg.encoder_learned_pos, cfg.max_source_positions, self.pad,
                *form_of(cfg),
            )
        if cfg.layernorm_embedding:
            self.layernorm_embedding = LayerNorm(dim)
        self.layers = stack(EncoderLayer, cfg, length=cfg.encoder_layers, inputs=1)(
            cfg, self.dtype
        )
        if cfg.encoder_normalize_before and not cfg.no_encoder_final_norm:
            self.layer_norm = LayerNorm(dim)

    def __call__(self, source: Source) -> Encoded:
        x, _ = self.layers(*self._read(source))
        return Encoded(
            out=self.leave(x), mask=source.mask, segments=source.visible_segments)

    def hidden_states(self, source: Source) -> jax.Array:
        """[L + 1, B, S, D]: embeddings as the first layer reads them, then every layer's output,
        no final norm behind it (fairseq's `encoder_states`)."""
        return hidden_states(self.layers, *self._read(source))

    def _read(self, source: Source) -> tuple[jax.Array, jax.Array]:
        """The first layer's input, and which positions see which."""
        cfg, tokens, segments = self.config, source.values, source.visible_segments
        x = self.enter(
            self.embedded(source), tokens, source.segments,
            scale=embedding_scale(cfg, cfg.encoder_embed_dim))
        real = source.mask
        x = x * real[..., None]
        return x, real[:, None, None, :] if segments is None else segment_mask(segments, segments)

    def embedded(self, source: Source) -> jax.Array:
        """Rows of the embedding [B, S, D] of the source's tokens."""
        return self.embed_tokens(source.values)


class Decoder(DecoderEnds[DecoderConfig]):
    """fairseq's `TransformerDecoder`, up to the output projection."""

    memory_dim: int | None = None
    """Width of the encoder's output (None: a language model)."""
    words: int = 0
    """Entries of the dictionary that is predicted, of which each has an output bias if any."""

    def setup(self) -> None:
        cfg, dim = self.config, self.config.decoder_embed_dim
        self.declare(dim)
        if cfg.layernorm_embedding:
            self.layernorm_embedding = LayerNorm(dim)
        self.joint = self.memory_dim is not None and getattr(cfg, "cross_self_attention", False)
        reads = self.memory_dim is not None and not getattr(cfg, "no_cross_attention", False)
        self.layers = stack(
            DecoderLayer, cast(RuntimeConfig, cfg), length=cfg.decoder_layers, inputs=3)(
            cfg, self.dtype, self.memory_dim if reads else None, self.joint
        )
        if cfg.decoder_normalize_before and not cfg.no_decoder_final_norm:
            self.layer_norm = LayerNorm(dim)
        if cfg.output_bias:
            self.output_bias = self.param(
                "output_bias", nn.initializers.zeros_init(), (self.words,))

    def __call__(
        self, tokens: jax.Array, embedded: jax.Array, encoded: Encoded | None,
        segments: jax.Array | None, full_context: bool = False,
    ) -> tuple[jax.Array, jax.Array | None]:
        """Decoder states, teacher-forced.

        Args:
          tokens: [B, T] previous output tokens.
          embedded: [B, T, input_dim], their rows of the embedding.
          full_context: let every position see the whole target.

        Returns:
          Hidden states [B, T, output_dim]; attention to the source [L, B, H, T, S], or None
          where the layers have none of its own.
        """
        x, attention = self.layers(*self._read(tokens, embedded, encoded, segments, full_context))
        return self.leave(x), attention

    def hidden_states(
        self, tokens: jax.Array, embedded: jax.Array, encoded: Encoded | None,
        segments: jax.Array | None,
    ) -> jax.Array:
        """[L + 1, B, T, D]: embeddings as the first layer reads them, then every layer's output,
        no final norm behind it (fairseq's `inner_states`); arguments as of a call."""
        return hidden_states(
            self.layers, *self._read(tokens, embedded, encoded, segments, False))

    def _read(
        self, tokens: jax.Array, embedded: jax.Array, encoded: Encoded | None,
        segments: jax.Array | None, full_context: bool,
    ) -> tuple[jax.Array, jax.Array | None, jax.Array, jax.Array | None]:
        """The first layer's input, the memory, and which positions see which of both."""
        cfg = self.config
        scale = embedding_scale(cfg, cfg.decoder_embed_dim)
        if cfg.pad_begins:
            tokens = as_read(tokens, segments, pad=self.pad)
        x = self.enter(embedded, tokens, segments, scale=scale)
        mask = (tokens != self.pad)[:, None, None, :]
        if not full_context:
            mask = mask & causal_mask(tokens.shape[1])
        if segments is not None:
            mask = mask & segment_mask(segments, segments)
        memory, memory_mask = None, None
        if encoded is not None:
            memory, memory_mask = encoded.out, encoded.mask[:, None, None, :]
            if segments is not None and encoded.segments is not None:
                memory_mask = segment_mask(segments, encoded.segments)
            if self.joint:
                mask = joint_mask(memory_mask, mask)
        return x, memory, mask, memory_mask


class Transformer(nn.Module):
    """Parameters and forward passes; which embeddings are shared is decided here."""

    config: TransformerConfig
    source_vocab_size: int
    target_vocab_size: int
    output_size: int | None
    """See `Decoder`."""
    output_ends: tuple[int, ...] | None
    dtype: DTypeLike = jnp.float32
    pad: int = PAD

    def setup(self) -> None:
        cfg = self.config
        self.encoder = Encoder(cfg, self.dtype, self.source_vocab_size, pad=self.pad)
        rows = None if cfg.shares_input else self.target_vocab_size
        self.decoder = Decoder(
            cfg, self.dtype, rows, self.output_size, self.output_ends,
            memory_dim=cfg.encoder_embed_dim, pad=self.pad, words=self.target_vocab_size)

    def encode(self, source: Source) -> Encoded:
        return self.encoder(source)

    def decode(
        self, tokens: jax.Array, encoded: Encoded, segments: jax.Array | None,
        full_context: bool = False,
    ) -> tuple[jax.Array, jax.Array | None]:
        side = self.encoder if self.config.shares_input else self.decoder
        return self.decoder(tokens, side.embed_tokens(tokens), encoded, segments, full_context)

    def encoder_states(self, source: Source) -> jax.Array:
        return self.encoder.hidden_states(source)

    def decoder_states(
        self, tokens: jax.Array, encoded: Encoded, segments: jax.Array | None
    ) -> jax.Array:
        side = self.encoder if self.config.shares_input else self.decoder
        return self.decoder.hidden_states(tokens, side.embed_tokens(tokens), encoded, segments)

    def __call__(self, source: Source, tokens: jax.Array) -> jax.Array:
        """Touches every parameter (for initialisation)."""
        hidden, _ = self.decode(tokens, self.encode(source), None)
        return self.decoder.own_output(hidden)
