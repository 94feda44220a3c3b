"""Position-by-position decoding with lightweight or dynamic convolutions.

Plain functions over prepared weights, shared by the translation and the language model.
Every layer keeps a ring of its last few inputs; hypotheses find theirs through the ancestor
table, keys and values of the source exist once per sentence.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from seqjax.models.lightconv.layers import block, normalise, taps
from seqjax.models.lightconv.modules import decoder_form
from seqjax.models.parts import decoder_layer, stack_ends
from seqjax.models.parts.cached_attention import (
    SourceCache,
    SourceProjection,
    project_source,
    read_source,
    source_projection,
)
from seqjax.models.parts.layers import embed
from seqjax.models.parts.positions import step_positions
from seqjax.models.parts.windows import empty_ring, push
from seqjax.models.protocol import Encoded, Features, Params


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
    memory: SourceProjection | None
    """For attention to the source; None for a language model."""
    rest: dict[str, Any]
    """Those of `stack_ends.NAMES` that there are."""
    projection: Any
    project: Any = struct.field(pytree_node=False)
    look_up: Any = struct.field(pytree_node=False)


@struct.dataclass
class DecoderCache:
    """The hypotheses' last inputs and the sentences' sources, one entry a layer."""

    rings: tuple[jax.Array, ...]
    """[B, K, W, C]."""
    memory: SourceCache | None
    """None for a language model."""


def prepare(
    cfg: Any, decoder: Params, *, table: Any, projection: tuple[Any, Any], dtype: Any,
    look_up: Callable[..., jax.Array] = look_up_rows,
) -> DecoderWeights:
    """Unstacks the decoder's layers and normalises lightweight convolutions.

    Args:
      table, look_up: embedding of target tokens and how it is read.
      projection: (arrays, function) of the output layer.
    """
    stacked, layers, memory = decoder["layers"], [], None
    if "encoder_attn" in stacked:
        memory = source_projection(stacked["encoder_attn"], dtype=dtype)
    for i, width in enumerate(cfg.decoder_kernels):
        layer = jax.tree.map(lambda a, i=i: a[i], stacked)
        attention = layer.pop("encoder_attn", {})
        norms = {name: value for name, value in layer.items() if name.endswith("norm")}
        for name in sorted({"q_proj", "out_proj"} & attention.keys()):
            layer[f"encoder_attn_{name}"] = attention[name]
        layer = {**_cast(layer, dtype), **norms}
        conv = decoder[f"convs_{i}"]
        if cfg.decoder_conv_type == "dynamic":
            kernel = conv["weight_linear"]["kernel"].astype(dtype)
            layer["conv"] = kernel.reshape(-1, cfg.decoder_attention_heads, width)
        else:
            layer["conv"] = normalise(conv["weight"], None, softmax=cfg.weight_softmax)
        layers.append(layer)
    arrays, project = projection
    return DecoderWeights(
        table=table, positions=step_positions(cfg, decoder, dim=cfg.decoder_width),
        layers=tuple(layers), memory=memory,
        rest={n: decoder[n] for n in stack_ends.NAMES if n in decoder}, look_up=look_up,
        projection=_cast(arrays, dtype), project=project,
    )


def _cast(tree: Params, dtype: Any) -> Params:
    return jax.tree.map(lambda a: a.astype(dtype), tree)


def start(
    cfg: Any, weights: DecoderWeights, encoded: Encoded | None, *, beam: int,
    batch: int | None = None,
) -> DecoderCache:
    """Empty rings; for a language model `encoded` is None and `batch` is given."""
    dtype = weights.layers[0]["fc1"]["kernel"].dtype
    memory = None
    if encoded is not None:
        batch = encoded.out.shape[0]
        assert weights.memory is not None
        memory = project_source(
            weights.memory, encoded.out, encoded.mask, heads=cfg.decoder_attention_heads)
    assert batch is not None
    return DecoderCache(
        rings=tuple(
            empty_ring(batch=batch, width=width, beam=beam, channels=cfg.decoder_channels,
                       dtype=dtype)
            for width in cfg.decoder_kernels
        ),
        memory=memory,
    )


def step(
    cfg: Any, weights: DecoderWeights, tokens: jax.Array, cache: DecoderCache, *,
    position: jax.Array, ancestors: jax.Array,
) -> tuple[Features, DecoderCache]:
    """One position for all hypotheses; see `protocol.EncoderDecoder.step`."""
    form, heads, rings = decoder_form(cfg), cfg.decoder_attention_heads, list(cache.rings)

    def convolution(layer: int, y: jax.Array) -> jax.Array:
        """Over the layer's ring, which gets this position's channels."""
        window, rings[layer] = push(rings[layer], y, position=position, ancestors=ancestors)
        window = window.reshape(*window.shape[:3], heads, -1)
        w = weights.layers[layer]["conv"]
        if w.ndim == 2:  # normalised once and for all
            return jnp.einsum("bwkhr,hk->bwhr", window, w.astype(y.dtype)).reshape(y.shape)
        found = taps(w, y, None, softmax=cfg.weight_softmax).astype(y.dtype)
        return jnp.einsum("bwkhr,bwhk->bwhr", window, found).reshape(y.shape)

    def mix(layer: int, y: jax.Array) -> jax.Array:
        w = weights.layers[layer]
        return block(w, y, functools.partial(convolution, layer), glu=cfg.decoder_glu)

    def read(layer: int, y: jax.Array) -> tuple[jax.Array, None]:
        assert cache.memory is not None
        w, source = weights.layers[layer], cache.memory.seen(layer)
        return read_source(
            w["encoder_attn_q_proj"], w["encoder_attn_out_proj"], y, source, heads=heads)

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
    return features, dataclasses.replace(cache, rings=tuple(rings))


def _embed(
    cfg: Any, weights: DecoderWeights, tokens: jax.Array, position: jax.Array
) -> jax.Array:
    """[B, W, D]: the first layer's input."""
    rows = weights.positions
    if rows is not None:
        rows = jax.lax.dynamic_index_in_dim(rows, position, keepdims=False)
    return stack_ends.enter(
        weights.rest, weights.look_up(weights.table, tokens), rows,
        scale=cfg.decoder_width**0.5, dtype=weights.layers[0]["fc1"]["kernel"].dtype,
    )
