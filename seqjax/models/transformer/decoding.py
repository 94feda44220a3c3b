"""Position-by-position decoding of a transformer decoder over an explicit cache.

Plain functions over prepared weights, shared by every model with such a decoder. Beams
are never copied: each hypothesis finds its history through the ancestor table, and
keys and values of the source exist once per sentence.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from seqjax.models.parts.attention import MASKED
from seqjax.models.parts.layers import activation, embed, layer_norm, linear, sinusoid_table
from seqjax.models.protocol import Encoded, Features, Params
from seqjax.models.transformer import normformer

PAD = 1
EPS = 1e-5
_Projected = tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]
"""Keys and values, one entry a layer."""


@struct.dataclass
class DecoderWeights:
    """A decoder's parameters, one entry a layer, projections fused."""

    table: Any
    """[V, input_dim], or whatever `look_up` reads."""
    positions: jax.Array | None
    """[max_target_positions, D]; None without positions."""
    layers: tuple[dict[str, Any], ...]
    memory_kernel: jax.Array | None
    """[L, 2, D_encoder, D]: keys and values of the source, all layers at once."""
    memory_bias: jax.Array | None
    """[L, 2, D]."""
    joint_kernel: jax.Array | None
    """[L, 2, D, D]: the same for self-attention that sees the source too."""
    joint_bias: jax.Array | None
    rest: dict[str, Any]
    """layernorm_embedding, layer_norm, project_in_dim, project_out_dim where present."""
    projection: Any
    project: Any = struct.field(pytree_node=False)
    look_up: Any = struct.field(pytree_node=False, default=None)
    """(table, ids) -> rows; None: `table` is an array."""


@struct.dataclass
class DecoderCache:
    """Keys and values, one entry a layer.

    Positions and slots share an axis, row c * W + w: XLA then updates in place. Apart, it
    reads one copy and writes another.
    """

    keys: tuple[jax.Array, ...]
    """[B, H, C * W, K]."""
    values: tuple[jax.Array, ...]
    """[B, H, C * W, K]."""
    memory_keys: tuple[jax.Array, ...]
    """[B, H, S, K]; empty without attention to a source."""
    memory_values: tuple[jax.Array, ...]
    joint_keys: tuple[jax.Array, ...]
    """[B, H, S, K]: what self-attention sees of the source; empty where it sees none."""
    joint_values: tuple[jax.Array, ...]
    memory_bias: jax.Array | None
    """[B, 1, 1, S] float32: 0, or a large negative number on padding."""
    beam: int = struct.field(pytree_node=False)
    """W."""


def prepare(
    cfg: Any, decoder: Params, *, table: Any, projection: tuple[Any, Any], dtype: Any,
    look_up: Any = None,
) -> DecoderWeights:
    """Unstacks layers and fuses projections of the decoder's parameters.

    Args:
      cfg: configuration with fairseq's `decoder_*` keys.
      decoder: parameters with `layers` stacked.
      table: embedding of target tokens.
      projection: (arrays, function) of the output layer.
      dtype: type of matrix products.
      look_up: (table, ids) -> rows, where `table` is not an array.
    """
    stacked = decoder["layers"]
    layers = tuple(
        _layer_weights(jax.tree.map(lambda a, i=i: a[i], stacked), dtype)
        for i in range(cfg.decoder_layers)
    )
    memory = joint = (None, None)
    if "encoder_attn" in stacked:
        memory = _keys_and_values(stacked["encoder_attn"], dtype)
    if getattr(cfg, "cross_self_attention", False):
        joint = _keys_and_values(stacked["self_attn"], dtype)
    positions = None
    if not cfg.no_token_positional_embeddings:
        if cfg.decoder_learned_pos:
            positions = decoder["embed_positions"]["embedding"][PAD + 1 :]
        else:
            positions = jnp.asarray(
                sinusoid_table(cfg.max_target_positions, cfg.decoder_embed_dim, PAD + 1)
            )
    names = ("layernorm_embedding", "layer_norm", "project_in_dim", "project_out_dim")
    arrays, project = projection
    return DecoderWeights(
        table=table, positions=positions, layers=layers, memory_kernel=memory[0],
        memory_bias=memory[1], joint_kernel=joint[0], joint_bias=joint[1],
        rest={n: decoder[n] for n in names if n in decoder},
        projection=_cast(arrays, dtype), project=project, look_up=look_up,
    )


