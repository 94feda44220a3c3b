"""One decoder layer: its parameters, hidden states and its attention, given as functions, in;
new hidden states out.

Written once for whole rows [B, T, D] and for single steps [B, W, D], where a step has W
hypotheses in place of T positions; what differs is the attention that is handed in, over a row
or over a cache. An encoder's layer is one that reads no source.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.models.parts import normformer
from seqjax.models.parts.layers import (
    EPS,
    LayerNorm,
    Linear,
    activation,
    dropout,
    norm,
    project,
)
from seqjax.models.parts.position_split import inside_layer, into_products
from seqjax.models.protocol import Params

Mix = Callable[[jax.Array], jax.Array]
"""States [..., D] of all positions to what each takes from the others: self-attention or a
convolution, from its first projection to its last."""
Read = Callable[[jax.Array], tuple[jax.Array, jax.Array | None]]
"""States [..., D] to what each takes from the source, and the attention (or None)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerForm:
    """The switches of a layer."""

    pre_norm: bool
    """Norms in front of each sublayer instead of behind it."""
    activation: str = "relu"
    """Of the feed-forward network, by fairseq's name."""
    dropout: float = 0.0
    """On the output of every sublayer."""
    activation_dropout: float = 0.0
    """After the activation of the feed-forward network."""
    layerdrop: float = 0.0
    """How often the layer is skipped in training."""
    eps: float = EPS
    """Of the norms."""
    norms: tuple[str, str, str] = (
        "self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")
    """Parameters of the norms of mixing, of reading and of the feed-forward network."""


def _no_key() -> None:
    return None


def layer(
    w: Params, x: jax.Array, *, form: LayerForm, mix: Mix, read: Read | None = None,
    key: Callable[[], jax.Array | None] = _no_key,
    tell: Callable[[jax.Array], None] | None = None,
    last: Callable[[jax.Array], jax.Array] | None = None,
) -> tuple[jax.Array, jax.Array | None]:
    """Mixing, reading the source, feed-forward, each with its norm, dropout and residual.

    Args:
      w: parameters by fairseq's names: the norms, fc1, fc2, and NormFormer's if there are any.
      x: [..., D] in the type of matrix products.
      read: None without a source, or without attention to it.
      key: the next key to drop out by; None without dropout.
      tell: is told what the feed-forward network says, as it is added to the rest.
      last: what becomes of the layer's output (None: it stays as it is).

    Returns:
      [..., D], and the attention that `read` tells of.
    """
    before, probs = x, None
    mixing, reading, final = form.norms

    def enter(name: str, x: jax.Array) -> jax.Array:
        return norm(w[name], x, form.eps) if form.pre_norm else x

    def leave(name: str, x: jax.Array) -> jax.Array:
        return x if form.pre_norm else norm(w[name], x, form.eps)

    y = normformer.after_attention(w, mix(enter(mixing, x)), form.eps)
    x = leave(mixing, x + dropout(y, form.dropout, key()))
    if read is not None:
        y, probs = read(enter(reading, x))
        x = leave(reading, x + dropout(y, form.dropout, key()))
    y = _feed_forward(w, enter(final, x), form, key)
    if tell is not None:
        tell(y)
    x = leave(final, normformer.residual(w, x) + y)
    if last is not None:
        x = last(x)
    return _skip(before, x, form.layerdrop, key), probs


def _feed_forward(
    w: Params, x: jax.Array, form: LayerForm, key: Callable[[], jax.Array | None]
) -> jax.Array:
    hidden = activation(form.activation)(inside_layer(project(w["fc1"], into_products(x))))
    hidden = dropout(hidden, form.activation_dropout, key())
    hidden = normformer.inside_feed_forward(w, hidden, form.eps)
    return dropout(project(w["fc2"], inside_layer(hidden)), form.dropout, key())


def _skip(
    before: jax.Array, after: jax.Array, rate: float, key: Callable[[], jax.Array | None]
) -> jax.Array:
    """LayerDrop (Fan et al. 2019)."""
    drawn = key() if rate else None
    return after if drawn is None else jnp.where(jax.random.uniform(drawn) < rate, before, after)


def parameters(
    form: LayerForm, *, width: int, inner: int, reads: bool = False, **options: Any
) -> Params:
    """Declares, in a compact method, the parameters that every layer has.

    Args:
      width, inner: D and F.
      reads: whether the layer reads a source.
      options: of both `Linear`s of the feed-forward network.
    """
    norms = [name for name, wanted in zip(form.norms, (True, reads, True), strict=True) if wanted]
    declared: dict[str, nn.Module] = {name: LayerNorm(width, name=name) for name in norms}
    declared["fc1"] = Linear(width, inner, name="fc1", **options)
    declared["fc2"] = Linear(inner, width, name="fc2", **options)
    return {name: module.weights() for name, module in declared.items()}
