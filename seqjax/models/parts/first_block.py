"""The first block of an extractor, as a CPU does it fastest: samples [B, N] in, [B, T, C] out.

It is a convolution over samples, a norm of each channel over the frames of a row, and a GELU. Its
arrays are by far the largest of a model of waveforms, while a frame is made of a few samples: so
frames are made anew, some at a time, wherever they are needed, and never leave the cache
(docs/decisions/0014). Letters beside the usual ones: N samples, T frames, C channels, F frames at
a time, K samples of a frame.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax.models.parts.convolutions import convolve
from seqjax.models.parts.gelu import gelu, slope

EPS = 1e-5
"""Of the norm, torch's default."""
_AT_ONCE = 640
"""Frames of all rows together that are made at a time, about."""


class _Scaled(NamedTuple):
    """The norm of a row's channels, as a factor and what is added; each [B, 1, C]."""

    mean: jax.Array
    inverse: jax.Array
    factor: jax.Array
    shift: jax.Array


def channel_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, counted: jax.Array | None
) -> jax.Array:
    """torch's `GroupNorm` with a group for each channel, in float32: over the frames of a row that
    are counted, [B] int32, the first ones (None: all of them, whatever is padding)."""
    wide = x.astype(jnp.float32)
    seen = None if counted is None else jnp.arange(x.shape[1]) < counted[:, None]
    centred = wide - _frame_mean(wide, seen)
    inverse = jax.lax.rsqrt(_frame_mean(centred * centred, seen) + EPS)
    return (centred * inverse * scale + bias).astype(x.dtype)


def _frame_mean(x: jax.Array, counted: jax.Array | None) -> jax.Array:
    """[B, 1, C] mean of [B, T, C] over the frames that are counted."""
    if counted is None:
        return x.mean(axis=1, keepdims=True)
    counted = counted[..., None]
    total = jnp.where(counted, x, 0).sum(axis=1, keepdims=True)
    return total / jnp.maximum(counted.sum(axis=1, keepdims=True), 1)


def plain(
    samples: jax.Array, kernel: jax.Array, scale: jax.Array, bias: jax.Array,
    counted: jax.Array | None, *, stride: int,
) -> jax.Array:
    """The block as it is defined: samples [B, N] with a kernel [K, 1, C], a norm with `scale` and
    `bias` [C] by the statistics of the first `counted` [B] frames, and a GELU."""
    x = convolve(samples[..., None], kernel, None, stride=stride, dtype=samples.dtype)
    return gelu(channel_norm(x, scale, bias, counted))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def in_pieces(
    samples: jax.Array, weights: Mapping[str, jax.Array], counted: jax.Array, stride: int
) -> jax.Array:
    """`plain` in float32, some frames at a time.

    Args:
      weights: its `kernel`, `scale` and `bias`.
    """
    return _forward(samples, weights, counted, stride)[0]


