"""fairseq's encoder-decoder transformer, whole sequences at a time.

`TransformerModel` is what the rest of the project sees (`protocol.EncoderDecoder`);
position-by-position decoding is in `decoding.py`. Nothing here knows losses or search.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.models.parts.attention import MultiheadAttention, causal_mask, joint_mask, segment_mask
from seqjax.models.parts.layers import (
    Embedding,
    LayerNorm,
    Linear,
    activation,
    dropout,
    embedding_init,
    xavier_uniform,
)
from seqjax.models.parts.module_model import PAD, adaptive_softmax
from seqjax.models.parts.position_split import inside_layer, into_products
from seqjax.models.parts.positions import Positions
from seqjax.models.parts.stack import stack
from seqjax.models.protocol import Encoded, Params, Source
from seqjax.models.transformer import normformer
from seqjax.models.transformer.config import TransformerConfig


class _Layer(nn.Module):
    """What encoder and decoder layers share: dropout, norm placement, feed-forward."""

    config: Any
    dtype: Any

    def _drop(self, x: jax.Array, rate: float) -> jax.Array:
        return dropout(x, rate, self.make_rng("dropout") if self.has_rng("dropout") else None)

    def _feed_forward(
        self, x: jax.Array, embed_dim: int, ffn_dim: int, extras: Params
    ) -> jax.Array:
        """`extras` are NormFormer's parameters, if the layer has any."""
        cfg = self.config
        hidden = Linear(embed_dim, ffn_dim, name="fc1", dtype=self.dtype)(into_products(x))
        hidden = activation(cfg.activation_fn)(inside_layer(hidden))
        hidden = self._drop(hidden, cfg.activation_dropout)
        hidden = normformer.inside_feed_forward(extras, hidden)
        y = Linear(ffn_dim, embed_dim, name="fc2", dtype=self.dtype)(inside_layer(hidden))
        return self._drop(y, cfg.dropout)

    def _layer_drop(self, before: jax.Array, after: jax.Array, rate: float) -> jax.Array:
        if rate == 0.0 or not self.has_rng("dropout"):
            return after
        return jnp.where(jax.random.uniform(self.make_rng("dropout")) < rate, before, after)


class EncoderLayer(_Layer):
    """Self-attention and feed-forward, pre- or post-norm."""

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, None]:
        cfg, before = self.config, x
        dim = cfg.encoder_embed_dim
        pre = cfg.encoder_normalize_before
        norm = LayerNorm(dim, name="self_attn_layer_norm")
        attention = MultiheadAttention(
            dim, cfg.encoder_attention_heads, dropout=cfg.attention_dropout,
            dtype=self.dtype, name="self_attn",
        )
        y, _ = attention(norm(x) if pre else x, None, mask)
        x = x + self._drop(y, cfg.dropout)
        x = x if pre else norm(x)
        norm = LayerNorm(dim, name="final_layer_norm")
        x = x + self._feed_forward(norm(x) if pre else x, dim, cfg.encoder_ffn_embed_dim, {})
        x = x if pre else norm(x)
        return self._layer_drop(before, x, cfg.encoder_layerdrop), None


