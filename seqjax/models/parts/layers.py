"""The small parts that every model is made of: linear, embedding, norm, dropout.

Linen modules here only own parameters and their initialisation (fairseq's); the
arithmetic is in plain functions.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike

from seqjax.models.parts.gelu import gelu
from seqjax.models.parts.initializers import Initializer, fan_in_uniform, zero_row
from seqjax.models.parts.position_split import by_position

EPS = 1e-5
"""Of layer norms."""


class Linear(nn.Module):
    """`x @ kernel + bias`; kernel [in, out] (fairseq's weight, transposed)."""

    in_features: int
    features: int
    use_bias: bool = True
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        default = fan_in_uniform(self.in_features)
        self.kernel = self.param(
            "kernel", self.kernel_init or default, (self.in_features, self.features)
        )
        self.bias = (
            self.param("bias", self.bias_init or default, (self.features,))
            if self.use_bias
            else None
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return linear(x, self.kernel, self.bias, dtype=self.dtype)

    def weights(self) -> dict[str, jax.Array]:
        """What `project` reads."""
        return {"kernel": self.kernel} | ({} if self.bias is None else {"bias": self.bias})


def project(weights: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
    """`linear` of {kernel, bias if there is one} in the type of `x`."""
    return linear(x, weights["kernel"], weights.get("bias"), dtype=x.dtype)


def linear(
    x: jax.Array, kernel: jax.Array, bias: jax.Array | None, *, dtype: DTypeLike = jnp.float32
) -> jax.Array:
    """`x` [..., in] times `kernel` [in, ...out] plus `bias` [...out], in `dtype`."""
    y = jax.lax.dot_general(
        x.astype(dtype), kernel.astype(dtype), (((x.ndim - 1,), (0,)), ((), ()))
    )
    return y if bias is None else y + bias.astype(dtype)


class Embedding(nn.Module):
    """A table [rows, dim]; the padding row starts at zero and gets no gradient by look-up."""

    rows: int
    dim: int
    pad: int | None = 1
    table_init: Initializer | None = None
    """Of all rows but padding's (None: N(0, dim**-0.5))."""

    def setup(self) -> None:
        begun = self.table_init or nn.initializers.normal(self.dim**-0.5)
        self.embedding = self.param(
            "embedding", zero_row(begun, self.pad), (self.rows, self.dim))

    def __call__(self, ids: jax.Array) -> jax.Array:
        return embed(self.embedding, ids, pad=self.pad)

    def weights(self) -> dict[str, jax.Array]:
        """Its parameter by name."""
        return {"embedding": self.embedding}


def embed(table: jax.Array, ids: jax.Array, *, pad: int | None) -> jax.Array:
    """Rows of `table` [V, D] at `ids` [...]; no gradient flows into row `pad`."""
    rows: Any = _rows(table, ids, table.shape)
    if pad is None:
        return rows
    return jnp.where((ids == pad)[..., None], jax.lax.stop_gradient(rows), rows)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _rows(table: jax.Array, ids: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Rows at `ids`, the first or last one for ids beyond the table."""
    return jnp.take(table, ids, axis=0, mode="clip")


def _rows_forward(table, ids, shape):
    return _rows(table, ids, shape), ids


def _rows_backward(shape, ids, dy):
    # Zeros that are not known before `dy` is: a constant's copy, as large as the table, would
    # be made at the start of the step and kept.
    zeros = jnp.broadcast_to(dy.reshape(-1)[0] * 0, shape)
    return zeros.at[ids].add(dy, mode="clip"), None


_rows.defvjp(_rows_forward, _rows_backward)


@functools.lru_cache(maxsize=32)
def sinusoid_table(rows: int, dim: int, first: int, spacing: str = "inclusive") -> np.ndarray:
    """Sinusoids [rows, dim]: row p is position `first + p`; sines in the first half, cosines in
    the second.

    Args:
      spacing: of the frequencies, which go from 1 down to 1/10000: `inclusive` of that, as in
        tensor2tensor and fairseq, or `exclusive`, as in "Attention Is All You Need" (3.5).

    An angle is a position times a frequency, so the last bit of a frequency is 4e-4 of an
    angle at position 6,000: exponents are float32 as fairseq's, and `exp`, `sin` and `cos` are
    rounded correctly, which numpy's of float32 are not. torch's `exp` rounds one or two in a
    hundred frequencies the other way, other ones on other processors.
    """
    if spacing == "exclusive":
        return _paper_sinusoids(np.arange(first, first + rows), dim)
    half = dim // 2
    scale = np.float32(math.log(10000.0) / max(half - 1, 1))
    exponent = np.arange(half, dtype=np.float32) * -scale
    frequency = np.exp(exponent.astype(np.float64)).astype(np.float32)
    angle = np.arange(first, first + rows, dtype=np.float32)[:, None] * frequency
    angle = angle.astype(np.float64)
    table = np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)
    if dim % 2:
        table = np.concatenate([table, np.zeros((rows, 1), np.float32)], axis=1)
    return table


def _paper_sinusoids(positions: np.ndarray, dim: int) -> np.ndarray:
    """Those of `exclusive` spacing, in float64 up to their last rounding; of an odd number there
    is one sine more."""
    frequency = 10000.0 ** (-2.0 * np.arange(dim - dim // 2) / dim)
    angle = positions[:, None] * frequency
    return np.concatenate(
        [np.sin(angle), np.cos(angle[:, : dim // 2])], axis=1).astype(np.float32)


class LayerNorm(nn.Module):
    """Layer norm with float32 statistics; parameters `scale` and `bias` [D]."""

    dim: int
    eps: float = EPS

    def setup(self) -> None:
        self.scale = self.param("scale", nn.initializers.ones_init(), (self.dim,))
        self.bias = self.param("bias", nn.initializers.zeros_init(), (self.dim,))

    def __call__(self, x: jax.Array) -> jax.Array:
        return layer_norm(x, self.scale, self.bias, self.eps)

    def weights(self) -> dict[str, jax.Array]:
        """What `norm` reads."""
        return {"scale": self.scale, "bias": self.bias}


def norm(weights: Mapping[str, jax.Array], x: jax.Array, eps: float = EPS) -> jax.Array:
    """`layer_norm` of {scale, bias}."""
    return layer_norm(x, weights["scale"], weights["bias"], eps)


def norm_eps(cfg: object) -> float:
    """Epsilon of the layer norms of a model's configuration; fairseq's where it does not say."""
    return getattr(cfg, "layer_norm_eps", EPS)


def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float) -> jax.Array:
    """(x - mean) / sqrt(var + eps) * scale + bias over the last axis.

    The backward pass is written out: what autodiff makes of it takes several times as
    many passes over memory on a CPU.
    """
    return by_position(lambda x: _layer_norm(x, scale, bias, eps), x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _layer_norm(x, scale, bias, eps):
    return _layer_norm_forward(x, scale, bias, eps)[0]


def _layer_norm_forward(x, scale, bias, eps):
    wide = x.astype(jnp.float32)
    mean = wide.mean(-1, keepdims=True)
    centred = wide - mean
    inverse = jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + eps)
    y = (centred * inverse * scale + bias).astype(x.dtype)
    return y, (x, mean, inverse, scale)


def _layer_norm_backward(eps, saved, dy):
    x, mean, inverse, scale = saved
    # What does not depend on `dy` would be computed in the forward pass and kept: arrays as
    # large as `x`. (XLA on a CPU ignores barriers when it orders a program.)
    later = dy.reshape(-1)[0].astype(jnp.float32) * 0
    mean, inverse, scale = mean + later, inverse + later, scale + later
    wide_dy = dy.astype(jnp.float32)
    normed = (x.astype(jnp.float32) - mean) * inverse
    d_normed = wide_dy * scale
    mean_d = d_normed.mean(-1, keepdims=True)
    mean_dn = (d_normed * normed).mean(-1, keepdims=True)
    dx = (inverse * (d_normed - mean_d - normed * mean_dn)).astype(x.dtype)
    rows = tuple(range(x.ndim - 1))
    return dx, (wide_dy * normed).sum(rows), wide_dy.sum(rows)


_layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


def dropout_key(module: nn.Module) -> jax.Array | None:
    """A module's next key to drop out by; None where it is applied without."""
    return module.make_rng("dropout") if module.has_rng("dropout") else None


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """`x` with each element zeroed with probability `rate`, the rest scaled up.

    The mask is a hash of the element's index and the key: it fuses into its neighbours,
    costs no memory, and is the same on every mesh and kind of device.
    """
    if key is None or rate == 0.0:
        return x
    keep = random_bits(key, x.shape) >= np.uint32(round(rate * 2**32))
    return jnp.where(keep, x * jnp.asarray(1.0 / (1.0 - rate), x.dtype), jnp.zeros((), x.dtype))


def random_bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """uint32 [shape]: a keyed integer hash of each element's index."""
    words = jax.random.key_data(key).reshape(-1)[:2].astype(jnp.uint32)
    index = jnp.zeros(shape, jnp.uint32)
    stride = 1
    for axis in range(len(shape) - 1, -1, -1):
        index = index + jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * np.uint32(stride)
        stride *= shape[axis]
    x = index + words[0]
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = x ^ words[1]
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """fairseq's activation functions by name."""
    return {
        "relu": jax.nn.relu,
        "gelu": gelu,
        "gelu_fast": functools.partial(jax.nn.gelu, approximate=True),
        "gelu_accurate": functools.partial(jax.nn.gelu, approximate=True),
        "tanh": jnp.tanh,
        "linear": lambda x: x,
        "swish": jax.nn.silu,
    }[name]


def gated(x: jax.Array) -> jax.Array:
    """Half of the channels, each times the sigmoid of its partner in the other half."""
    value, gate = jnp.split(x, 2, axis=-1)
    return value * jax.nn.sigmoid(gate)
