"""Position-by-position decoding with lightweight or dynamic convolutions.

Plain functions over prepared weights, shared by the translation and the language model.
Every layer keeps a ring of its last few inputs; hypotheses find theirs through the ancestor
table, keys and values of the source exist once per sentence.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import DTypeLike

from seqjax.models.lightconv.config import DecoderConfig
from seqjax.models.lightconv.layers import block, normalise, taps
from seqjax.models.lightconv.modules import decoder_form
from seqjax.models.parts import decoder_layer
from seqjax.models.parts.cached_attention import SourceCache, project_source
from seqjax.models.parts.step_weights import StepWeights, separated, surroundings
from seqjax.models.parts.windows import empty_ring, push
from seqjax.models.protocol import Encoded, Features, Params, Project, Projection


@struct.dataclass
class DecoderCache:
    """The hypotheses' last inputs and the sentences' sources, one entry a layer."""

    rings: tuple[jax.Array, ...]
    """[B, K, W, C]."""
    memory: SourceCache | None
    """None for a language model."""


def prepare(
    cfg: DecoderConfig, decoder: Params, *, table: Any,
    projection: tuple[Projection, Project], dtype: DTypeLike, pad: int,
) -> StepWeights:
    """Unstacks the decoder's layers and normalises lightweight convolutions.

    Args:
      table: embedding of target tokens: rows, or an adaptive input's bands.
      projection: (arrays, function) of the output layer.
      pad: id of padding.
    """
    layers = []
    for i, width in enumerate(cfg.decoder_kernels):
        layer = separated(decoder["layers"], i, dtype=dtype)
        conv = decoder[f"convs_{i}"]
        if cfg.decoder_conv_type == "dynamic":
            kernel = conv["weight_linear"]["kernel"].astype(dtype)
            layer["conv"] = kernel.reshape(-1, cfg.decoder_attention_heads, width)
        else:
            layer["conv"] = normalise(conv["weight"], None, softmax=cfg.weight_softmax)
        layers.append(layer)
    return StepWeights(layers=tuple(layers), **surroundings(
        cfg, decoder, width=cfg.decoder_width, table=table, projection=projection, dtype=dtype,
        pad=pad,
    ))


def start(
    cfg: DecoderConfig, weights: StepWeights, encoded: Encoded | None, *, rows: int, beam: int,
    capacity: int,
) -> DecoderCache:
    """Empty rings, which have one size; for a language model `encoded` is None."""
    del capacity
    memory = None
    if encoded is not None:
        assert weights.memory is not None
        memory = project_source(
            weights.memory, encoded.out, encoded.mask, heads=cfg.decoder_attention_heads)
    return DecoderCache(
        rings=tuple(
            empty_ring(batch=rows, width=width, beam=beam, channels=cfg.decoder_channels,
                       dtype=weights.dtype)
            for width in cfg.decoder_kernels
        ),
        memory=memory,
    )


def grow(cache: DecoderCache, *, capacity: int) -> DecoderCache:
    """The same: rings have one size."""
    del capacity
    return cache


def step(
    cfg: DecoderConfig, weights: StepWeights, tokens: jax.Array, cache: DecoderCache, *,
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

    x = weights.enter(tokens, position, scale=cfg.decoder_width**0.5)
    for i, w in enumerate(weights.layers):
        x, _ = decoder_layer.layer(
            w, x, form=form, mix=functools.partial(mix, i),
            read=weights.reading(cache.memory, i, heads=heads),
        )
    return weights.features(x), dataclasses.replace(cache, rings=tuple(rings))
