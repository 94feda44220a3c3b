"""What models of waveforms share: positions by convolution, masks, codebooks.

Features [B, T, C] come in; positions, masked features, quantized vectors and what these say of
their codebooks go out. Linen modules here own parameters; nothing knows a whole model.
Letters beside the usual ones: T frames, C channels, G groups of a codebook.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jax.typing import DTypeLike

from seqjax.models.parts.convolutions import Convolution, convolve
from seqjax.models.parts.gelu import gelu
from seqjax.models.parts.layers import Linear

EPS = 1e-5
"""Of every norm, torch's default. (What a waveform is divided by before it gets here has
another: fairseq adds 1e-5 to the variance, Hugging Face 1e-7.)"""


Array = jax.Array | np.ndarray
"""What is drawn on the host, before or after it is on a device."""


# ---- gradients ----


def scale_gradient(x: jax.Array, factor: float) -> jax.Array:
    """`x`, whose gradient is multiplied by `factor` (0: none flows)."""
    if factor == 1.0:
        return x
    stopped = jax.lax.stop_gradient(x)
    return stopped if factor == 0.0 else _scaled(x, factor)


def scale_gradient_by(x: jax.Array, factor: jax.Array) -> jax.Array:
    """`x`, whose gradient is multiplied by a factor that is computed."""
    return _scaled(x, factor)


@jax.custom_vjp
def _scaled(x: jax.Array, factor: float) -> jax.Array:
    return x


_scaled.defvjp(lambda x, factor: (x, factor), lambda factor, dy: (dy * factor, None))


# ---- positions ----


class PositionalConvolution(nn.Module):
    """A grouped convolution over frames in place of position embeddings, with weight norm.

    Its weight is `weight_g` [K, 1, 1] times `weight_v` [K, D / groups, D] divided by the norm of
    each of its K taps (torch's `weight_norm` with dim 2).
    """

    dim: int
    width: int
    groups: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.width, self.dim // self.groups, self.dim)
        begun = nn.initializers.normal((4.0 / (self.width * self.dim)) ** 0.5)
        v = self.param("weight_v", begun, shape)
        g = self.param("weight_g", lambda key: _tap_norms(v))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.dim,))
        kernel = v * (g / _tap_norms(v))
        return gelu(_same(x, kernel, bias, groups=self.groups, dtype=self.dtype))


class PositionalConvolutions(nn.Module):
    """Several smaller ones, each with a norm without parameters in place of weight norm."""

    dim: int
    width: int
    groups: int
    depth: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, real: jax.Array | None = None) -> jax.Array:
        """As many frames as `x` [B, T, D] has.

        Args:
          real: [B, T] bool, frames behind which every convolution reads zeros, as if the row
            ended there (None: it reads what the one before made of them).
        """
        width = max(3, self.width // self.depth)
        for i in range(self.depth):
            x = Convolution(
                self.dim, self.dim, width, groups=self.groups, padding=width // 2,
                dtype=self.dtype, name=f"convs_{i}")(x)
            x = gelu(_normalised(_without_last(x, width)))
            x = x if real is None else jnp.where(real[..., None], x, 0)
        return x


def _tap_norms(v: jax.Array) -> jax.Array:
    return jnp.sqrt((v * v).sum(axis=(1, 2), keepdims=True))


def _same(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, *, groups: int, dtype: DTypeLike
) -> jax.Array:
    """As many frames as come in."""
    width = kernel.shape[0]
    y = convolve(x, kernel, bias, padding=width // 2, groups=groups, dtype=dtype)
    return _without_last(y, width)


def _without_last(x: jax.Array, width: int) -> jax.Array:
    """fairseq's `SamePad`: an even width has made a frame too many."""
    return x[:, :-1] if width % 2 == 0 else x


def _normalised(x: jax.Array) -> jax.Array:
    wide = x.astype(jnp.float32)
    centred = wide - wide.mean(-1, keepdims=True)
    inverse = jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + EPS)
    return (centred * inverse).astype(x.dtype)


# ---- masks ----


