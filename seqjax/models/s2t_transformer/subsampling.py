"""Frames of features to fewer, wider ones, by convolutions of stride 2; and how many there are.

Features [B, S, F] and their mask come in; states [B, T, D], their mask, and how far each row
goes come out.

fairseq's convolutions take the padding of a batch for frames of zeros, up to the end of its
longest row, and know of nothing behind that. So do these, however much more padding there is:
each row has an extent, that of the longest one, behind which frames are kept at zero. A row whose
extent is its own length comes out as it does alone (`Source.isolated`).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax.typing import DTypeLike

from seqjax.models.parts.convolutions import Convolution
from seqjax.models.parts.initializers import uniform
from seqjax.models.parts.layers import Linear, gated
from seqjax.models.protocol import Source
from seqjax.models.s2t_transformer.config import SubsamplerConfig


@struct.dataclass
class Frames:
    """Frames and how many of each row count."""

    values: jax.Array
    """[B, T, ...]."""
    lengths: jax.Array
    """[B] int32: real ones."""
    extents: jax.Array
    """[B] int32: those that convolutions see, real or not; 0 in a row without real ones."""

    @property
    def real(self) -> jax.Array:
        """[B, T] bool."""
        return jnp.arange(self.values.shape[1]) < self.lengths[:, None]

    @property
    def seen(self) -> jax.Array:
        """[B, T] bool: within the extents."""
        return jnp.arange(self.values.shape[1]) < self.extents[:, None]


def frames_of(source: Source) -> Frames:
    """The frames of a source, padding's zero."""
    lengths = source.mask.sum(axis=1, dtype=jnp.int32)
    extents = lengths
    if not source.isolated:
        extents = jnp.where(lengths > 0, lengths.max(initial=0), 0)
    values = jnp.where(source.mask[..., None], source.values, 0)
    return Frames(values=values, lengths=lengths, extents=extents)


def halved(count: jax.Array) -> jax.Array:
    """Frames that a convolution of stride 2, padded so that all are seen, makes of some."""
    return (count + 1) // 2


def cut(frames: Frames) -> Frames:
    """With zeros behind each row's extent."""
    seen = frames.seen.reshape(*frames.seen.shape, *(1,) * (frames.values.ndim - 2))
    return dataclasses.replace(frames, values=jnp.where(seen, frames.values, 0))


class Subsampler(nn.Module):
    """fairseq's `Conv1dSubsampler`: convolutions over time with gates behind them."""

    config: SubsamplerConfig
    width: int
    """Of what comes out."""
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, frames: Frames) -> Frames:
        cfg = self.config
        sizes, channels = cfg.kernel_sizes, cfg.frame_width
        for i, size in enumerate(sizes):
            out = 2 * self.width if i == len(sizes) - 1 else cfg.conv_channels
            x = Convolution(
                channels, out, size, stride=2, padding=size // 2, dtype=self.dtype,
                name=f"conv_layers_{i}")(frames.values)
            channels = out // 2
            frames = cut(Frames(values=gated(x), lengths=halved(frames.lengths),
                                extents=halved(frames.extents)))
        return frames


class PlaneSubsampler(nn.Module):
    """fairseq's `Conv2dSubsampler`: two convolutions over time and frequencies."""

    config: SubsamplerConfig
    width: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, frames: Frames) -> Frames:
        cfg, channels = self.config, self.config.conv_out_channels
        before, frequencies = frames, cfg.input_feat_per_channel
        frames = dataclasses.replace(frames, values=frames.values[..., None])
        for i in range(2):
            x = PlaneConvolution(
                frames.values.shape[-1], channels, self.dtype, name=f"conv_{2 * i}")(frames.values)
            frequencies = (frequencies + 1) // 2
            frames = cut(Frames(values=jax.nn.relu(x), lengths=frames.lengths,
                                extents=halved(frames.extents)))
        x = frames.values.swapaxes(2, 3)  # fairseq has channels in front of frequencies
        x = x.reshape(*x.shape[:2], channels * frequencies)
        x = Linear(x.shape[-1], self.width, dtype=self.dtype, name="out")(x)
        return dataclasses.replace(frames, values=x, lengths=_shares(before, frames.extents))


def _shares(before: Frames, made: jax.Array) -> jax.Array:
    """Real frames [B] of those made: fairseq divides lengths by the rounded ratio of both numbers
    of frames of the whole batch, rounding up."""
    ratio = (2 * before.extents + made) // jnp.maximum(2 * made, 1)
    return jnp.minimum(-(-before.lengths // jnp.maximum(ratio, 1)), made)


class PlaneConvolution(nn.Module):
    """torch's `Conv2d` with kernels of 3 by 3, stride 2 and padding 1, over [B, T, F, C]; kernel
    [3 of frequencies, 3 of time, in, out]."""

    in_channels: int
    channels: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        begun = uniform((9 * self.in_channels) ** -0.5)
        kernel = self.param("kernel", begun, (3, 3, self.in_channels, self.channels))
        bias = self.param("bias", begun, (self.channels,))
        y = jax.lax.conv_general_dilated(
            x.astype(self.dtype), kernel.astype(self.dtype), (2, 2), [(1, 1), (1, 1)],
            dimension_numbers=("NHWC", "WHIO", "NHWC"))
        return y + bias.astype(self.dtype)
