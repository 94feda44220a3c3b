"""A conformer's layer (Gulati et al. 2020): half a feed-forward network, attention, a convolution
module, the other half.

States [B, T, D], which frames are real and which are seen come in; states go out and, in training,
the statistics of the batch that running ones are made of.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jax.typing import DTypeLike

from seqjax.models.parts.attention import MultiheadAttention, attend
from seqjax.models.parts.initializers import uniform, xavier_uniform
from seqjax.models.parts.layers import (
    EPS,
    LayerNorm,
    Linear,
    activation,
    dropout,
    dropout_key,
    gated,
    linear,
)
from seqjax.models.parts.stack import Layer
from seqjax.models.s2t_transformer.config import S2TConformerConfig

MOMENTUM = 0.1
"""Weight of a batch in running statistics, torch's default."""
RUNNING = ("running_mean", "running_var")
"""Parameters that no gradient reaches."""
ACTIVATION = "swish"
"""Of a conformer's layers, whatever the configuration's."""


@struct.dataclass
class Statistics:
    """Of a batch, for each channel."""

    mean: jax.Array
    """[C] float32."""
    variance: jax.Array
    """[C] float32, divided by one less than the number of frames."""

    def into(self, running: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Running statistics with these in them."""
        return {name: (1 - MOMENTUM) * running[name] + MOMENTUM * new
                for name, new in zip(RUNNING, (self.mean, self.variance), strict=True)}


class BatchNorm(nn.Module):
    """torch's `BatchNorm1d`: by a batch's statistics in training, else by the running ones."""

    dim: int

    @nn.compact
    def __call__(
        self, x: jax.Array, counted: jax.Array
    ) -> tuple[jax.Array, Statistics | None]:
        """`x` [B, T, C] normed, and the statistics of its frames `counted` [B, T] in training,
        which is where it is applied with dropout."""
        ones, zeros = nn.initializers.ones_init(), nn.initializers.zeros_init()
        scale = self.param("scale", ones, (self.dim,))
        bias = self.param("bias", zeros, (self.dim,))
        mean = self.param("running_mean", zeros, (self.dim,))
        variance = self.param("running_var", ones, (self.dim,))
        wide, found = x.astype(jnp.float32), None
        mean, variance = jax.lax.stop_gradient((mean, variance))
        if self.has_rng("dropout"):
            mean, variance, count = moments(wide, counted)
            unbiased = variance * count / jnp.maximum(count - 1, 1)
            found = jax.lax.stop_gradient(Statistics(mean=mean, variance=unbiased))
        y = (wide - mean) * jax.lax.rsqrt(variance + EPS) * scale + bias
        return y.astype(x.dtype), found


def moments(x: jax.Array, counted: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean and variance [C] of the frames `counted` [B, T] of `x` [B, T, C], and their number."""
    kept = counted[..., None]
    count = jnp.maximum(counted.sum(), 1).astype(jnp.float32)
    mean = jnp.where(kept, x, 0).sum(axis=(0, 1)) / count
    centred = jnp.where(kept, x - mean, 0)
    return mean, (centred * centred).sum(axis=(0, 1)) / count, count


class FeedForward(nn.Module):
    """fairseq's `FeedForwardModule`."""

    config: S2TConformerConfig
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        cfg = self.config
        dim, inner = cfg.encoder_embed_dim, cfg.encoder_ffn_embed_dim
        x = LayerNorm(dim, name="layer_norm")(x)
        x = activation(ACTIVATION)(Linear(dim, inner, dtype=self.dtype, name="w_1")(x))
        x = dropout(x, cfg.dropout, dropout_key(self))
        x = Linear(inner, dim, dtype=self.dtype, name="w_2")(x)
        return dropout(x, cfg.dropout, dropout_key(self))


class Pointwise(nn.Module):
    """torch's `Conv1d` of width 1 without bias; kernel [1, in, out]."""

    in_channels: int
    channels: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (1, self.in_channels, self.channels)
        kernel = self.param("kernel", uniform(self.in_channels**-0.5), shape)
        return linear(x, kernel[0], None, dtype=self.dtype)


class Depthwise(nn.Module):
    """torch's `Conv1d` with a group for each channel, without bias; kernel [K, 1, C]."""

    channels: int
    width: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param(
            "kernel", uniform(self.width**-0.5), (self.width, 1, self.channels))
        side, length = self.width // 2, x.shape[1]
        padded = jnp.pad(x.astype(jnp.float32), ((0, 0), (side, side), (0, 0)))
        taps = (padded[:, k : k + length] * kernel[k] for k in range(self.width))
        return functools.reduce(jnp.add, taps).astype(self.dtype)


class ConvolutionModule(nn.Module):
    """fairseq's: a gate, a convolution over time with a batch norm, and a projection."""

    config: S2TConformerConfig
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: jax.Array, seen: jax.Array
    ) -> tuple[jax.Array, Statistics | None]:
        cfg, dim = self.config, self.config.encoder_embed_dim
        x = LayerNorm(dim, name="layer_norm")(x)
        x = gated(Pointwise(dim, 2 * dim, self.dtype, name="pointwise_conv1")(x))
        x = jnp.where(seen[..., None], x, 0)
        x = Depthwise(dim, cfg.depthwise_conv_kernel_size, self.dtype, name="depthwise_conv")(x)
        x, found = BatchNorm(dim, name="batch_norm")(x, seen)
        x = Pointwise(dim, dim, self.dtype, name="pointwise_conv2")(activation(ACTIVATION)(x))
        return dropout(x, cfg.dropout, dropout_key(self)), found