@struct.dataclass
class Drawn:
    """What is drawn for a batch, by a model's `draw`, and given to the model."""

    mask: Array | None = None
    """[B, T] bool: the masked frames. At least as many are in a row as are compared (M); where
    a row has fewer, the rest of its negatives count for nothing."""
    negatives: Array | None = None
    """[B, M * K] int32, M major: rows of the flat list of targets, B * M masked frames (all B * T
    frames with `negatives_from_everywhere`), K for each masked frame in its row's order: those
    of the same row and those of any row together, as fairseq's `neg_idxs`."""
    channels: Array | None = None
    """[B, D] bool: channels that are 0 in a row."""
    codebook_negatives: Array | None = None
    """[B, M, codebook_negatives] int32: numbers of combinations of entries."""


def apply_masks(
    x: jax.Array, mask_emb: jax.Array, *, frames: Array | None = None,
    channels: Array | None = None, channels_first: bool = False,
) -> jax.Array:
    """`x` [B, T, D] with masked frames and channels.

    Args:
      mask_emb: [D], what masked frames become.
      frames: [B, T] bool (None: none).
      channels: [B, D] bool, which are 0 in every frame of a row (None: none).
      channels_first: the masked frames then have all channels.
    """
    if channels is not None and channels_first:
        x = jnp.where(channels[:, None], 0, x)
    if frames is not None:
        x = jnp.where(frames[..., None], mask_emb.astype(x.dtype), x)
    if channels is not None and not channels_first:
        x = jnp.where(channels[:, None], 0, x)
    return x


