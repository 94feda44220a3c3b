"""fairseq's `fconv`: convolutional sequence to sequence learning (Gehring et al. 2017).

`FConvModel` is a `protocol.EncoderDecoder`. While decoding, every layer keeps a ring of its
last few inputs, which is written in place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from seqjax.models.fconv import layers
from seqjax.models.fconv.config import ConvSpec, FConvConfig, FConvLanguageModelConfig
from seqjax.models.parts.attention import segment_mask
from seqjax.models.parts.layers import dropout, embed, fan_in_uniform
from seqjax.models.parts.module_model import SizedModel
from seqjax.models.parts.outputs import project_biased, project_tied
from seqjax.models.parts.parameters import Param
from seqjax.models.parts.windows import empty_ring, push, windows
from seqjax.models.protocol import Encoded, Features, Params, Source

PAD = 1
EOS = 2


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
class ConvolutionalModel(SizedModel):
    """What the translation and the language model share: the decoder."""

    config: FConvConfig | FConvLanguageModelConfig

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
        return self._features(weights, hidden, attention), cache

    def grow(self, cache: Cache, *, capacity: int) -> Cache:
        """The same: a ring has one size."""
        del capacity
        return cache

    def reorder(self, cache: Cache, parents: jax.Array) -> Cache:
        """The same: history is found through the ancestor table."""
        del parents
        return cache

    def _features(
        self, weights: Weights, hidden: jax.Array, attention: jax.Array | None
    ) -> Features:
        return Features(
            hidden=hidden, projection=weights.projection, project=weights.project,
            attention=None if attention is None else attention[None, :, None],
        )


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

    def init(self, rng: jax.Array) -> Params:
        cfg, dim, rate = self.config, self.config.encoder_embed_dim, self.config.dropout
        encoder = {
            "embed_tokens": layers.embedding(self.source_vocab_size, dim),
            "embed_positions": layers.embedding(cfg.max_source_positions, dim),
            **layers.stack_parameters(cfg.encoder_convolutions, dim, dropout=rate),
            "fc2": layers.dense(cfg.encoder_convolutions[-1].channels, dim),
        }
        out = cfg.decoder_out_embed_dim
        decoder = {
            "embed_tokens": layers.embedding(self.target_vocab_size, cfg.decoder_embed_dim),
            "embed_positions": layers.embedding(cfg.max_target_positions, cfg.decoder_embed_dim),
            **layers.stack_parameters(
                cfg.decoder_convolutions, cfg.decoder_embed_dim, dropout=rate,
                attending=cfg.attending,
            ),
            "fc2": layers.dense(cfg.decoder_convolutions[-1].channels, out),
            "fc3": layers.dense(out, self.target_vocab_size, dropout=rate),
        }
        if cfg.share_input_output_embed:
            decoder["fc3"] = {"bias": Param((self.target_vocab_size,), fan_in_uniform(out))}
        return layers.start(rng, {"encoder": encoder, "decoder": decoder})

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
        assert encoded is not None
        weights = self.prepare(params)
        memory = self._memory(encoded)
        if segments is not None:
            if encoded.segments is None:
                raise ValueError("packed targets need packed sources: encode with segments")
            mask = segment_mask(segments, encoded.segments)[:, 0]
            memory = dataclasses.replace(memory, mask=mask)
        hidden, attention = self._hidden(
            weights, prev_output_tokens, memory, segments=segments,
            rng=None if rng is None else jax.random.fold_in(rng, 1),
        )
        return self._features(weights, hidden, attention)

    def prepare(self, params: Params) -> Weights:
        cfg, decoder, dtype = self.config, params["decoder"], self.compute_dtype
        if cfg.share_input_output_embed:
            table = decoder["embed_tokens"]["embedding"].astype(dtype)
            projection, project = {"table": table, **decoder["fc3"]}, project_tied
        else:
            projection, project = layers.folded(decoder["fc3"], dtype), project_biased
        return Weights(
            stack=layers.fold(decoder, len(cfg.decoder_convolutions), dtype=dtype),
            fc2=layers.folded(decoder["fc2"], dtype), projection=projection, project=project,
        )

    def start(
        self, weights: Weights, encoded: Encoded | None, *, rows: int, beam: int, capacity: int,
    ) -> Cache:
        del weights, capacity  # rings have one size
        assert encoded is not None
        rings = empty_rings(
            self.config.decoder_convolutions, batch=rows, beam=beam,
            dtype=self.compute_dtype,
        )
        return Cache(rings=rings, memory=self._memory(encoded))

    def _memory(self, encoded: Encoded) -> layers.Memory:
        return layers.Memory(
            keys=encoded.out, values=encoded.state, mask=encoded.mask[:, None]
        )
