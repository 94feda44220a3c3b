"""Position-by-position decoding with lightweight or dynamic convolutions.

Plain functions over prepared weights, shared by the translation and the language model.
Every layer keeps a ring of its last few inputs; hypotheses find theirs through the ancestor
table, keys and values of the source exist once per sentence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from seqjax.models.lightconv.layers import normalise
from seqjax.models.lightconv.modules import gated
from seqjax.models.parts.attention import MASKED
from seqjax.models.parts.layers import embed, layer_norm, linear, sinusoid_table
from seqjax.models.parts.windows import empty_ring, push
from seqjax.models.protocol import Encoded, Features, Params

PAD = 1
EPS = 1e-5


def look_up_rows(table: jax.Array, ids: jax.Array, *, dtype: Any = jnp.float32) -> jax.Array:
    """Rows of an ordinary embedding."""
    return embed(table, ids, pad=None).astype(dtype)


@struct.dataclass
class DecoderWeights:
    """A decoder's parameters, one entry a layer."""

    table: Any
    positions: jax.Array | None
    """[max_target_positions, D]; None without positions."""
    layers: tuple[dict[str, Any], ...]
    rest: dict[str, Any]
    """layer_norm, project_in_dim, project_out_dim where present."""
    projection: Any
    project: Any = struct.field(pytree_node=False)
    look_up: Any = struct.field(pytree_node=False)


@struct.dataclass
class DecoderCache:
    """The hypotheses' last inputs and the sentences' sources, one entry a layer."""

    rings: tuple[jax.Array, ...]
    """[B, K, W, C]."""
    memory_keys: tuple[jax.Array, ...]
    """[B, S, H, K]; empty for a language model."""
    memory_values: tuple[jax.Array, ...]
    memory_bias: jax.Array | None
    """[B, 1, 1, S] float32: 0, or a large negative number on padding."""


def prepare(
    cfg: Any, decoder: Params, *, table: Any, projection: tuple[Any, Any], dtype: Any,
    look_up: Callable[..., jax.Array] | None = None,
) -> DecoderWeights:
    """Unstacks the decoder's layers and normalises lightweight convolutions.

    Args:
      table, look_up: embedding of target tokens and how it is read.
      projection: (arrays, function) of the output layer.
    """
    layers = []
    for i, width in enumerate(cfg.decoder_kernels):
        layer = jax.tree.map(lambda a, i=i: a[i], decoder["layers"])
        layer = {
            name: value if name.endswith("norm") else jax.tree.map(
                lambda a: a.astype(dtype), value)
            for name, value in layer.items()
        }
        conv = decoder[f"convs_{i}"]
        if cfg.decoder_conv_type == "dynamic":
            kernel = conv["weight_linear"]["kernel"].astype(dtype)
            layer["conv"] = kernel.reshape(-1, cfg.decoder_attention_heads, width)
        else:
            layer["conv"] = normalise(conv["weight"], None, softmax=cfg.weight_softmax)
        layers.append(layer)
    positions = None
    if not cfg.no_token_positional_embeddings:
        if cfg.decoder_learned_pos:
            positions = decoder["embed_positions"]["embedding"][PAD + 1 :]
        else:
            positions = jnp.asarray(
                sinusoid_table(cfg.max_target_positions, cfg.decoder_width, PAD + 1)
            )
    names = ("layer_norm", "project_in_dim", "project_out_dim")
    arrays, project = projection
    return DecoderWeights(
        table=table, positions=positions, layers=tuple(layers),
        rest={n: decoder[n] for n in names if n in decoder}, 
        look_up=look_up or look_up_rows,
        projection=jax.tree.map(lambda a: a.astype(dtype), arrays), project=project,
    )


def start(
    cfg: Any, weights: DecoderWeights, encoded: Encoded | None, *, rows: int,
    beam: int, capacity: int,
) -> DecoderCache:
    """Empty rings, which have one size; for a language model `encoded` is None."""
    del capacity
    dtype = weights.layers[0]["fc1"]["kernel"].dtype
    keys: list[jax.Array] = []
    values: list[jax.Array] = []
    bias = None
    if encoded is not None:
        heads = cfg.decoder_attention_heads
        bias = jnp.where(encoded.mask, 0.0, MASKED)[:, None, None, :]
        for layer in weights.layers:
            for name, target in (("k_proj", keys), ("v_proj", values)):
                y = _apply(layer["encoder_attn"][name], encoded.out.astype(dtype))
                target.append(y.reshape(*y.shape[:2], heads, -1))
    return DecoderCache(
        rings=tuple(
            empty_ring(batch=rows, width=width, beam=beam, channels=cfg.decoder_channels,
                       dtype=dtype)
            for width in cfg.decoder_kernels
        ),
        memory_keys=tuple(keys), memory_values=tuple(values), memory_bias=bias,
    )


