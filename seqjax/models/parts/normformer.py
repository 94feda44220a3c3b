"""What NormFormer adds to a decoder layer: its parameters, and what is done with them.

"NormFormer: Improved Transformer Pretraining with Extra Normalization" (Shleifer, Weston and
Ott 2021); fairseq's `scale_attn`, `scale_fc`, `scale_heads` and `scale_resids`. The functions
take a layer's parameters by fairseq's names and do nothing for those that are not there, so
that whole sequences and single positions share them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.models.parts.keys import NormFormerKeys
from seqjax.models.parts.layers import EPS, norm
from seqjax.models.protocol import Params

NAMES = ("c_attn", "w_resid", "attn_ln", "ffn_layernorm")
"""All parameters of a layer that are NormFormer's."""


def parameters(module: nn.Module, cfg: NormFormerKeys) -> Params:
    """Declares, in a decoder layer, the parameters that its configuration asks for."""
    wanted: dict[str, tuple[bool, Callable[[jax.Array], Any]]] = {
        "c_attn": (cfg.scale_heads, lambda _: jnp.ones(cfg.decoder_attention_heads)),
        "w_resid": (cfg.scale_resids, lambda _: jnp.ones(cfg.decoder_embed_dim)),
        "attn_ln": (cfg.scale_attn, lambda _: _fresh_norm(cfg.decoder_embed_dim)),
        "ffn_layernorm": (cfg.scale_fc, lambda _: _fresh_norm(cfg.decoder_ffn_embed_dim)),
    }
    return {name: module.param(name, init) for name, (on, init) in wanted.items() if on}


def _fresh_norm(dim: int) -> dict[str, jax.Array]:
    return {"scale": jnp.ones(dim), "bias": jnp.zeros(dim)}


def after_attention(w: Params, y: jax.Array, eps: float = EPS) -> jax.Array:
    """Self-attention's output [..., D], each head's share of it scaled, and normed."""
    if "c_attn" in w:
        factors = w["c_attn"].astype(y.dtype)
        shares = y.reshape(*y.shape[:-1], factors.shape[0], -1)
        y = (shares * factors[:, None]).reshape(y.shape)
    return _normed(w, "attn_ln", y, eps)


def inside_feed_forward(w: Params, hidden: jax.Array, eps: float = EPS) -> jax.Array:
    """The feed-forward network's activations [..., F], normed."""
    return _normed(w, "ffn_layernorm", hidden, eps)


def residual(w: Params, x: jax.Array) -> jax.Array:
    """What the feed-forward network's output is added to [..., D], scaled."""
    return x * w["w_resid"].astype(x.dtype) if "w_resid" in w else x


def _normed(w: Params, name: str, x: jax.Array, eps: float) -> jax.Array:
    return norm(w[name], x, eps) if name in w else x
