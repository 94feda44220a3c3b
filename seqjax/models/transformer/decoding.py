"""Position-by-position decoding of a transformer decoder over an explicit cache.

Plain functions over prepared weights, shared by every model with such a decoder. Beams
are never copied: each hypothesis finds its history through the ancestor table, and
keys and values of the source exist once per sentence.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from seqjax.models.parts import decoder_layer, normformer, stack_ends
from seqjax.models.parts.attention import MASKED
from seqjax.models.parts.cached_attention import (
    SourceCache,
    SourceProjection,
    attend,
    project_source,
    read_source,
    source_projection,
    split_heads,
)
from seqjax.models.parts.layers import embed, project
from seqjax.models.parts.positions import step_positions
from seqjax.models.protocol import Encoded, Features, Params
from seqjax.models.transformer.modules import decoder_form, embedding_scale


@struct.dataclass
class DecoderWeights:
    """A decoder's parameters, one entry a layer, projections fused."""

    table: Any
    """[V, input_dim], or whatever `look_up` reads."""
    positions: jax.Array | None
    """[max_target_positions, D]; None without positions."""
    layers: tuple[dict[str, Any], ...]
    memory: SourceProjection | None
    """For attention to the source; None without."""
    joint: SourceProjection | None
    """For self-attention that sees the source too; None where it does not."""
    rest: dict[str, Any]
    """Those of `stack_ends.NAMES` that there are."""
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
    memory: SourceCache | None
    """None without attention to a source."""
    joint: SourceCache | None
    """What self-attention sees of the source; None where it sees none."""
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
    memory = joint = None
    if "encoder_attn" in stacked:
        memory = source_projection(stacked["encoder_attn"], dtype=dtype)
    if getattr(cfg, "cross_self_attention", False):
        joint = source_projection(stacked["self_attn"], dtype=dtype)
    return DecoderWeights(
        table=table, positions=step_positions(cfg, decoder, dim=cfg.decoder_embed_dim),
        layers=layers, memory=memory, joint=joint,
        rest={n: decoder[n] for n in stack_ends.NAMES if n in decoder},
        projection=_cast(projection[0], dtype), project=projection[1], look_up=look_up,
    )


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
    cfg: Any, weights: DecoderWeights, encoded: Encoded | None, *, beam: int, capacity: int,
    batch: int | None = None,
) -> DecoderCache:
    """An empty cache; for a language model `encoded` is None and `batch` is given."""
    heads = cfg.decoder_attention_heads
    memory = joint = None
    if encoded is not None:
        batch = encoded.out.shape[0]
        memory, joint = (
            None if p is None else project_source(p, encoded.out, encoded.mask, heads=heads)
            for p in (weights.memory, weights.joint)
        )
    assert batch is not None
    shape = (batch, heads, capacity * beam, cfg.decoder_embed_dim // heads)
    empty = (jnp.zeros(shape, weights.layers[0]["fc1"]["kernel"].dtype),) * cfg.decoder_layers
    return DecoderCache(keys=empty, values=empty, memory=memory, joint=joint, beam=beam)


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
    beam, capacity = ancestors.shape[1:]
    heads, form = cfg.decoder_attention_heads, decoder_form(cfg)
    # [B, 1, W, C, W]: hypothesis w sees, at position c, the slot that its ancestor held.
    slots = ancestors[:, None, :, :, None] == jnp.arange(beam)
    seen = slots & (jnp.arange(capacity) <= position)[None, None, None, :, None]
    bias = jnp.where(seen, 0.0, MASKED).reshape(*seen.shape[:3], capacity * beam)
    keys, values = list(cache.keys), list(cache.values)

    def mix(layer: int, y: jax.Array) -> jax.Array:
        """Self-attention over the cache, which gets this position's keys and values."""
        w, at = weights.layers[layer], (0, 0, position * beam, 0)
        q, k, v = (split_heads(part, heads) for part in jnp.split(project(w["qkv"], y), 3, -1))
        keys[layer] = jax.lax.dynamic_update_slice(keys[layer], k, at)
        values[layer] = jax.lax.dynamic_update_slice(values[layer], v, at)
        source = [] if cache.joint is None else [cache.joint.seen(layer)]
        return project(w["out"], attend(q, [*source, (keys[layer], values[layer], bias)]))

    def read(layer: int, y: jax.Array) -> tuple[jax.Array, None]:
        assert cache.memory is not None
        w, source = weights.layers[layer], cache.memory.seen(layer)
        return read_source(w["memory_q"], w["memory_out"], y, source, heads=heads)

    x = _embed(cfg, weights, tokens, position)
    for i, w in enumerate(weights.layers):
        x, _ = decoder_layer.layer(
            w, x, form=form, mix=functools.partial(mix, i),
            read=None if cache.memory is None else functools.partial(read, i),
        )
    features = Features(
        hidden=stack_ends.leave(weights.rest, x), projection=weights.projection,
        project=weights.project,
    )
    return features, dataclasses.replace(cache, keys=tuple(keys), values=tuple(values))


def _embed(
    cfg: Any, weights: DecoderWeights, tokens: jax.Array, position: jax.Array
) -> jax.Array:
    """[B, W, D]: the first layer's input."""
    if weights.look_up is None:
        x = embed(weights.table, tokens, pad=None)
    else:
        x = weights.look_up(weights.table, tokens)
    rows = weights.positions
    if rows is not None:
        rows = jax.lax.dynamic_index_in_dim(rows, position, keepdims=False)
    return stack_ends.enter(
        weights.rest, x, rows, scale=embedding_scale(cfg, cfg.decoder_embed_dim),
        dtype=weights.layers[0]["fc1"]["kernel"].dtype,
    )
