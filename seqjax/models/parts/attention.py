"""Multi-head attention over whole sequences, with fairseq's parameters and arithmetic.

Attention over a cache, one position at a time, is in `cached_attention.py`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from seqjax.models.parts.backend import on_cpu
from seqjax.models.parts.initializers import xavier_uniform
from seqjax.models.parts.layers import Linear, dropout, dropout_key
from seqjax.models.parts.position_split import inside_layer, into_products

MASKED = jnp.finfo(jnp.float32).min
"""Score of a masked key: finite, so that rows which see nothing stay finite."""


_LONG = 1 << 17
"""Scores of a head from which on heads are taken one after the other."""


def causal_mask(length: int) -> jax.Array:
    """[1, 1, T, T] bool: position t sees positions up to t."""
    return jnp.tril(jnp.ones((length, length), bool))[None, None]


def segment_mask(query: jax.Array, key: jax.Array) -> jax.Array:
    """[B, 1, T, S] bool: tokens see the tokens of their own segment; 0 is padding."""
    return (query[:, None, :, None] == key[:, None, None, :]) & (key > 0)[:, None, None, :]


def joint_mask(memory: jax.Array, own: jax.Array) -> jax.Array:
    """Mask over a source and, behind it, the sequence itself: [B, 1, 1 or T, S] and
    [1 or B, 1, T, T] as [B, 1, T, S + T]."""
    shape = jnp.broadcast_shapes(memory.shape[:3], own.shape[:3])
    parts = [jnp.broadcast_to(mask, (*shape, mask.shape[3])) for mask in (memory, own)]
    return jnp.concatenate(parts, axis=3)


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None, *,
    bias: jax.Array | None = None, dropout_rate: float = 0.0, key: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Softmax attention with float32 softmax.

    Args:
      q: [B, T, H, K], already scaled.
      k, v: [B, S, H, K].
      mask: broadcastable to [B, H, T, S]; true where the key may be seen.
      bias: float32, broadcastable to [B, H, T, S]; added to the scores.

    Returns:
      [B, T, H, K] in the type of `v`, and the probabilities [B, H, T, S] before dropout.
    """
    scores = jnp.einsum("bthk,bshk->bhts", q, k, preferred_element_type=jnp.float32)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = jnp.where(mask, scores, MASKED)
    probs = jax.nn.softmax(scores, axis=-1)
    weights = dropout(probs, dropout_rate, key).astype(v.dtype)
    return jnp.einsum("bhts,bshk->bthk", weights, v), probs


def attend_by_heads(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None
) -> jax.Array:
    """`attend` without dropout and without the probabilities, one head after the other: the scores
    of long rows then stay in the cache of a CPU.

    Args:
      mask: [B, 1, 1 or T, S], the same for all heads.
    """
    seen = None if mask is None else mask[:, 0]

    def one(head: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        q, k, v = head
        scores = jnp.einsum("btk,bsk->bts", q, k, preferred_element_type=jnp.float32)
        if seen is not None:
            scores = jnp.where(seen, scores, MASKED)
        # Divided by their sum where there is less to divide.
        weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
        out = jnp.einsum("bts,bsk->btk", weights.astype(v.dtype), v)
        return (out / weights.sum(axis=-1, keepdims=True)).astype(v.dtype)

    heads = jax.lax.map(one, tuple(jnp.moveaxis(a, 2, 0) for a in (q, k, v)))
    return jnp.moveaxis(heads, 0, 2)


class MultiheadAttention(nn.Module):
    """fairseq's `MultiheadAttention`: q, k, v and out projections."""

    embed_dim: int
    heads: int
    kdim: int | None = None
    """Width of keys and values (None: self-attention, one fused projection)."""
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32
    use_bias: bool = True
    """Of all four projections."""

    def setup(self) -> None:
        kdim = self.kdim or self.embed_dim
        init = xavier_uniform(2**-0.5 if kdim == self.embed_dim else 1.0)

        def projection(width: int) -> Linear:
            return Linear(width, self.embed_dim, self.use_bias, kernel_init=init, dtype=self.dtype)

        self.q_proj = projection(self.embed_dim)
        self.k_proj = projection(kdim)
        self.v_proj = projection(kdim)
        self.out_proj = Linear(
            self.embed_dim, self.embed_dim, self.use_bias, kernel_init=xavier_uniform(),
            bias_init=nn.initializers.zeros_init(), dtype=self.dtype,
        )

    def __call__(
        self, x: jax.Array, memory: jax.Array | None, mask: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """`x` [B, T, D] attends to `memory` [B, S, kdim], or to itself when None.

        Returns:
          [B, T, D] and the attention probabilities [B, H, T, S].
        """
        out, probs = attend(*self._heads(x, memory), mask, dropout_rate=self.dropout,
                            key=dropout_key(self))
        return self._joined(out), probs

    def without_probabilities(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        """What the call gives first, of `x` [B, T, D] that attends to itself with a mask
        [B, 1, 1 or T, S], as fast as it can be had."""
        dropped = self.dropout > 0 and self.has_rng("dropout")
        if dropped or not on_cpu() or x.shape[0] * x.shape[1] ** 2 < _LONG:
            return self(x, None, mask)[0]
        return self._joined(attend_by_heads(*self._heads(x, None), mask))

    def _heads(
        self, x: jax.Array, memory: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries, scaled, keys and values."""
        if memory is None:
            q, k, v = self._project(x, (self.q_proj, self.k_proj, self.v_proj))
        else:
            (q,) = self._project(x, (self.q_proj,))
            k, v = self._project(memory, (self.k_proj, self.v_proj))
        scale = (self.embed_dim // self.heads) ** -0.5
        return self._split(q * scale), self._split(k), self._split(v)

    def _joined(self, out: jax.Array) -> jax.Array:
        return self.out_proj(inside_layer(out.reshape(*out.shape[:2], self.embed_dim)))

    def _project(self, x: jax.Array, layers: tuple[Linear, ...]) -> tuple[jax.Array, ...]:
        """All of `layers`, in training in one matrix product.

        Kernels are stacked on a new axis rather than joined, so that a mesh which splits
        their last axis keeps each part where it is. Stacking copies them: where nothing is
        learned, three products of kernels as they are take less time.
        """
        if not self.has_rng("dropout"):
            x = into_products(x)
            return tuple(inside_layer(layer(x)) for layer in layers)
        kernel = jnp.stack([layer.kernel for layer in layers], axis=1).astype(self.dtype)
        biases = [layer.bias for layer in layers if layer.bias is not None]
        bias = jnp.stack(biases).astype(self.dtype) if biases else None
        x = into_products(x)
        y = jax.lax.dot_general(x.astype(self.dtype), kernel, (((2,), (0,)), ((), ())))
        y = y if bias is None else y + bias
        return tuple(inside_layer(y[:, :, i]) for i in range(len(layers)))

    def _split(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:2], self.heads, self.embed_dim // self.heads)
