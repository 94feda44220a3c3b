"""fairseq's `lstm`: a recurrent encoder-decoder with attention and input feeding.

`LSTMModel` is a `protocol.EncoderDecoder`. Sources are padded on the right (fairseq turns
its left-padded ones round first); its state while decoding is small, so `reorder` gathers.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from seqjax.models.lstm import layers
from seqjax.models.lstm.config import LSTMConfig, LSTMLanguageModelConfig
from seqjax.models.parts.adaptive import AdaptiveSoftmax, log_probs, output_projection
from seqjax.models.parts.attention import segment_mask
from seqjax.models.parts.layers import dropout, embed, linear
from seqjax.models.parts.module_model import SizedModel
from seqjax.models.parts.outputs import ADAPTIVE_FACTOR, project_biased, project_table
from seqjax.models.parts.parameters import Param, initialise, zero_row
from seqjax.models.protocol import Encoded, Features, Params, Source

PAD = 1
EOS = 2


def embedding(rows: int, dim: int) -> dict[str, Param]:
    """An embedding's parameters: U(-0.1, 0.1) with a zero row for padding."""
    return {"embedding": Param((rows, dim), zero_row(layers.INIT, PAD))}


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
    weights: Weights, finals: layers.Finals, rows: jax.Array | None, *, feed: bool, dtype: Any
) -> layers.State:
    """What decoding starts from.

    Args:
      finals: the encoder's last states [B, N, H_encoder].
      rows: [B, T] which of the N each position starts from (None: the only one).
      feed: whether outputs are fed back.

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
    return layers.State(
        hidden=hidden, cell=cell, feed=jnp.zeros_like(hidden[0]) if feed else None
    )


def segment_starts(segments: jax.Array | None, like: jax.Array) -> jax.Array:
    """[B, T] bool: where a sentence starts; only at the front when not packed."""
    if segments is None:
        return jnp.broadcast_to(jnp.arange(like.shape[1]) == 0, like.shape[:2])
    previous = jnp.pad(segments[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    return segments != previous


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurrentModel(SizedModel):
    """What the translation and the language model share: from decoder states to logits."""

    config: LSTMConfig | LSTMLanguageModelConfig

    def __post_init__(self) -> None:
        self._check_softmax(self.config.decoder_width, ADAPTIVE_FACTOR)

    def _init_output(self, rng: jax.Array) -> Params:
        """Parameters behind the recurrent layers."""
        cfg, tree = self.config, {}
        wide, output = jax.random.split(rng)
        if cfg.decoder_width != cfg.decoder_out_embed_dim:
            # With an adaptive softmax fairseq has it as well, and makes no use of it.
            fc = layers.dense(cfg.decoder_width, cfg.decoder_out_embed_dim)
            tree["additional_fc"] = initialise(wide, fc)
        if self._output_ends is not None:
            softmax = AdaptiveSoftmax(
                cfg.decoder_width, self._output_ends, ADAPTIVE_FACTOR, False, False
            )
            tree["adaptive_softmax"] = softmax.init(output)["params"]
        elif not cfg.ties_output:
            fc = layers.dense(cfg.decoder_out_embed_dim, self.target_vocab_size)
            tree["fc_out"] = initialise(output, fc)
        return tree

    def _weights(
        self, decoder: Params, table: jax.Array, *, key: jax.Array | None, residuals: bool = False
    ) -> Weights:
        """`key` is for dropout inside an adaptive softmax."""
        cfg, dtype = self.config, self.compute_dtype
        if self._output_ends is not None:
            projection: Any = output_projection(
                decoder["adaptive_softmax"], None, ends=self._output_ends, key=key,
                dropout=cfg.decoder_out_rate,
            )
            project = log_probs
        elif cfg.ties_output:
            projection, project = table.astype(dtype), project_table
        else:
            kernel = decoder["fc_out"]["kernel"].astype(dtype)
            projection, project = {**decoder["fc_out"], "kernel": kernel}, project_biased
        names = ("encoder_hidden_proj", "encoder_cell_proj")
        return Weights(
            table=table, decoder=layers.fuse(cfg, decoder, dtype=dtype, residuals=residuals),
            bridge={name: decoder[name] for name in names if name in decoder},
            additional_fc=None if self._output_ends is not None else decoder.get("additional_fc"),
            projection=projection, project=project,
        )

    def _features(
        self, weights: Weights, out: jax.Array, probs: jax.Array | None,
        key: jax.Array | None = None,
    ) -> Features:
        """`key` is for the dropout of what goes into the output layer."""
        rate = self.config.decoder_out_rate
        if weights.additional_fc is not None:
            fc = weights.additional_fc
            out = linear(out, fc["kernel"], fc["bias"], dtype=self.compute_dtype)
            out = dropout(out, rate, key)
        elif self._output_ends is not None:
            out = dropout(out, rate, key)
        return Features(
            hidden=out, projection=weights.projection, project=weights.project,
            attention=None if probs is None else probs[None, :, None],
        )

    def step(
        self, weights: Weights, tokens: jax.Array, cache: Cache, *,
        position: jax.Array, ancestors: jax.Array,
    ) -> tuple[Features, Cache]:
        """See `protocol.EncoderDecoder.step`."""
        del position, ancestors  # the state holds all of the past
        x = embed(weights.table, tokens, pad=None)
        gates = linear(x, weights.decoder.embed_kernel, None, dtype=self.compute_dtype)
        out, probs, state = layers.advance(weights.decoder, gates, cache.state, cache.memory)
        return self._features(weights, out, probs), dataclasses.replace(cache, state=state)

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
        if self.config.share_all_embeddings and self.source_vocab_size != self.target_vocab_size:
            raise ValueError(
                "config.model.share_all_embeddings needs a joined dictionary; the source has "
                f"{self.source_vocab_size} entries, the target {self.target_vocab_size} "
                "(preprocess with --joined-dictionary)"
            )

    @property
    def max_source_positions(self) -> int:
        return self.config.max_source_positions

    def init(self, rng: jax.Array) -> Params:
        cfg = self.config
        width, directions = cfg.encoder_width, 2 if cfg.encoder_bidirectional else 1
        lstm = {}
        for i in range(cfg.encoder_layers):
            inputs = cfg.encoder_embed_dim if i == 0 else cfg.encoder_units
            for name in (f"l{i}", f"l{i}_reverse")[:directions]:
                lstm[name] = layers.recurrent(inputs, width)
        encoder = {
            "embed_tokens": embedding(self.source_vocab_size, cfg.encoder_embed_dim),
            "lstm": lstm,
        }
        decoder = layers.decoder_parameters(
            cfg, units=cfg.encoder_units, attention=cfg.decoder_attention
        )
        if not cfg.share_all_embeddings:
            decoder["embed_tokens"] = embedding(self.target_vocab_size, cfg.decoder_embed_dim)
        first, second = jax.random.split(rng)
        params = initialise(first, {"encoder": encoder, "decoder": decoder})
        params["decoder"].update(self._init_output(second))
        return params

    def encode(
        self, params: Params, source: Source, *, rng: jax.Array | None = None,
    ) -> Encoded:
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
            names = (f"l{i}", f"l{i}_reverse")[: 2 if cfg.encoder_bidirectional else 1]
            states, cell = layers.encode_layer(
                [params["encoder"]["lstm"][name] for name in names], x, real, starts,
                dtype=self.compute_dtype, unroll=cfg.time_unroll,
            )
            x = dropout(_joined(states), cfg.encoder_out_rate, keys[i])
            hidden.append(_joined(_final(states, segments)))
            cells.append(_joined(_final(cell, segments)))
        finals = layers.Finals(hidden=tuple(hidden), cell=tuple(cells))
        return Encoded(out=x, mask=real, segments=segments, state=finals)

    def features(
        self, params: Params, prev_output_tokens: jax.Array, encoded: Encoded | None = None, *,
        segments: jax.Array | None = None, rng: jax.Array | None = None,
    ) -> Features:
        """See `protocol`; the attention, if there is one, is [1, B, 1, T, S]."""
        assert encoded is not None
        cfg = self.config
        keys = (None,) * 4 if rng is None else jax.random.split(jax.random.fold_in(rng, 1), 4)
        weights = self._weights(params["decoder"], self._target_table(params), key=keys[3])
        x = embed(weights.table, prev_output_tokens, pad=PAD)
        x = dropout(x, cfg.decoder_in_rate, keys[0]).astype(self.compute_dtype)
        mask, restart, rows = encoded.mask, None, None
        if segments is not None:
            if encoded.segments is None:
                raise ValueError("packed targets need packed sources: encode with segments")
            mask = segment_mask(segments, encoded.segments)[:, 0]
            rows = mask.argmax(-1)
        first = first_state(weights, encoded.state, rows, feed=True, dtype=self.compute_dtype)
        if segments is not None:
            restart = segment_starts(segments, x), first
            first = jax.tree.map(lambda a: a[:, :1], first)
        out, probs = layers.decode(
            weights.decoder, x, first, layers.remember(weights.decoder, encoded.out, mask),
            restart=restart, rate=cfg.decoder_out_rate, rng=keys[1], unroll=cfg.time_unroll,
        )
        return self._features(weights, out, probs, keys[2])

    def prepare(self, params: Params) -> Weights:
        return self._weights(params["decoder"], self._target_table(params), key=None)

    def start(
        self, weights: Weights, encoded: Encoded | None, *, rows: int, beam: int, capacity: int,
    ) -> Cache:
        del rows, capacity  # a recurrent state has one size
        assert encoded is not None
        state = first_state(
            weights, encoded.state, None, feed=True, dtype=self.compute_dtype
        )
        state = jax.tree.map(lambda a: jnp.repeat(a, beam, axis=1), state)
        memory = layers.remember(weights.decoder, encoded.out, encoded.mask)
        return Cache(state=state, memory=memory)

    def _source_table(self, params: Params) -> jax.Array:
        cfg, table = self.config, params["encoder"]["embed_tokens"]["embedding"]
        frozen = cfg.encoder_freeze_embed or (
            cfg.decoder_freeze_embed and cfg.share_all_embeddings
        )
        return jax.lax.stop_gradient(table) if frozen else table

    def _target_table(self, params: Params) -> jax.Array:
        if self.config.share_all_embeddings:
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
