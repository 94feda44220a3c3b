"""Arithmetic of lightweight and dynamic convolutions: weights shared by groups of channels.

A convolution is a product with a band matrix, which is how accelerators do it fast; long
rows are cut into blocks, so that cost stays linear.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.models.parts.attention import MASKED
from seqjax.models.parts.layers import gated, project
from seqjax.models.protocol import Params

_BLOCK = 128
"""Positions of a block; rows of up to twice as many are one band."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frame:
    """Where the kernels of a stack of layers lie in one window that holds them all.

    Layers of different kernel sizes run as one stack: their weights are placed in a frame as
    wide as the widest, with taps that are not theirs masked out. Parameters keep their sizes.
    """

    sizes: tuple[int, ...]
    """Kernel size of each layer."""
    lefts: tuple[int, ...]
    """Taps in front of the position itself, of each layer."""

    @property
    def left(self) -> int:
        """Taps of the frame in front of the position itself."""
        return max(self.lefts)

    @property
    def width(self) -> int:
        """Taps of the frame."""
        right = max(size - left for size, left in zip(self.sizes, self.lefts, strict=True))
        return self.left + right

    def valid(self) -> np.ndarray:
        """[L, width] bool: the taps that a layer has."""
        result = np.zeros((len(self.sizes), self.width), bool)
        for row, size, left in zip(result, self.sizes, self.lefts, strict=True):
            row[self.left - left : self.left - left + size] = True
        return result

    def place(self, weights: Sequence[jax.Array]) -> jax.Array:
        """Weights [..., K_i] of every layer as [L, ..., width]."""
        placed = []
        for weight, size, left in zip(weights, self.sizes, self.lefts, strict=True):
            before = self.left - left
            around = [(0, 0)] * (weight.ndim - 1) + [(before, self.width - before - size)]
            placed.append(jnp.pad(weight, around))
        return jnp.stack(placed)


def causal_frame(sizes: tuple[int, ...]) -> Frame:
    """Windows that end with the position itself."""
    return Frame(sizes=sizes, lefts=tuple(size - 1 for size in sizes))


def centred_frame(sizes: tuple[int, ...]) -> Frame:
    """Windows around the position; even ones have their extra tap behind it."""
    return Frame(sizes=sizes, lefts=tuple((size - 1) // 2 for size in sizes))


def normalise(taps: jax.Array, valid: jax.Array | None, *, softmax: bool) -> jax.Array:
    """Weights of a convolution from parameters [..., K], in float32.

    Args:
      valid: [K] bool (or more axes), the taps that exist; None: all.
      softmax: make them positive and sum to one.
    """
    taps = taps.astype(jnp.float32)
    if softmax:
        return jax.nn.softmax(taps if valid is None else jnp.where(valid, taps, MASKED), axis=-1)
    return taps if valid is None else jnp.where(valid, taps, 0.0)


def taps(
    weights: jax.Array, x: jax.Array, valid: jax.Array | None, *, softmax: bool
) -> jax.Array:
    """The normalised weights of every position of x [B, T, C], float32.

    Args:
      weights: [H, K], the same everywhere, or [C, H, K] from which inputs make them.
      valid, softmax: see `normalise`.

    Returns:
      [1, 1, H, K], or [B, T, H, K].
    """
    if weights.ndim == 2:
        return normalise(weights[None, None], valid, softmax=softmax)
    made = jnp.einsum("btc,chk->bthk", x, weights.astype(x.dtype))
    return normalise(made, valid, softmax=softmax)


def block(
    w: Params, x: jax.Array, convolution: Callable[[jax.Array], jax.Array], *, glu: bool
) -> jax.Array:
    """A convolution between two projections, of whole rows or of single steps [..., D].

    Args:
      w: linear1 and linear2.
      convolution: of channels [..., C].
      glu: whether channels are gated.
    """
    x = project(w["linear1"], x)
    return project(w["linear2"], convolution(gated(x) if glu else x))


def same_segment(segments: jax.Array, *, width: int, left: int) -> jax.Array:
    """[B, T, width] bool: the taps of a window that are of the position's own sentence."""
    length = segments.shape[1]
    padded = jnp.pad(segments, ((0, 0), (left, width - 1 - left)), constant_values=-1)
    return jnp.stack([padded[:, k : k + length] == segments for k in range(width)], axis=-1)


def convolve(x: jax.Array, taps: jax.Array, *, left: int) -> jax.Array:
    """Every position's weighted sum of its window.

    Args:
      x: [B, T, H, R], channels in H groups.
      taps: [B or 1, T, H, K]: weight k is for position t - left + k.
      left: taps in front of the position itself.

    Returns:
      [B, T, H, R] in the type of `x`.
    """
    length, width = x.shape[1], taps.shape[-1]
    taps = taps.astype(x.dtype).swapaxes(1, 2)  # [B or 1, H, T, K]
    if length <= 2 * _BLOCK:
        band = _band(taps)[..., left : left + length]
        return jnp.matmul(band, x.swapaxes(1, 2)).swapaxes(1, 2)
    block = max(_BLOCK, width - 1)
    count = -(-length // block)
    extra = count * block - length
    padded = jnp.pad(x.swapaxes(1, 2), (
        (0, 0), (0, 0), (left, extra + width - 1 - left), (0, 0)))
    seen = jnp.stack(
        [padded[:, :, i * block : (i + 1) * block + width - 1] for i in range(count)], axis=2
    )  # [B, H, blocks, block + K - 1, R]
    taps = jnp.pad(taps, ((0, 0), (0, 0), (0, extra), (0, 0)))
    bands = _band(taps.reshape(*taps.shape[:2], count, block, width))
    y = jnp.matmul(bands, seen).reshape(*padded.shape[:2], count * block, x.shape[-1])
    return y[:, :, :length].swapaxes(1, 2)


def _band(taps: jax.Array) -> jax.Array:
    """[..., S, K] as [..., S, S + K - 1]: row t holds its taps from column t on."""
    *rest, rows, width = taps.shape
    wide = jnp.pad(taps, [(0, 0)] * (taps.ndim - 1) + [(0, rows)])
    flat = wide.reshape(*rest, rows * (rows + width))[..., : rows * (rows + width - 1)]
    return flat.reshape(*rest, rows, rows + width - 1)