def masked_positions(mask: Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Where the masked frames of each row are, in their order.

    Args:
      mask: [B, T] bool.
      count: M, how many of a row are returned at most.

    Returns:
      Positions [B, M] int32 and which of these are masked frames, [B, M] bool (a row may have
      fewer than M).
    """
    order = jnp.argsort(~mask, axis=1, stable=True)[:, :count]
    return order, jnp.take_along_axis(jnp.asarray(mask), order, axis=1)


def unit(x: jax.Array) -> jax.Array:
    """`x` [..., C] in float32, divided by its length or by 1e-8: what cosines are made of."""
    wide = x.astype(jnp.float32)
    return wide * jax.lax.rsqrt(jnp.maximum((wide * wide).sum(-1, keepdims=True), 1e-16))


# ---- codebooks ----


@struct.dataclass
class Quantized:
    """Quantized vectors and what their choice says of the codebook."""

    vectors: jax.Array
    """[B, T, vq_dim]."""
    codes: jax.Array
    """[B, T, G] int32: the likeliest entry of each group; in training, the drawn one."""
    prob_perplexity: jax.Array
    """Of the mean of the frames' probabilities, summed over groups: how many entries are in
    use. It has a gradient."""
    code_perplexity: jax.Array
    """Of the likeliest entries, summed over groups."""
    temp: jax.Array
    """Temperature of the Gumbel softmax at this update."""


class GumbelVectorQuantizer(nn.Module):
    """fairseq's: every group chooses one of its entries; those of a frame are joined."""

    dim: int
    """Width of what is quantized."""
    entries: int
    """V, of each group."""
    groups: int
    """G."""
    vq_dim: int
    """Width of the joined entries."""
    temp: tuple[float, float, float]
    """First and last temperature, and the factor of each update."""
    depth: int = 1
    """Linear layers that score entries."""
    factor: int = 3
    """Those but the last are this many times as wide as `dim`."""
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        out = self.groups * self.entries
        inner = self.dim * self.factor
        widths = [self.dim, *[inner] * (self.depth - 1)]
        for i, width in enumerate(widths[:-1]):
            setattr(self, f"weight_proj_{i}", Linear(width, inner, dtype=self.dtype))
        if self.depth == 1:
            last = Linear(
                self.dim, out, kernel_init=nn.initializers.normal(1.0),
                bias_init=nn.initializers.zeros_init(), dtype=self.dtype)
        else:
            last = Linear(inner, out, dtype=self.dtype)
        setattr(self, self._last, last)
        self.vars = self.param(
            "vars", nn.initializers.uniform(1.0), (1, out, self.vq_dim // self.groups))

    def __call__(
        self, x: jax.Array, real: jax.Array | None = None, *,
        rng: jax.Array | None = None, update: jax.Array | int | None = None,
    ) -> Quantized:
        """Quantizes `x` [B, T, dim].

        Args:
          real: [B, T] bool, which frames the perplexities are of (None: all).
          rng: for the Gumbel noise of training; None chooses the likeliest entries.
          update: updates done so far, for the temperature (None: 0).
        """
        for i in range(self.depth - 1):
            x = gelu(getattr(self, f"weight_proj_{i}")(x))
        shape = (*x.shape[:-1], self.groups, self.entries)
        logits = getattr(self, self._last)(x).astype(jnp.float32).reshape(shape)  # [B, T, G, V]
        likeliest = logits.argmax(axis=-1)
        temp = temperature(self.temp, update)
        probs = _mean(jax.nn.softmax(logits), real)
        used = _mean(jax.nn.one_hot(likeliest, self.entries), real)
        if rng is None:
            codes, weights = likeliest, jax.nn.one_hot(likeliest, self.entries)
        else:
            noisy = (logits + jax.random.gumbel(rng, logits.shape)) / temp
            codes, soft = noisy.argmax(axis=-1), jax.nn.softmax(noisy)
            # The value is the drawn entry's, the gradient that of the softmax.
            hard = jax.nn.one_hot(codes, self.entries)
            weights = soft + jax.lax.stop_gradient(hard - soft)
        return Quantized(
            vectors=self._joined(weights), codes=codes.astype(jnp.int32), temp=temp,
            prob_perplexity=_perplexity(probs),
            code_perplexity=jax.lax.stop_gradient(_perplexity(used)))

    @property
    def _last(self) -> str:
        """The name of the last linear layer; fairseq numbers it where there are several."""
        return "weight_proj" if self.depth == 1 else f"weight_proj_{self.depth - 1}_last"

    def _joined(self, weights: jax.Array) -> jax.Array:
        """[..., vq_dim] of each group's entries weighted [..., G, V]."""
        table = self.vars.reshape(self.groups, self.entries, -1).astype(self.dtype)
        y = jnp.einsum("...gv,gvd->...gd", weights.astype(self.dtype), table)
        return y.reshape(*weights.shape[:-2], self.vq_dim)

    def lookup(self, codes: jax.Array) -> jax.Array:
        """[..., vq_dim]: the entries `codes` [..., G], joined."""
        return self._joined(jax.nn.one_hot(codes, self.entries))


def joined_codes(index: Array, *, entries: int, groups: int) -> jax.Array:
    """[..., G] the entry of each group, for numbers `index` [...] of all combinations, of
    which the first group's counts most."""
    factors = jnp.asarray([entries**i for i in reversed(range(groups))], jnp.int32)
    return jnp.asarray(index)[..., None] // factors % entries


def temperature(
    schedule: tuple[float, float, float], update: jax.Array | int | None
) -> jax.Array:
    """Float32: the first one times the factor to the power of `update`, not below the last.

    The factor is so near 1 that its power is taken by its logarithm, in float64 here: rounded
    to float32 itself, 0.999995 would be off by a percent after 400,000 updates.
    """
    first, last, factor = schedule
    done = jnp.asarray(0 if update is None else update, jnp.float32)
    return jnp.maximum(first * jnp.exp(done * math.log(factor)), last)


def _mean(x: jax.Array, real: jax.Array | None) -> jax.Array:
    """[G, V] mean of [B, T, G, V] over the real frames."""
    if real is None:
        return x.mean(axis=(0, 1))
    total = jnp.where(real[..., None, None], x, 0).sum(axis=(0, 1))
    return total / jnp.maximum(real.sum(), 1)


def _perplexity(probs: jax.Array) -> jax.Array:
    return jnp.exp(-(probs * jnp.log(probs + 1e-7)).sum(-1)).sum()
