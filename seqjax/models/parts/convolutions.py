"""Convolutions over frames: [B, T, in] with a kernel [K, in / groups, out] in, [B, T', out] out.

Results are XLA's everywhere. Gradients on a CPU are matrix products that are written out here
(docs/decisions/0014): XLA's own take up to twenty times as long there. Letters beside the usual
ones: T frames, C channels in, G groups.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from seqjax.models.parts.backend import on_cpu
from seqjax.models.parts.initializers import Initializer, uniform

CHANNELS_LAST = ("NWC", "WIO", "NWC")
_TAPS = 8
"""Taps of a kernel of groups that are put side by side."""


class Convolution(nn.Module):
    """torch's `Conv1d` over frames [B, T, C]; kernel [K, in / groups, out]."""

    in_channels: int
    channels: int
    width: int
    bias: bool = True
    stride: int = 1
    padding: int = 0
    groups: int = 1
    kernel_init: Initializer | None = None
    """None: torch's default."""
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        fan_in = self.width * self.in_channels // self.groups
        self.kernel = self.param(
            "kernel", self.kernel_init or uniform(fan_in**-0.5),
            (self.width, self.in_channels // self.groups, self.channels))
        if self.bias:
            self.shift = self.param("bias", uniform(fan_in**-0.5), (self.channels,))

    @property
    def plain(self) -> bool:
        """Whether it is a product with the kernel in float32, and nothing else."""
        return not self.bias and jnp.dtype(self.dtype) == jnp.float32

    def __call__(self, x: jax.Array, *, folded: bool = False) -> jax.Array:
        """[B, T', out] for `x` [B, T, in].

        Args:
          folded: by `fold`, where `folds` says that one can.
        """
        shift = self.shift if self.bias else None
        if folded:
            y: Any = fold(x.astype(self.dtype), self.kernel.astype(self.dtype), self.stride)
            return y if shift is None else y + shift.astype(self.dtype)
        return convolve(
            x, self.kernel, shift, stride=self.stride, padding=self.padding, groups=self.groups,
            dtype=self.dtype)


def convolve(
    x: jax.Array, kernel: jax.Array, bias: jax.Array | None, *, stride: int = 1,
    padding: int = 0, groups: int = 1, dtype: DTypeLike = jnp.float32,
) -> jax.Array:
    """`x` [B, T, in] with `kernel` [K, in / groups, out], in `dtype`."""
    y: Any = _grouped(x.astype(dtype), kernel.astype(dtype), stride, padding, groups)
    return y if bias is None else y + bias.astype(dtype)


def _convolve(
    x: jax.Array, kernel: jax.Array, stride: int, padding: int | tuple[int, int], groups: int
) -> jax.Array:
    sides = (padding, padding) if isinstance(padding, int) else padding
    return jax.lax.conv_general_dilated(
        x, kernel, (stride,), [sides], dimension_numbers=CHANNELS_LAST,
        feature_group_count=groups)


# ---- groups ----


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _grouped(
    x: jax.Array, kernel: jax.Array, stride: int, padding: int, groups: int
) -> jax.Array:
    """`_convolve`, with the gradient of a kernel of groups taken group by group.

    XLA (of jax 0.10) multiplies it by the size of every mesh axis along which rows are not
    split; that of a convolution without groups is right (findings/grouped_convolution.sh).
    """
    return _convolve(x, kernel, stride, padding, groups)


def _grouped_forward(x, kernel, stride, padding, groups):
    return _convolve(x, kernel, stride, padding, groups), (x, kernel)


def _grouped_backward(stride, padding, groups, saved, dy):
    x, kernel = saved
    if groups > 1 and stride == 1 and on_cpu():
        return by_products(x, kernel, dy, padding=padding, groups=groups)
    dx = jax.vjp(lambda x: _convolve(x, kernel, stride, padding, groups), x)[1](dy)[0]
    parts = zip(*(jnp.split(a, groups, axis=-1) for a in (x, kernel, dy)), strict=True)
    own = [jax.vjp(lambda k, x=x: _convolve(x, k, stride, padding, 1), kernel)[1](dy)[0]
           for x, kernel, dy in parts]
    return dx, jnp.concatenate(own, axis=-1)


_grouped.defvjp(_grouped_forward, _grouped_backward)


def by_products(
    x: jax.Array, kernel: jax.Array, dy: jax.Array, *, padding: int, groups: int
) -> tuple[jax.Array, jax.Array]:
    """The gradients of `x` and `kernel` for that of a convolution with groups and stride 1.

    A group's channels are few, so that a product of the frames that a tap sees with `dy` would
    have few columns. Here every row of the one side has 8 neighbouring frames, every row of the
    other what `dy` is 8, 16, ... frames before: all taps are one product. One group after the
    other, whose arrays stay in the cache.
    """
    width, frames = kernel.shape[0], x.shape[1]
    side = min(_TAPS, width)
    extra = -width % side
    kernel = jnp.pad(kernel, ((0, extra), (0, 0), (0, 0)))
    blocks, rows = (width + extra) // side, frames + side - 1
    # Row r has frames r - side + 1 to r; with tap `block * side` it is added to frame r + start.
    starts = [padding - side + 1 - block * side for block in range(blocks)]
    before = max(0, -starts[-1])
    behind = max(0, starts[0] + rows - dy.shape[1])

    def one(group: jax.Array, found: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        inputs, taps, given = _of_group(group, groups, x, kernel, dy)
        channels, out = taps.shape[1:]
        inputs = jnp.pad(inputs, ((0, 0), (side - 1, side - 1), (0, 0)))
        near = jnp.concatenate([inputs[:, i:i + rows] for i in range(side)], -1)
        given = jnp.pad(given, ((0, 0), (before, behind), (0, 0)))
        far = jnp.concatenate([given[:, s + before:s + before + rows] for s in starts], -1)
        taps = taps.reshape(blocks, side * channels, out).swapaxes(0, 1)
        dtaps = jnp.einsum("brx,bry->xy", near, far)
        dtaps = dtaps.reshape(side * channels, blocks, out).swapaxes(0, 1)
        dnear = jnp.einsum("bry,xy->brx", far, taps.reshape(side * channels, -1))
        dnear = dnear.reshape(*dnear.shape[:2], side, channels)
        dx: Any = sum(dnear[:, side - 1 - i:side - 1 - i + frames, i] for i in range(side))
        return (jax.lax.dynamic_update_slice_in_dim(found[0], dx, group * channels, axis=2),
                jax.lax.dynamic_update_slice_in_dim(
                    found[1], dtaps.reshape(-1, channels, out), group * out, axis=2))

    dx, dk = jax.lax.fori_loop(0, groups, one, (jnp.zeros_like(x), jnp.zeros_like(kernel)))
    return dx, dk[:width]


def _of_group(group: jax.Array, groups: int, *arrays: jax.Array) -> list[jax.Array]:
    """The part of each array's last axis that is a group's; of a kernel, whose outputs alone are
    grouped, too."""
    return [jax.lax.dynamic_slice_in_dim(
        a, group * (a.shape[-1] // groups), a.shape[-1] // groups, axis=a.ndim - 1)
        for a in arrays]


# ---- strides ----


def folds(width: int, stride: int) -> bool:
    """Whether `fold` may be used on a convolution."""
    return stride <= width <= 2 * stride


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def fold(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """A convolution without groups whose outputs are as many as `x` has whole strides: the last
    ones see zeros behind `x`.

    With `stride` frames in a row, `x` has as many rows as there are outputs, each of which is
    made of two rows. So both gradients are products of whole arrays as they lie in memory.

    Args:
      x: [B, T * stride, C].
      kernel: [K, C, out], K between `stride` and twice that.

    Returns:
      [B, T, out].
    """
    return _convolve(x, kernel, stride, (0, kernel.shape[0] - stride), 1)


def _fold_forward(x, kernel, stride):
    return fold(x, kernel, stride), (x, kernel)


def _fold_backward(stride, saved, dy):
    x, kernel = saved
    width, channels, out = kernel.shape
    over = width - stride
    rows = x.reshape(x.shape[0], -1, stride * channels)
    # [out, K * C] and not [K * C, out]: a CPU is faster at it.
    dk = jnp.einsum("bto,btx->ox", dy, rows)
    if over:
        following = jnp.pad(rows[:, 1:, :over * channels], ((0, 0), (0, 1), (0, 0)))
        dk = jnp.concatenate([dk, jnp.einsum("bto,btx->ox", dy, following)], axis=1)
    dk = dk.reshape(out, width, channels).transpose(1, 2, 0)

    def taps(first: int, last: int) -> jax.Array:
        return kernel[first:last].reshape(-1, out).T  # [out, taps * C]

    parts = []
    if over:  # the first frames of a row are seen by the output before as well
        both = jnp.stack([taps(stride, width), taps(0, over)])
        parts.append(_convolve(dy, both, 1, (1, 0), 1))
    if over < stride:
        parts.append(dy @ taps(over, stride))
    if 2 * over == stride:  # chosen where they are read, and not written side by side before
        first = (jnp.arange(2) == 0)[:, None]
        seen_twice, others = (part[:, :, None] for part in parts)
        return jnp.where(first, seen_twice, others).reshape(x.shape), dk
    return jnp.concatenate(parts, axis=-1).reshape(x.shape), dk


fold.defvjp(_fold_forward, _fold_backward)