def _keys_and_values(attention: Params, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """[L, 2, D_source, D] and [L, 2, D]: both projections of all layers."""
    parts = (attention["k_proj"], attention["v_proj"])
    kernel = jnp.stack([p["kernel"] for p in parts], axis=1).astype(dtype)
    return kernel, jnp.stack([p["bias"] for p in parts], axis=1).astype(dtype)


def _layer_weights(layer: Params, dtype: Any) -> dict[str, Any]:
    parts = [layer["self_attn"][n] for n in ("q_proj", "k_proj", "v_proj")]
    weights = {
        "qkv": {
            "kernel": jnp.concatenate([p["kernel"] for p in parts], axis=1).astype(dtype),
            "bias": jnp.concatenate([p["bias"] for p in parts]).astype(dtype),
        },
        "out": _cast(layer["self_attn"]["out_proj"], dtype),
        "fc1": _cast(layer["fc1"], dtype),
        "fc2": _cast(layer["fc2"], dtype),
    }
    if "encoder_attn" in layer:
        weights["memory_q"] = _cast(layer["encoder_attn"]["q_proj"], dtype)
        weights["memory_out"] = _cast(layer["encoder_attn"]["out_proj"], dtype)
    kept = {n: w for n, w in layer.items() if n.endswith("layer_norm") or n in normformer.NAMES}
    return {**weights, **kept}


def _cast(tree: Params, dtype: Any) -> Params:
    return jax.tree.map(lambda a: a.astype(dtype), tree)


def start(
    cfg: Any, weights: DecoderWeights, encoded: Encoded | None, *, rows: int, beam: int,
    capacity: int,
) -> DecoderCache:
    """An empty cache; for a language model `encoded` is None."""
    heads = cfg.decoder_attention_heads
    dtype = weights.layers[0]["fc1"]["kernel"].dtype
    memory: _Projected = ((), ())
    joint: _Projected = ((), ())
    bias = None
    if encoded is not None:
        out = encoded.out.astype(dtype)
        memory = _project_source(out, weights.memory_kernel, weights.memory_bias, heads)
        joint = _project_source(out, weights.joint_kernel, weights.joint_bias, heads)
        bias = jnp.where(encoded.mask, 0.0, MASKED)[:, None, None, :]
    size = cfg.decoder_embed_dim // heads
    empty = jnp.zeros((rows, heads, capacity * beam, size), dtype)
    return DecoderCache(
        keys=(empty,) * cfg.decoder_layers, values=(empty,) * cfg.decoder_layers,
        memory_keys=memory[0], memory_values=memory[1], joint_keys=joint[0],
        joint_values=joint[1], memory_bias=bias, beam=beam,
    )


def _project_source(
    out: jax.Array, kernel: jax.Array | None, bias: jax.Array | None, heads: int
) -> _Projected:
    """Keys and values [B, H, S, K] of each layer for a source [B, S, D_source]."""
    if kernel is None or bias is None:
        return (), ()
    both = jnp.einsum("bsd,lcde->lcbse", out, kernel)
    both = both + bias[:, :, None, None, :]
    both = both.reshape(*both.shape[:-1], heads, both.shape[-1] // heads).swapaxes(3, 4)
    layers = range(both.shape[0])
    return tuple(both[i, 0] for i in layers), tuple(both[i, 1] for i in layers)


def grow(cache: DecoderCache, *, capacity: int) -> DecoderCache:
    """The same cache with `capacity` positions."""
    extra = capacity * cache.beam - cache.keys[0].shape[2]
    padding = ((0, 0), (0, 0), (0, extra), (0, 0))
    return dataclasses.replace(
        cache, keys=tuple(jnp.pad(k, padding) for k in cache.keys),
        values=tuple(jnp.pad(v, padding) for v in cache.values),
    )


def step(
    cfg: Any, weights: DecoderWeights, tokens: jax.Array, cache: DecoderCache, *,
    position: jax.Array, ancestors: jax.Array,
) -> tuple[Features, DecoderCache]:
    """One position for all hypotheses; see `protocol.EncoderDecoder.step`."""
    x = _embed(cfg, weights, tokens, position)
    beam, capacity = ancestors.shape[1:]
    # [B, 1, W, C, W]: hypothesis w sees, at position c, the slot that its ancestor held.
    slots = ancestors[:, None, :, :, None] == jnp.arange(beam)
    seen = slots & (jnp.arange(capacity) <= position)[None, None, None, :, None]
    bias = jnp.where(seen, 0.0, MASKED).reshape(*seen.shape[:3], capacity * beam)
    keys, values = [], []
    for layer, w in enumerate(weights.layers):
        x, k, v = _layer_step(cfg, w, x, cache, layer, position, bias)
        keys.append(k)
        values.append(v)
    if "layer_norm" in weights.rest:
        x = _norm(weights.rest["layer_norm"], x)
    if "project_out_dim" in weights.rest:
        x = linear(x, weights.rest["project_out_dim"]["kernel"], None, dtype=x.dtype)
    features = Features(hidden=x, projection=weights.projection, project=weights.project)
    return features, dataclasses.replace(cache, keys=tuple(keys), values=tuple(values))


def _embed(
    cfg: Any, weights: DecoderWeights, tokens: jax.Array, position: jax.Array
) -> jax.Array:
    """[B, W, D]: the first layer's input."""
    dtype = weights.layers[0]["fc1"]["kernel"].dtype
    if weights.look_up is None:
        x = embed(weights.table, tokens, pad=None)
    else:
        x = weights.look_up(weights.table, tokens)
    if not cfg.no_scale_embedding:
        x = x * cfg.decoder_embed_dim**0.5
    if "project_in_dim" in weights.rest:
        x = linear(x, weights.rest["project_in_dim"]["kernel"], None, dtype=dtype)
    if weights.positions is not None:
        x = x + jax.lax.dynamic_index_in_dim(weights.positions, position, keepdims=False)
    if "layernorm_embedding" in weights.rest:
        x = _norm(weights.rest["layernorm_embedding"], x)
    return x.astype(dtype)


def _norm(weights: Params, x: jax.Array) -> jax.Array:
    return layer_norm(x, weights["scale"], weights["bias"], EPS)


def _layer_step(
    cfg: Any, w: Params, x: jax.Array, cache: DecoderCache, layer: int, position: jax.Array,
    bias: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One layer: new hidden states [B, W, D] and the layer's updated keys and values."""
    pre, dtype = cfg.decoder_normalize_before, x.dtype
    heads = cfg.decoder_attention_heads
    batch, beam, dim = x.shape
    scale = (dim // heads) ** -0.5

    def split(y: jax.Array) -> jax.Array:  # [B, W, D] -> [B, H, W, K]
        return y.reshape(batch, beam, heads, dim // heads).swapaxes(1, 2)

    def merge(y: jax.Array) -> jax.Array:  # [B, H, W, K] -> [B, W, D]
        return y.swapaxes(1, 2).reshape(batch, beam, dim)

    y = _norm(w["self_attn_layer_norm"], x) if pre else x
    qkv = linear(y, w["qkv"]["kernel"], w["qkv"]["bias"], dtype=dtype)
    q, k, v = (split(part) for part in jnp.split(qkv, 3, axis=-1))
    at = (0, 0, position * beam, 0)
    keys = jax.lax.dynamic_update_slice(cache.keys[layer], k, at)
    values = jax.lax.dynamic_update_slice(cache.values[layer], v, at)
    if cache.joint_keys:
        y = merge(_attend_jointly(q * scale, (
            (cache.joint_keys[layer], cache.joint_values[layer], cache.memory_bias),
            (keys, values, bias),
        )))
    else:
        y = merge(_attend(q * scale, keys, values, bias))
    y = linear(y, w["out"]["kernel"], w["out"]["bias"], dtype=dtype)
    x = x + normformer.after_attention(w, y)
    x = x if pre else _norm(w["self_attn_layer_norm"], x)
    if cache.memory_keys:
        assert cache.memory_bias is not None
        y = _norm(w["encoder_attn_layer_norm"], x) if pre else x
        q = split(linear(y, w["memory_q"]["kernel"], w["memory_q"]["bias"], dtype=dtype))
        y = merge(_attend(
            q * scale, cache.memory_keys[layer], cache.memory_values[layer], cache.memory_bias
        ))
        x = x + linear(y, w["memory_out"]["kernel"], w["memory_out"]["bias"], dtype=dtype)
        x = x if pre else _norm(w["encoder_attn_layer_norm"], x)
    y = _norm(w["final_layer_norm"], x) if pre else x
    y = activation(cfg.activation_fn)(linear(y, w["fc1"]["kernel"], w["fc1"]["bias"], dtype=dtype))
    y = linear(normformer.inside_feed_forward(w, y), w["fc2"]["kernel"], w["fc2"]["bias"],
               dtype=dtype)
    x = normformer.residual(w, x) + y
    x = x if pre else _norm(w["final_layer_norm"], x)
    return x, keys, values


def _attend(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array) -> jax.Array:
    """q [B, H, W, K], k and v [B, H, N, K], bias [B, 1, W or 1, N] -> [B, H, W, K]."""
    scores = jnp.einsum("bhwk,bhnk->bhwn", q, k, preferred_element_type=jnp.float32)
    probs = jax.nn.softmax(scores + bias, axis=-1)
    return jnp.einsum("bhwn,bhnk->bhwk", probs.astype(v.dtype), v)


def _attend_jointly(q: jax.Array, seen: Sequence[tuple[Any, Any, Any]]) -> jax.Array:
    """`_attend` over several (keys, values, bias) under one softmax."""
    scores = [
        jnp.einsum("bhwk,bhnk->bhwn", q, k, preferred_element_type=jnp.float32) + bias
        for k, _, bias in seen
    ]
    probs = jax.nn.softmax(jnp.concatenate(scores, axis=-1), axis=-1)
    ends = np.cumsum([k.shape[2] for k, *_ in seen])[:-1]
    parts = jnp.split(probs, ends, axis=-1)
    found = [
        jnp.einsum("bhwn,bhnk->bhwk", part.astype(v.dtype), v)
        for part, (_, v, _) in zip(parts, seen, strict=True)
    ]
    return functools.reduce(jnp.add, found)