def _apply(weights: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return linear(x, weights["kernel"], weights.get("bias"), dtype=x.dtype)


def _norm(weights: Params, x: jax.Array) -> jax.Array:
    return layer_norm(x, weights["scale"], weights["bias"], EPS)


def grow(cache: DecoderCache, *, capacity: int) -> DecoderCache:
    """The same: rings have one size."""
    del capacity
    return cache


def step(
    cfg: Any, weights: DecoderWeights, tokens: jax.Array, cache: DecoderCache, *,
    position: jax.Array, ancestors: jax.Array,
) -> tuple[Features, DecoderCache]:
    """One position for all hypotheses; see `protocol.EncoderDecoder.step`."""
    dtype = weights.layers[0]["fc1"]["kernel"].dtype
    x = weights.look_up(weights.table, tokens) * cfg.decoder_width**0.5
    if "project_in_dim" in weights.rest:
        x = _apply(weights.rest["project_in_dim"], x.astype(dtype))
    if weights.positions is not None:
        x = x + jax.lax.dynamic_index_in_dim(weights.positions, position, keepdims=False)
    x, rings, attention = x.astype(dtype), [], []
    for i, w in enumerate(weights.layers):
        x, ring = _convolution(cfg, w, x, cache.rings[i], position, ancestors)
        rings.append(ring)
        if cache.memory_bias is not None:
            x, probs = _memory(cfg, w, x, cache, i)
            attention.append(probs)
        pre = cfg.decoder_normalize_before
        y = _norm(w["final_layer_norm"], x) if pre else x
        x = x + _apply(w["fc2"], jax.nn.relu(_apply(w["fc1"], y)))
        x = x if pre else _norm(w["final_layer_norm"], x)
    if "layer_norm" in weights.rest:
        x = _norm(weights.rest["layer_norm"], x)
    if "project_out_dim" in weights.rest:
        x = _apply(weights.rest["project_out_dim"], x)
    features = Features(
        hidden=x, projection=weights.projection, project=weights.project,
        attention=jnp.stack(attention) if attention else None,
    )
    return features, dataclasses.replace(cache, rings=tuple(rings))


def _convolution(
    cfg: Any, w: Params, x: jax.Array, ring: jax.Array, position: jax.Array,
    ancestors: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """A layer's convolution block: x [B, W, D] and the layer's ring."""
    pre = cfg.decoder_normalize_before
    y = _apply(w["linear1"], _norm(w["conv_layer_norm"], x) if pre else x)
    y = gated(y) if cfg.decoder_glu else y
    window, ring = push(ring, y, position=position, ancestors=ancestors)
    window = window.reshape(*window.shape[:3], cfg.decoder_attention_heads, -1)
    if cfg.decoder_conv_type == "dynamic":
        taps = jnp.einsum("bwc,chk->bwhk", y, w["conv"])
        taps = normalise(taps, None, softmax=cfg.weight_softmax).astype(y.dtype)
        y = jnp.einsum("bwkhr,bwhk->bwhr", window, taps)
    else:
        y = jnp.einsum("bwkhr,hk->bwhr", window, w["conv"].astype(y.dtype))
    x = x + _apply(w["linear2"], y.reshape(*x.shape[:2], -1))
    return x if pre else _norm(w["conv_layer_norm"], x), ring


def _memory(
    cfg: Any, w: Params, x: jax.Array, cache: DecoderCache, layer: int
) -> tuple[jax.Array, jax.Array]:
    """A layer's attention to the source: x [B, W, D] and probabilities [B, H, W, S]."""
    assert cache.memory_bias is not None
    pre, heads = cfg.decoder_normalize_before, cfg.decoder_attention_heads
    y = _norm(w["encoder_attn_layer_norm"], x) if pre else x
    q = _apply(w["encoder_attn"]["q_proj"], y).reshape(*x.shape[:2], heads, -1)
    q = q * (q.shape[-1] ** -0.5)
    keys, values = cache.memory_keys[layer], cache.memory_values[layer]
    scores = jnp.einsum("bwhk,bshk->bhws", q, keys, preferred_element_type=jnp.float32)
    probs = jax.nn.softmax(scores + cache.memory_bias, axis=-1)
    y = jnp.einsum("bhws,bshk->bwhk", probs.astype(values.dtype), values)
    x = x + _apply(w["encoder_attn"]["out_proj"], y.reshape(x.shape))
    return x if pre else _norm(w["encoder_attn_layer_norm"], x), probs