class _Pieces:
    """Frames of the convolution, some at a time: numbers of pieces in, [B, F, C] out. The last
    piece begins earlier where they do not come out even, and has frames that were there before."""

    def __init__(self, samples: jax.Array, kernel: jax.Array, stride: int) -> None:
        self.samples, self.kernel, self.stride = samples, kernel, stride
        self.frames = (samples.shape[1] - kernel.shape[0]) // stride + 1
        most = min(max(16, _AT_ONCE // samples.shape[0]), self.frames)
        self.count = -(-self.frames // most)
        self.size = -(-self.frames // self.count)

    def start(self, i: jax.Array) -> jax.Array:
        """The first frame of a piece."""
        return jnp.minimum(i * self.size, self.frames - self.size)

    def fresh(self, i: jax.Array, counted: jax.Array | None = None) -> jax.Array:
        """Which frames [B or 1, F, 1] of a piece were not there before, and are counted."""
        place = self.start(i) + jnp.arange(self.size)
        fresh = (place >= i * self.size)[None]
        return (fresh if counted is None else fresh & (place < counted[:, None]))[..., None]

    def seen(self, i: jax.Array) -> jax.Array:
        """[B, N']: the samples of a piece."""
        return jax.lax.dynamic_slice_in_dim(
            self.samples, self.start(i) * self.stride,
            (self.size - 1) * self.stride + self.kernel.shape[0], axis=1)

    def __call__(self, i: jax.Array) -> jax.Array:
        """[B, F, C]: the convolution."""
        return convolve(self.seen(i)[..., None], self.kernel, None, stride=self.stride)


def _forward(samples, weights, counted, stride):
    pieces = _Pieces(samples, weights["kernel"], stride)
    norm = _norm(pieces, weights["scale"], weights["bias"], counted)
    # Whole: a loop that fills an array has it filled with zeros before.
    x = convolve(samples[..., None], weights["kernel"], None, stride=stride)
    return gelu(x * norm.factor + norm.shift), (samples, weights, counted, norm)


def _norm(
    pieces: _Pieces, scale: jax.Array, bias: jax.Array, counted: jax.Array
) -> _Scaled:
    """The statistics of pieces are joined as they come (Chan, Golub and LeVeque 1979)."""

    def join(i: jax.Array, found: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        mean, square = found
        x, seen = pieces(i), pieces.fresh(i, counted)
        before = jnp.minimum(counted, i * pieces.size)[:, None, None]
        new = seen.sum(axis=1, keepdims=True)
        own = jnp.where(seen, x, 0).sum(axis=1, keepdims=True) / jnp.maximum(new, 1)
        spread = jnp.where(seen, jnp.square(x - own), 0).sum(axis=1, keepdims=True)
        share = new / jnp.maximum(before + new, 1)
        apart = own - mean
        return mean + apart * share, square + spread + jnp.square(apart) * share * before

    none = jnp.zeros((counted.shape[0], 1, scale.shape[0]), jnp.float32)
    mean, square = jax.lax.fori_loop(0, pieces.count, join, (none, none))
    inverse = jax.lax.rsqrt(square / jnp.maximum(counted, 1)[:, None, None] + EPS)
    factor = inverse * scale
    return _Scaled(mean, inverse, factor, bias - mean * factor)


def _backward(stride, saved, dy):
    """With g the gradient of what the GELU reads, the gradient of a frame h of the convolution is
    factor * (g - [h is counted] * (sum g + (h - mean) * inverse**2 * sum g (h - mean)) / counted).
    h is the product of its samples w with the kernel, so that all that the kernel's gradient
    needs are sums of g, of w g and, over the frames that are counted, of w and w w'."""
    samples, weights, counted, norm = saved
    kernel = weights["kernel"]
    width, _, channels = kernel.shape
    pieces = _Pieces(samples, kernel, stride)

    def add(i: jax.Array, total: jax.Array) -> jax.Array:
        given = jax.lax.dynamic_slice_in_dim(dy, pieces.start(i), pieces.size, axis=1)
        g = given * slope(pieces(i) * norm.factor + norm.shift)
        seen = _windows(pieces.seen(i), width, stride, pieces.size)
        seen = jnp.pad(seen, ((0, 0), (0, 0), (0, 1)), constant_values=1.0)
        return total + jnp.einsum("bfk,bfc->bkc", jnp.where(pieces.fresh(i), seen, 0), g)

    none = jnp.zeros((samples.shape[0], width + 1, channels), jnp.float32)
    total = jax.lax.fori_loop(0, pieces.count, add, none)
    weighted, alone = total[:, :width], total[:, width:]  # [B, K, C], [B, 1, C]
    count = jnp.maximum(counted, 1)[:, None, None]
    seen = (jnp.arange(pieces.frames) < counted[:, None])[..., None]
    windows = jnp.where(seen, _windows(samples, width, stride, pieces.frames), 0)
    centre = windows.sum(axis=1, keepdims=True) / count
    windows = jnp.where(seen, windows - centre, 0)
    weighted = weighted - centre.swapaxes(1, 2) * alone
    both = jnp.einsum("btk,btl->bkl", windows, windows)
    along = (kernel[:, 0] * weighted).sum(axis=1, keepdims=True)  # sum g (h - mean)
    pulled = jnp.einsum("bkl,lc->bkc", both, kernel[:, 0]) * norm.inverse**2 * along / count
    dkernel = (norm.factor * (weighted - pulled)).sum(axis=0)[:, None]
    dscale, dbias = (norm.inverse * along).sum(axis=(0, 1)), alone.sum(axis=(0, 1))
    # Nobody asks for that of samples, and then it is not computed.
    dsamples = jax.vjp(
        lambda s: plain(s, **weights, counted=counted, stride=stride), samples)[1](dy)[0]
    return dsamples, {"kernel": dkernel, "scale": dscale, "bias": dbias}, None


def _windows(samples: jax.Array, width: int, stride: int, frames: int) -> jax.Array:
    """[B, F, K]: the samples of each frame."""
    last = (frames - 1) * stride + 1
    parts: list[Any] = [samples[:, k:k + last:stride] for k in range(width)]
    return jnp.stack(parts, axis=-1)


in_pieces.defvjp(_forward, _backward)