class EspnetAttention(nn.Module):
    """ESPnet's multi-head attention, with distances between frames or rotations by their places
    if the configuration says so."""

    config: S2TConformerConfig
    dtype: DTypeLike

    def setup(self) -> None:
        cfg, dim = self.config, self.config.encoder_embed_dim
        for name in ("linear_q", "linear_k", "linear_v", "linear_out"):
            setattr(self, name, Linear(dim, dim, dtype=self.dtype))
        heads = cfg.encoder_attention_heads
        if cfg.rotates:
            self.rotary_emb = Rotation(heads, dim // heads)
        if cfg.pos_enc_type == "rel_pos":
            self.linear_pos = Linear(dim, dim, use_bias=False, dtype=self.dtype)
            for name in ("pos_bias_u", "pos_bias_v"):
                setattr(self, name, self.param(name, xavier_uniform(), (heads, dim // heads)))

    def __call__(
        self, x: jax.Array, mask: jax.Array, distances: jax.Array | None
    ) -> jax.Array:
        cfg = self.config
        # fairseq turns what is projected, not the projections.
        moved = self.rotary_emb(x) if cfg.rotates else x
        q, k, v = (self._split(y) for y in (
            self.linear_q(moved), self.linear_k(moved), self.linear_v(x)))
        scale, bias = q.shape[-1] ** -0.5, None
        if distances is not None:
            p = self._split(self.linear_pos(distances)[None])[0]  # [2T - 1, H, K]
            far = jnp.einsum("bthk,nhk->bhtn", (q + self.pos_bias_v.astype(q.dtype)) * scale, p,
                             preferred_element_type=jnp.float32)
            bias = by_distance(far)
            q = q + self.pos_bias_u.astype(q.dtype)
        out, _ = attend(q * scale, k, v, mask, bias=bias, dropout_rate=cfg.dropout,
                        key=dropout_key(self))
        return self.linear_out(out.reshape(x.shape))

    def _split(self, x: jax.Array) -> jax.Array:
        heads = self.config.encoder_attention_heads
        return x.reshape(*x.shape[:2], heads, x.shape[-1] // heads)


def by_distance(x: jax.Array) -> jax.Array:
    """[B, H, T, T] of `x` [B, H, T, 2T - 1], whose columns are distances from T - 1 down to
    1 - T: entry (i, j) is that of distance i - j."""
    rows, columns = x.shape[2:]
    # A row more to the right at each row: rows that are one column longer, read without breaks.
    x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (1, 0)))
    x = x.reshape(*x.shape[:2], columns + 1, rows)[:, :, 1:]
    return x.reshape(*x.shape[:2], rows, columns)[..., :rows]


@functools.lru_cache(maxsize=32)
def relative_sinusoids(length: int, dim: int) -> np.ndarray:
    """[2 * length - 1, dim] float32: distances from length - 1 down to 1 - length, a sine and a
    cosine of each frequency beside each other (fairseq's `RelPositionalEncoding`)."""
    exponent = np.arange(0, dim, 2, dtype=np.float32) * np.float32(-math.log(10000.0) / dim)
    frequency = np.exp(exponent.astype(np.float64)).astype(np.float32)
    distance = np.arange(length - 1, -length, -1, dtype=np.float32)
    angle = (distance[:, None] * frequency).astype(np.float64)
    table = np.zeros((2 * length - 1, dim), np.float32)
    table[:, 0::2], table[:, 1::2] = np.sin(angle), np.cos(angle)[:, : dim // 2]
    return table


def rotary_frequencies(size: int) -> np.ndarray:
    """[K / 2] float32: what pairs of a head's `size` K dimensions are turned by at each frame."""
    exponent = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    return (1.0 / np.float32(10000.0) ** exponent).astype(np.float32)


class Rotation(nn.Module):
    """Turns the two halves of each head's part against each other by the place of the frame (Su
    et al. 2021). Its frequencies are in fairseq's files, and no gradient reaches them."""

    heads: int
    size: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`x` [B, T, D], turned."""
        frequency = jax.lax.stop_gradient(self.param(
            "inv_freq", lambda key: jnp.asarray(rotary_frequencies(self.size))))
        angle = jnp.arange(x.shape[1], dtype=jnp.float32)[:, None] * frequency
        cos, sin = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]
        split = x.reshape(*x.shape[:2], self.heads, self.size).astype(jnp.float32)
        first, second = jnp.split(split, 2, -1)
        turned = jnp.concatenate(
            [first * cos - second * sin, second * cos + first * sin], axis=-1)
        return turned.reshape(x.shape).astype(x.dtype)


class ConformerLayer(Layer):
    """fairseq's `ConformerEncoderLayer`."""

    config: S2TConformerConfig
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: jax.Array, real: jax.Array, seen: jax.Array, distances: jax.Array | None,
    ) -> tuple[jax.Array, Statistics | None]:
        """States, and statistics in training.

        Args:
          real: [B, T] bool, frames that attention sees.
          seen: [B, T] bool, frames that convolutions see and batch norms count.
          distances: [2T - 1, D] or None.
        """
        cfg, dim = self.config, self.config.encoder_embed_dim
        x = x + 0.5 * FeedForward(cfg, self.dtype, name="ffn1")(x)
        y = LayerNorm(dim, name="self_attn_layer_norm")(x)
        mask = real[:, None, None, :]
        if cfg.attn_type == "espnet":
            y = EspnetAttention(cfg, self.dtype, name="self_attn")(y, mask, distances)
        else:
            y, _ = MultiheadAttention(
                dim, cfg.encoder_attention_heads, dropout=cfg.dropout, dtype=self.dtype,
                name="self_attn")(y, None, mask)
        x = x + dropout(y, cfg.dropout, dropout_key(self))
        y, found = ConvolutionModule(cfg, self.dtype, name="conv_module")(x, seen)
        x = x + y
        x = x + 0.5 * FeedForward(cfg, self.dtype, name="ffn2")(x)
        return LayerNorm(dim, name="final_layer_norm")(x), found