class DecoderLayer(_Layer):
    """Causal self-attention, attention to the source, feed-forward."""

    memory_dim: int | None = None
    """Width of the encoder's output (None: no attention to a source)."""
    joint: bool = False
    """Self-attention sees the source too; `mask` is then over both (`joint_mask`)."""

    @nn.compact
    def __call__(
        self, x: jax.Array, memory: jax.Array | None, mask: jax.Array,
        memory_mask: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array | None]:
        cfg, before = self.config, x
        dim, heads = cfg.decoder_embed_dim, cfg.decoder_attention_heads
        pre = cfg.decoder_normalize_before
        make = functools.partial(
            MultiheadAttention, dim, heads, dropout=cfg.attention_dropout, dtype=self.dtype
        )
        extras = normformer.parameters(self, cfg)
        norm = LayerNorm(dim, name="self_attn_layer_norm")
        y = norm(x) if pre else x
        both = jnp.concatenate([memory, y], axis=1) if self.joint and memory is not None else None
        y, _ = make(name="self_attn")(y, both, mask)
        x = x + self._drop(normformer.after_attention(extras, y), cfg.dropout)
        x = x if pre else norm(x)
        probs = None
        if self.memory_dim is not None:
            norm = LayerNorm(dim, name="encoder_attn_layer_norm")
            attention = make(name="encoder_attn", kdim=self.memory_dim)
            y, probs = attention(norm(x) if pre else x, memory, memory_mask)
            x = x + self._drop(y, cfg.dropout)
            x = x if pre else norm(x)
        norm = LayerNorm(dim, name="final_layer_norm")
        y = self._feed_forward(norm(x) if pre else x, dim, cfg.decoder_ffn_embed_dim, extras)
        x = normformer.residual(extras, x) + y
        x = x if pre else norm(x)
        return self._layer_drop(before, x, cfg.decoder_layerdrop), probs


class _Side(nn.Module):
    """What encoder and decoder share: from embedded tokens to the first layer's input."""

    config: Any
    dtype: Any

    def _dropped(self, x: jax.Array) -> jax.Array:
        key = self.make_rng("dropout") if self.has_rng("dropout") else None
        return dropout(x, self.config.dropout, key)


class Encoder(_Side):
    """fairseq's `TransformerEncoder`."""

    vocab_size: int

    def setup(self) -> None:
        cfg, dim = self.config, self.config.encoder_embed_dim
        self.embed_tokens = Embedding(self.vocab_size, dim, PAD)
        if not cfg.no_token_positional_embeddings:
            self.embed_positions = Positions(
                dim, cfg.encoder_learned_pos, cfg.max_source_positions
            )
        if cfg.layernorm_embedding:
            self.layernorm_embedding = LayerNorm(dim)
        self.layers = stack(EncoderLayer, cfg, length=cfg.encoder_layers, inputs=1)(
            cfg, self.dtype
        )
        if cfg.encoder_normalize_before and not cfg.no_encoder_final_norm:
            self.layer_norm = LayerNorm(dim)

    def __call__(self, source: Source) -> Encoded:
        cfg, tokens, segments = self.config, source.values, source.visible_segments
        x = self.embed_tokens(tokens)
        if not cfg.no_scale_embedding:
            x = x * cfg.encoder_embed_dim**0.5
        if not cfg.no_token_positional_embeddings:
            x = x + self.embed_positions(tokens, source.segments)
        if cfg.layernorm_embedding:
            x = self.layernorm_embedding(x)
        real = source.mask
        x = (self._dropped(x) * real[..., None]).astype(self.dtype)
        mask = real[:, None, None, :] if segments is None else segment_mask(segments, segments)
        x, _ = self.layers(x, mask)
        if cfg.encoder_normalize_before and not cfg.no_encoder_final_norm:
            x = self.layer_norm(x)
        return Encoded(out=x, mask=real, segments=segments)


