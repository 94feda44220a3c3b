"""fairseq's `fconv`: convolutional sequence to sequence learning (Gehring et al. 2017).

`FConvModel` is a `protocol.EncoderDecoder`. While decoding, every layer keeps a ring of its
last few inputs, which is written in place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from seqjax.models.fconv import layers
from seqjax.models.fconv.config import ConvSpec, FConvConfig, FConvLanguageModelConfig
from seqjax.models.fconv.modules import Side
from seqjax.models.parts.layers import dropout, embed
from seqjax.models.parts.module_model import PAD
from seqjax.models.parts.outputs import project_biased, project_tied
from seqjax.models.parts.prepared_model import PreparedModel, features_of, source_mask
from seqjax.models.parts.windows import empty_ring, push, windows
from seqjax.models.protocol import Encoded, Features, Params, Source


@struct.dataclass
class Weights:
    """What `step` needs."""

    stack: layers.StackWeights
    fc2: dict[str, jax.Array] | None
    """In front of an ordinary output projection."""
    projection: Any
    project: Any = struct.field(pytree_node=False)


@struct.dataclass
class Cache:
    """The hypotheses' last inputs and the sentences' sources."""

    rings: tuple[jax.Array, ...]
    """Per layer [B, width, W, C]."""
    memory: layers.Memory | None


def memory(encoded: Encoded | None, segments: jax.Array | None) -> layers.Memory | None:
    """The source, if there is one, as attention reads it for whole rows of `segments`."""
    if encoded is None:
        return None
    mask = source_mask(encoded, segments)
    return layers.Memory(
        keys=encoded.out, values=encoded.state, mask=mask[:, None] if mask.ndim == 2 else mask)


def empty_rings(
    specs: Sequence[ConvSpec], *, batch: int, beam: int, dtype: Any
) -> tuple[jax.Array, ...]:
    """A ring for every layer."""
    inputs = [specs[0].channels, *(spec.channels for spec in specs[:-1])]
    return tuple(
        empty_ring(batch=batch, width=spec.width, beam=beam, channels=channels, dtype=dtype)
        for spec, channels in zip(specs, inputs, strict=True)
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvolutionalModel(PreparedModel):
    """What the translation and the language model share: the decoder."""

    config: FConvConfig | FConvLanguageModelConfig

    def _prepared(self, params: Params, key: jax.Array | None) -> Weights:
        cfg, decoder, dtype = self.config, params["decoder"], self.compute_dtype
        stack = layers.fold(decoder, len(cfg.decoder_convolutions), dtype=dtype)
        if self._output_ends is not None:
            projection, project = self._clusters(decoder, key, dropout=self._softmax_dropout)
            return Weights(stack=stack, fc2=None, projection=projection, project=project)
        fc2 = layers.folded(decoder["fc2"], dtype)
        if "weight_v" in decoder["fc3"]:
            projection, project = layers.folded(decoder["fc3"], dtype), project_biased
        else:
            table = stack.table.astype(dtype)
            projection, project = {"table": table, **decoder["fc3"]}, project_tied
        return Weights(stack=stack, fc2=fc2, projection=projection, project=project)

    def _hidden(
        self, weights: Weights, tokens: jax.Array, memory: layers.Memory | None, *,
        segments: jax.Array | None, rng: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array | None]:
        """States in front of the output layer, teacher-forced, and attention."""
        cfg, specs = self.config, self.config.decoder_convolutions
        keys: Any = (None,) * (len(specs) + 2)
        if rng is not None:
            keys = jax.random.split(rng, len(specs) + 2)
        stack = weights.stack
        x = embed(stack.table, tokens, pad=PAD)
        x = x + layers.position_rows(stack.positions, tokens, segments)
        x = dropout(x, cfg.dropout, keys[-1]).astype(self.compute_dtype)
        hidden, attention = layers.decode(
            stack, specs, x, memory, rate=cfg.dropout, keys=keys, remat=cfg.remat,
            window=lambda i, y: windows(y, specs[i].width, specs[i].width - 1, segments),
        )
        if weights.fc2 is not None:
            hidden = dropout(layers.apply(weights.fc2, hidden), cfg.dropout, keys[-2])
        return hidden, attention

    def step(
        self, weights: Weights, tokens: jax.Array, cache: Cache, *,
        position: jax.Array, ancestors: jax.Array,
    ) -> tuple[Features, Cache]:
        """See `protocol.EncoderDecoder.step`."""
        specs, stack, rings = self.config.decoder_convolutions, weights.stack, list(cache.rings)
        x = embed(stack.table, tokens, pad=None)
        if stack.positions is not None:
            row = position + PAD + 1
            x = x + jax.lax.dynamic_index_in_dim(stack.positions, row, keepdims=False)

        def window(layer: int, y: jax.Array) -> jax.Array:
            seen, rings[layer] = push(
                rings[layer], y, position=position, ancestors=ancestors
            )
            return seen

        hidden, attention = layers.decode(
            stack, specs, x.astype(self.compute_dtype), cache.memory, window=window, rate=0.0,
            keys=(None,) * len(specs), remat="none",
        )
        if weights.fc2 is not None:
            hidden = layers.apply(weights.fc2, hidden)
        cache = dataclasses.replace(cache, rings=tuple(rings))
        return features_of(weights, hidden, attention), cache

    def start(
        self, weights: Weights, encoded: Encoded | None, *, rows: int, beam: int, capacity: int,
    ) -> Cache:
        """See `protocol`."""
        del weights, capacity  # rings have one size
        rings = empty_rings(
            self.config.decoder_convolutions, batch=rows, beam=beam, dtype=self.compute_dtype)
        return Cache(rings=rings, memory=memory(encoded, None))

    def grow(self, cache: Cache, *, capacity: int) -> Cache:
        """The same: a ring has one size."""
        del capacity
        return cache

    def reorder(self, cache: Cache, parents: jax.Array) -> Cache:
        """The same: history is found through the ancestor table."""
        del parents
        return cache


@dataclasses.dataclass(frozen=True, kw_only=True)
class FConvModel(ConvolutionalModel):
    """`protocol.EncoderDecoder` for fairseq's `fconv`."""

    config: FConvConfig

    @property
    def max_source_positions(self) -> int:
        return self.config.max_source_positions - PAD - 1

    @property
    def max_target_positions(self) -> int:
        return self.config.max_target_positions - PAD - 1

    @property
    def _sides(self) -> Mapping[str, nn.Module]:
        cfg = self.config
        return {
            "encoder": Side(
                cfg.encoder_convolutions, cfg.encoder_embed_dim, self.source_vocab_size,
                cfg.dropout, positions=cfg.max_source_positions, out=cfg.encoder_embed_dim),
            "decoder": Side(
                cfg.decoder_convolutions, cfg.decoder_embed_dim, self.target_vocab_size,
                cfg.dropout, positions=cfg.max_target_positions, attending=cfg.attending,
                out=cfg.decoder_out_embed_dim, output_size=self.target_vocab_size,
                tied=cfg.share_input_output_embed),
        }

    def encode(
        self, params: Params, source: Source, *, rng: jax.Array | None = None,
    ) -> Encoded:
        """See `protocol`; `state` is what attention takes the mean of [B, S, E]."""
        cfg, specs, dtype = self.config, self.config.encoder_convolutions, self.compute_dtype
        keys: Any = (None,) * (len(specs) + 1)
        if rng is not None:
            keys = jax.random.split(jax.random.fold_in(rng, 0), len(specs) + 1)
        weights = layers.fold(params["encoder"], len(specs), dtype=dtype)
        real, segments = source.mask, source.segments
        x = embed(weights.table, source.values, pad=PAD)
        x = x + layers.position_rows(weights.positions, source.values, segments)
        embedded = dropout(x, cfg.dropout, keys[-1]).astype(dtype)
        x = layers.encode(
            weights, specs, embedded, real, segments=segments, rate=cfg.dropout, keys=keys,
            remat=cfg.remat,
        )
        x = layers.apply(layers.folded(params["encoder"]["fc2"], dtype), x)
        x = jnp.where(real[..., None], x, 0)
        # Every attending layer sends a gradient back: scaled down, the forward pass is not.
        share = 1.0 / (2.0 * sum(cfg.attending))
        constant = jax.lax.stop_gradient(x)
        x = constant + share * (x - constant)
        return Encoded(
            out=x, mask=real, segments=source.visible_segments, state=(x + embedded) * layers.HALF)

    def features(
        self, params: Params, prev_output_tokens: jax.Array, encoded: Encoded | None = None, *,
        segments: jax.Array | None = None, rng: jax.Array | None = None,
    ) -> Features:
        """See `protocol`; the attention is [1, B, 1, T, S], fairseq's mean."""
        weights = self.prepare(params)
        hidden, attention = self._hidden(
            weights, prev_output_tokens, memory(encoded, segments), segments=segments,
            rng=None if rng is None else jax.random.fold_in(rng, 1),
        )
        return features_of(weights, hidden, attention)
