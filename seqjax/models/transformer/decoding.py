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
from jax.typing import DTypeLike

from seqjax.models.parts import decoder_layer
from seqjax.models.parts.attention import MASKED
from seqjax.models.parts.cached_attention import (
    SourceCache,
    SourceProjection,
    attend,
    project_source,
    source_projection,
    split_heads,
)
from seqjax.models.parts.layers import project
from seqjax.models.parts.step_weights import StepWeights, separated, surroundings
from seqjax.models.protocol import Encoded, Features, Params, Project, Projection
from seqjax.models.transformer.config import DecoderConfig
from seqjax.models.transformer.modules import decoder_form, embedding_scale


@struct.dataclass
class DecoderWeights(StepWeights):
    """A transformer decoder's parameters, q, k and v of self-attention fused."""

    joint: SourceProjection | None = None
    """For self-attention that sees the source too; None where it does not."""


@struct.dataclass
class DecoderCache:
    """Keys and values, one entry a layer.

    Positions and slots share an axis, c * W + w: XLA then updates in place. Apart, it
    reads one copy and writes another.
    """

    keys: tuple[jax.Array, ...]
    """[B, H, K, C * W]."""
    values: tuple[jax.Array, ...]
    """[B, H, C * W, K]."""
    memory: SourceCache | None
    """None without attention to a source."""
    joint: SourceCache | None
    """What self-attention sees of the source; None where it sees none."""
    beam: int = struct.field(pytree_node=False)
    """W."""


def prepare(
    cfg: DecoderConfig, decoder: Params, *, table: Any,
    projection: tuple[Projection, Project], dtype: DTypeLike, pad: int,
) -> DecoderWeights:
    """Unstacks layers and fuses projections of the decoder's parameters.

    Args:
      cfg: configuration with fairseq's `decoder_*` keys.
      decoder: parameters with `layers` stacked.
      table: embedding of target tokens: rows, or an adaptive input's bands.
      projection: (arrays, function) of the output layer.
      dtype: type of matrix products.
      pad: id of padding.
    """
    stacked = decoder["layers"]
    layers = [separated(stacked, i, dtype=dtype) for i in range(cfg.decoder_layers)]
    for layer in layers:
        own = layer.pop("self_attn")
        parts = [own[name] for name in ("q_proj", "k_proj", "v_proj")]
        layer["qkv"] = jax.tree.map(lambda *arrays: jnp.concatenate(arrays, axis=-1), *parts)
        layer["out"] = own["out_proj"]
    joint = None
    if getattr(cfg, "cross_self_attention", False):
        joint = source_projection(stacked["self_attn"], dtype=dtype)
    return DecoderWeights(layers=tuple(layers), joint=joint, **surroundings(
        cfg, decoder, width=cfg.decoder_embed_dim, table=table, projection=projection,
        dtype=dtype, pad=pad,
    ))


def start(
    cfg: DecoderConfig, weights: DecoderWeights, encoded: Encoded | None, *, rows: int,
    beam: int, capacity: int,
) -> DecoderCache:
    """An empty cache; for a language model `encoded` is None."""
    heads = cfg.decoder_attention_heads
    memory = joint = None
    if encoded is not None:
        memory, joint = (
            None if p is None else project_source(p, encoded.out, encoded.mask, heads=heads)
            for p in (weights.memory, weights.joint)
        )
    size, length = cfg.decoder_embed_dim // heads, capacity * beam
    keys = (jnp.zeros((rows, heads, size, length), weights.dtype),) * cfg.decoder_layers
    values = (jnp.zeros((rows, heads, length, size), weights.dtype),) * cfg.decoder_layers
    return DecoderCache(keys=keys, values=values, memory=memory, joint=joint, beam=beam)


def grow(cache: DecoderCache, *, capacity: int) -> DecoderCache:
    """The same cache with `capacity` positions."""
    extra = (0, capacity * cache.beam - cache.values[0].shape[2])
    none = (0, 0)
    return dataclasses.replace(
        cache, keys=tuple(jnp.pad(k, (none, none, none, extra)) for k in cache.keys),
        values=tuple(jnp.pad(v, (none, none, extra, none)) for v in cache.values),
    )


def step(
    cfg: DecoderConfig, weights: DecoderWeights, tokens: jax.Array, cache: DecoderCache, *,
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
        w, place = weights.layers[layer], position * beam
        q, k, v = (split_heads(part, heads) for part in jnp.split(project(w["qkv"], y), 3, -1))
        keys[layer] = jax.lax.dynamic_update_slice(
            keys[layer], k.swapaxes(2, 3), (0, 0, 0, place))
        values[layer] = jax.lax.dynamic_update_slice(values[layer], v, (0, 0, place, 0))
        source = [] if cache.joint is None else [cache.joint.seen(layer)]
        return project(w["out"], attend(q, [*source, (keys[layer], values[layer], bias)]))

    x = weights.enter(tokens, position, scale=embedding_scale(cfg, cfg.decoder_embed_dim))
    for i, w in enumerate(weights.layers):
        x, _ = decoder_layer.layer(
            w, x, form=form, mix=functools.partial(mix, i),
            read=weights.reading(cache.memory, i, heads=heads),
        )
    cache = dataclasses.replace(cache, keys=tuple(keys), values=tuple(values))
    return weights.features(x), cache