class Decoder(_Side):
    """fairseq's `TransformerDecoder`, up to the output projection."""

    vocab_size: int | None
    """Rows of its own embedding (None: it is given the encoder's)."""
    memory_dim: int | None
    """Width of the encoder's output (None: a language model)."""
    output_size: int | None
    """Columns of its own output projection (None: tied to an embedding, or adaptive)."""
    output_ends: tuple[int, ...] | None = None
    """Ends of the clusters of an adaptive softmax (None: an ordinary one)."""

    def setup(self) -> None:
        cfg, dim = self.config, self.config.decoder_embed_dim
        if self.vocab_size is not None:
            self.embed_tokens = Embedding(self.vocab_size, cfg.input_dim, PAD)
        if cfg.input_dim != dim:
            self.project_in_dim = self._bias_free(cfg.input_dim, dim)
        if not cfg.no_token_positional_embeddings:
            self.embed_positions = Positions(
                dim, cfg.decoder_learned_pos, cfg.max_target_positions
            )
        if cfg.layernorm_embedding:
            self.layernorm_embedding = LayerNorm(dim)
        self.joint = self.memory_dim is not None and cfg.cross_self_attention
        reads = self.memory_dim is not None and not cfg.no_cross_attention
        self.layers = stack(DecoderLayer, cfg, length=cfg.decoder_layers, inputs=3)(
            cfg, self.dtype, self.memory_dim if reads else None, self.joint
        )
        if cfg.decoder_normalize_before and not cfg.no_decoder_final_norm:
            self.layer_norm = LayerNorm(dim)
        if cfg.output_dim != dim:
            self.project_out_dim = self._bias_free(dim, cfg.output_dim)
        if self.output_size is not None:
            self.output_projection = Linear(
                cfg.output_dim, self.output_size, use_bias=False, dtype=self.dtype,
                kernel_init=_transposed(embedding_init(cfg.output_dim, None)),
            )
        if self.output_ends is not None:
            self.adaptive_softmax = adaptive_softmax(cfg, self.output_ends)

    def _bias_free(self, width: int, features: int) -> Linear:
        return Linear(
            width, features, use_bias=False, kernel_init=xavier_uniform(), dtype=self.dtype
        )

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
        cfg = self.config
        x = embedded
        if not cfg.no_scale_embedding:
            x = x * cfg.decoder_embed_dim**0.5
        if cfg.input_dim != cfg.decoder_embed_dim:
            x = self.project_in_dim(x)
        if not cfg.no_token_positional_embeddings:
            x = x + self.embed_positions(tokens, segments)
        if cfg.layernorm_embedding:
            x = self.layernorm_embedding(x)
        x = self._dropped(x).astype(self.dtype)
        mask = (tokens != PAD)[:, None, None, :]
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
        x, attention = self.layers(x, memory, mask, memory_mask)
        if cfg.decoder_normalize_before and not cfg.no_decoder_final_norm:
            x = self.layer_norm(x)
        if cfg.output_dim != cfg.decoder_embed_dim:
            x = self.project_out_dim(x)
        return x, attention

    def own_output(self, hidden: jax.Array) -> jax.Array:
        """Touches the parameters of an output layer of its own (for initialisation)."""
        if self.output_ends is not None:
            self.adaptive_softmax()
        return hidden if self.output_size is None else self.output_projection(hidden)


class Transformer(nn.Module):
    """Parameters and forward passes; which embeddings are shared is decided here."""

    config: TransformerConfig
    source_vocab_size: int
    target_vocab_size: int
    output_size: int | None
    """See `Decoder`."""
    output_ends: tuple[int, ...] | None
    dtype: Any = jnp.float32

    def setup(self) -> None:
        cfg = self.config
        self.encoder = Encoder(cfg, self.dtype, self.source_vocab_size)
        rows = None if cfg.shares_input else self.target_vocab_size
        self.decoder = Decoder(
            cfg, self.dtype, rows, cfg.encoder_embed_dim, self.output_size, self.output_ends
        )

    def encode(self, source: Source) -> Encoded:
        return self.encoder(source)

    def decode(
        self, tokens: jax.Array, encoded: Encoded, segments: jax.Array | None,
        full_context: bool = False,
    ) -> tuple[jax.Array, jax.Array | None]:
        side = self.encoder if self.config.shares_input else self.decoder
        return self.decoder(tokens, side.embed_tokens(tokens), encoded, segments, full_context)

    def __call__(self, source: Source, tokens: jax.Array) -> jax.Array:
        """Touches every parameter (for initialisation)."""
        hidden, _ = self.decode(tokens, self.encode(source), None)
        return self.decoder.own_output(hidden)


def _transposed(init: Any) -> Any:
    def apply(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return init(key, shape[::-1], dtype).T

    return apply
