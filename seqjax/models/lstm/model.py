"""fairseq's `lstm`: a recurrent encoder-decoder with attention and input feeding.

`LSTMModel` is a `protocol.EncoderDecoder`. Sources are padded on the right (fairseq turns
its left-padded ones round first); its state while decoding is small, so `reorder` gathers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax.typing import DTypeLike

from seqjax.models.lstm import layers
from seqjax.models.lstm.config import LSTMConfig, LSTMLanguageModelConfig
from seqjax.models.lstm.modules import Decoder, Encoder
from seqjax.models.parts.layers import dropout, embed, linear
from seqjax.models.parts.module_model import PAD
from seqjax.models.parts.outputs import ADAPTIVE_FACTOR, project_biased, project_table
from seqjax.models.parts.prepared_model import PreparedModel, features_of, source_mask
from seqjax.models.protocol import Encoded, Features, Params, Source


@struct.dataclass
class Weights:
    """What `step` needs."""

    table: jax.Array
    """[V, E] embedding of target tokens."""
    decoder: layers.DecoderWeights
    bridge: Params
    """encoder_hidden_proj and encoder_cell_proj, where sizes differ."""
    additional_fc: Params | None
    projection: Any
    project: Any = struct.field(pytree_node=False)


@struct.dataclass
class Cache:
    """The hypotheses' states and the sentences' sources."""

    state: layers.State
    memory: layers.Memory | None


def first_state(
    weights: Weights, finals: layers.Finals, rows: jax.Array | None, *, dtype: DTypeLike
) -> layers.State:
    """What decoding with a source starts from.

    Args:
      finals: the encoder's last states [B, N, H_encoder].
      rows: [B, T] which of the N each position starts from (None: the only one).

    Returns:
      A state of [B, T or 1, H] arrays.
    """

    def one(a: jax.Array, name: str) -> jax.Array:
        if rows is not None:
            a = jnp.take_along_axis(a, rows[:, :, None], axis=1)
        if name in weights.bridge:
            a = linear(a, weights.bridge[name]["kernel"], weights.bridge[name]["bias"], dtype=dtype)
        return a

    hidden = tuple(one(a, "encoder_hidden_proj").astype(dtype) for a in finals.hidden)
    cell = tuple(one(a, "encoder_cell_proj").astype(jnp.float32) for a in finals.cell)
    return layers.State(hidden=hidden, cell=cell, feed=jnp.zeros_like(hidden[0]))


def segment_starts(segments: jax.Array | None, like: jax.Array) -> jax.Array:
    """[B, T] bool: where a sentence starts; only at the front when not packed."""
    if segments is None:
        return jnp.broadcast_to(jnp.arange(like.shape[1]) == 0, like.shape[:2])
    previous = jnp.pad(segments[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    return segments != previous


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurrentModel(PreparedModel):
    """What the translation and the language model share: the decoder."""

    config: LSTMConfig | LSTMLanguageModelConfig

    def __post_init__(self) -> None:
        self._check_softmax(self.config.decoder_width, ADAPTIVE_FACTOR)

    def _target_table(self, params: Params) -> jax.Array:
        """[V, E], the embedding of target tokens."""
        raise NotImplementedError

    def _prepared(self, params: Params, key: jax.Array | None) -> Weights:
        cfg, dtype, decoder = self.config, self.compute_dtype, params["decoder"]
        table = self._target_table(params)
        additional_fc = decoder.get("additional_fc")
        if self._output_ends is not None:
            projection, project = self._clusters(decoder, key, dropout=cfg.decoder_out_rate)
            additional_fc = None
        elif cfg.ties_output:
            projection, project = table.astype(dtype), project_table
        else:
            kernel = decoder["fc_out"]["kernel"].astype(dtype)
            projection, project = {**decoder["fc_out"], "kernel": kernel}, project_biased
        names = ("encoder_hidden_proj", "encoder_cell_proj")
        return Weights(
            table=table, decoder=layers.fuse(cfg, decoder, dtype=dtype),
            bridge={name: decoder[name] for name in names if name in decoder},
            additional_fc=additional_fc, projection=projection, project=project,
        )

    def _output(
        self, weights: Weights, out: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """What the output layer reads; `key` is for its dropout."""
        rate = self.config.decoder_out_rate
        if weights.additional_fc is not None:
            fc = weights.additional_fc
            out = linear(out, fc["kernel"], fc["bias"], dtype=self.compute_dtype)
        elif self._output_ends is None:
            return out
        return dropout(out, rate, key)

    def _first(
        self, weights: Weights, encoded: Encoded | None, shape: tuple[int, int],
        rows: jax.Array | None,
    ) -> layers.State:
        """What decoding starts from: [B, T or 1, H] arrays.

        Args:
          shape: (B, T or 1).
          rows: [B, T] which of the encoder's last states each position starts from (None: there
            is one).
        """
        if encoded is not None:
            return first_state(weights, encoded.state, rows, dtype=self.compute_dtype)
        size, count = (*shape, self.config.decoder_width), self.config.decoder_layers
        return layers.State(
            hidden=(jnp.zeros(size, self.compute_dtype),) * count,
            cell=(jnp.zeros(size, jnp.float32),) * count, feed=None,
        )

    def features(
        self, params: Params, prev_output_tokens: jax.Array, encoded: Encoded | None = None, *,
        segments: jax.Array | None = None, rng: jax.Array | None = None,
    ) -> Features:
        """See `protocol`; the attention, if there is one, is [1, B, 1, T, S]."""
        cfg = self.config
        if rng is not None and encoded is not None:
            rng = jax.random.fold_in(rng, 1)  # the encoder has another
        keys = (None,) * 4 if rng is None else jax.random.split(rng, 4)
        weights = self._prepared(params, keys[3])
        x = embed(weights.table, prev_output_tokens, pad=PAD)
        x = dropout(x, cfg.decoder_in_rate, keys[0]).astype(self.compute_dtype)
        mask = None if encoded is None else source_mask(encoded, segments)
        rows = None if mask is None or segments is None else mask.argmax(-1)
        length = 1 if segments is None else x.shape[1]
        first, restart = self._first(weights, encoded, (x.shape[0], length), rows), None
        if segments is not None:
            restart = segment_starts(segments, x), first
            first = jax.tree.map(lambda a: a[:, :1], first)
        out, probs = layers.decode(
            weights.decoder, x, first, layers.remember(weights.decoder, encoded, mask),
            restart=restart, rate=cfg.decoder_out_rate, rng=keys[1], unroll=cfg.time_unroll,
        )
        return features_of(weights, self._output(weights, out, keys[2]), probs)

    def start(
        self, weights: Weights, encoded: Encoded | None, *, rows: int, beam: int, capacity: int,
    ) -> Cache:
        """See `protocol`."""
        del capacity  # a recurrent state has one size
        state = self._first(weights, encoded, (rows, 1), None)
        state = jax.tree.map(lambda a: jnp.repeat(a, beam, axis=1), state)
        mask = None if encoded is None else encoded.mask
        return Cache(state=state, memory=layers.remember(weights.decoder, encoded, mask))

    def step(
        self, weights: Weights, tokens: jax.Array, cache: Cache, *,
        position: jax.Array, ancestors: jax.Array,
    ) -> tuple[Features, Cache]:
        """See `protocol.EncoderDecoder.step`."""
        del position, ancestors  # the state holds all of the past
        x = embed(weights.table, tokens, pad=None)
        gates = linear(x, weights.decoder.embed_kernel, None, dtype=self.compute_dtype)
        out, probs, state = layers.advance(weights.decoder, gates, cache.state, cache.memory)
        cache = dataclasses.replace(cache, state=state)
        return features_of(weights, self._output(weights, out), probs), cache

    def grow(self, cache: Cache, *, capacity: int) -> Cache:
        """The same: a recurrent state has one size."""
        del capacity
        return cache

    def reorder(self, cache: Cache, parents: jax.Array) -> Cache:
        """The state in which slot w goes on from slot `parents[b, w]`."""
        state = jax.tree.map(
            lambda a: jnp.take_along_axis(a, parents[:, :, None], axis=1), cache.state
        )
        return dataclasses.replace(cache, state=state)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LSTMModel(RecurrentModel):
    """`protocol.EncoderDecoder` for fairseq's `lstm`."""

    config: LSTMConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_joined("share_all_embeddings needs")

    @property
    def max_source_positions(self) -> int:
        return self.config.max_source_positions

    @property
    def _sides(self) -> Mapping[str, nn.Module]:
        cfg = self.config
        return {
            "encoder": Encoder(cfg, self.source_vocab_size),
            "decoder": Decoder(
                cfg, None if cfg.shares_input else self.target_vocab_size,
                self.target_vocab_size, self._output_ends, cfg.encoder_units,
                cfg.decoder_attention),
        }

    def encode(
        self, params: Params, source: Source, *, rng: jax.Array | None = None,
    ) -> Encoded:
        """See `protocol`."""
        cfg, real, segments = self.config, source.mask, source.segments
        keys = [None] * (cfg.encoder_layers + 1)
        if rng is not None:
            keys = list(jax.random.split(jax.random.fold_in(rng, 0), len(keys)))
        x = embed(self._source_table(params), source.values, pad=PAD)
        x = dropout(x, cfg.encoder_in_rate, keys[-1]).astype(self.compute_dtype)
        last = segments if segments is None else jnp.flip(segments, 1)
        starts = [segment_starts(segments, real), jnp.flip(segment_starts(last, real), 1)]
        hidden, cells = [], []
        for i in range(cfg.encoder_layers):
            states, cell = layers.encode_layer(
                [params["encoder"]["lstm"][name] for name in layers.directions(cfg, i)],
                x, real, starts, dtype=self.compute_dtype, unroll=cfg.time_unroll,
            )
            x = dropout(_joined(states), cfg.encoder_out_rate, keys[i])
            hidden.append(_joined(_final(states, segments)))
            cells.append(_joined(_final(cell, segments)))
        finals = layers.Finals(hidden=tuple(hidden), cell=tuple(cells))
        return Encoded(out=x, mask=real, segments=segments, state=finals)

    def _source_table(self, params: Params) -> jax.Array:
        cfg, table = self.config, params["encoder"]["embed_tokens"]["embedding"]
        frozen = cfg.encoder_freeze_embed or (cfg.decoder_freeze_embed and cfg.shares_input)
        return jax.lax.stop_gradient(table) if frozen else table

    def _target_table(self, params: Params) -> jax.Array:
        if self.config.shares_input:
            return self._source_table(params)
        table = params["decoder"]["embed_tokens"]["embedding"]
        return jax.lax.stop_gradient(table) if self.config.decoder_freeze_embed else table


def _joined(a: jax.Array) -> jax.Array:
    """[G, B, S, H] -> [B, S, G * H]."""
    return jnp.concatenate(list(a), axis=-1)


def _final(a: jax.Array, segments: jax.Array | None) -> jax.Array:
    """Every direction's last state [G, B, N, H] from all its states [G, B, S, H].

    Padding leaves a state as it was, so the row's end holds it; packed sentences have
    theirs at their own ends.
    """
    if segments is None:
        return jnp.stack([a[0, :, -1:]] + [reverse[:, :1] for reverse in a[1:]])
    same = segments[:, :, None] == segments[:, None, :]
    index = jnp.arange(segments.shape[1])
    last = jnp.where(same, index, -1).max(-1)
    first = jnp.where(same, index, segments.shape[1]).min(-1)
    ends = [last, first][: a.shape[0]]
    return jnp.stack([
        jnp.take_along_axis(states, end[:, :, None], axis=1)
        for states, end in zip(a, ends, strict=True)
    ])
