"""Arithmetic of LSTM encoders and decoders: plain functions of parameters and states.

The decoder's `advance` computes one position and is used for whole sequences (inside a
scan over time) and for search alike. Gates are in torch's order: input, forget, cell,
output.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from seqjax.models.lstm.config import LSTMConfig, LSTMLanguageModelConfig
from seqjax.models.parts.attention import MASKED
from seqjax.models.parts.layers import dropout, linear
from seqjax.models.protocol import Encoded, Params


def directions(cfg: LSTMConfig, layer: int) -> tuple[str, ...]:
    """Names of an encoder layer's parameters, from left to right and, if there are two, from right
    to left."""
    return (f"l{layer}", f"l{layer}_reverse")[: 2 if cfg.encoder_bidirectional else 1]


def cell(gates: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One LSTM update.

    Args:
      gates: [..., 4H] before their nonlinearities.
      state: [..., H] float32 cell.

    Returns:
      Hidden state [..., H] in the type of `gates`, and the new cell in float32.
    """
    i, f, g, o = jnp.split(gates.astype(jnp.float32), 4, axis=-1)
    state = jax.nn.sigmoid(f) * state + jax.nn.sigmoid(i) * jnp.tanh(g)
    return (jax.nn.sigmoid(o) * jnp.tanh(state)).astype(gates.dtype), state


def encode_layer(
    directions: list[Params], x: jax.Array, real: jax.Array, starts: list[jax.Array], *,
    dtype: Any, unroll: int,
) -> tuple[jax.Array, jax.Array]:
    """One layer over whole sequences, all directions in one scan.

    Args:
      directions: parameters from left to right, and from right to left if there are two.
      x: [B, S, D].
      real: [B, S] bool; padding leaves the state as it is.
      starts: per direction [B, S] bool, where the state begins at zero.

    Returns:
      Hidden states and cells of every position, [G, B, S, H] for G directions.
    """

    def timed(a: jax.Array, backward: bool) -> jax.Array:  # [B, S, ...] -> [S, B, ...]
        return (jnp.flip(a, 1) if backward else a).swapaxes(0, 1)

    gates, kernels = [], []
    for g, layer in enumerate(directions):
        bias = layer["ih"]["bias"] + layer["hh"]["bias"]
        gates.append(timed(linear(x, layer["ih"]["kernel"], bias, dtype=dtype), g == 1))
        kernels.append(layer["hh"]["kernel"].astype(dtype))
    kernel = jnp.stack(kernels)  # [G, H, 4H]
    flags = [(timed(real, g == 1), timed(starts[g], g == 1)) for g in range(len(directions))]
    inputs = (
        jnp.stack(gates, axis=1),  # [S, G, B, 4H]
        jnp.stack([f[0] for f in flags], axis=1)[..., None],
        jnp.stack([f[1] for f in flags], axis=1)[..., None],
    )

    def turn(carry: tuple, step: tuple) -> tuple[tuple, tuple]:
        hidden, state = carry
        gates, real, start = step
        hidden = jnp.where(start, jnp.zeros((), dtype), hidden)
        state = jnp.where(start, 0.0, state)
        update = jnp.einsum("gbh,ghk->gbk", hidden, kernel)
        new_hidden, new_state = cell(gates + update, state)
        carry = jnp.where(real, new_hidden, hidden), jnp.where(real, new_state, state)
        return carry, carry

    shape = (len(directions), x.shape[0], kernel.shape[1])
    zero = jnp.zeros(shape, dtype), jnp.zeros(shape, jnp.float32)
    _, (hidden, state) = jax.lax.scan(turn, zero, inputs, unroll=unroll)

    def placed(a: jax.Array) -> jax.Array:  # [S, G, B, H] -> [G, B, S, H], in reading order
        a = a.transpose(1, 2, 0, 3)
        return a if a.shape[0] == 1 else a.at[1].set(jnp.flip(a[1], 1))

    return placed(hidden), placed(state)


@struct.dataclass
class Finals:
    """The encoder's last states, per layer: what the decoder's states start from."""

    hidden: tuple[jax.Array, ...]
    """[B, N, H_encoder]; N is 1, or S when packed (position s: of the sentence of s)."""
    cell: tuple[jax.Array, ...]


@struct.dataclass
class Memory:
    """The encoder's output as attention reads it."""

    keys: jax.Array
    """[B, S, H]."""
    values: jax.Array
    """[B, S, H], already through the output projection's part for the context."""
    bias: jax.Array
    """[B, 1, S] float32 (packed: [B, T, S]): 0, or a large negative number where hidden."""


@struct.dataclass
class State:
    """A decoder's recurrent state for W hypotheses."""

    hidden: tuple[jax.Array, ...]
    """[B, W, H] per layer."""
    cell: tuple[jax.Array, ...]
    """[B, W, H] float32 per layer."""
    feed: jax.Array | None
    """[B, W, H]: the output before, fed back as input; None for a language model."""


@struct.dataclass
class DecoderWeights:
    """A decoder's parameters, fused: one matrix product a layer and position."""

    embed_kernel: jax.Array
    """[E, 4H]: the first layer's gates from the embedding."""
    kernels: tuple[jax.Array, ...]
    """Per layer [inputs + H, 4H]; the first one's inputs are the feed."""
    biases: tuple[jax.Array, ...]
    attention: dict[str, jax.Array] | None
    """keys [D, H], context [D, H], query [H, H]."""
    residuals: bool = struct.field(pytree_node=False)


def fuse(
    cfg: LSTMConfig | LSTMLanguageModelConfig, decoder: Params, *, dtype: Any
) -> DecoderWeights:
    """The decoder's parameters as `advance` wants them; differentiable."""
    embed = cfg.decoder_embed_dim
    kernels, biases, embed_kernel = [], [], None
    for i in range(cfg.decoder_layers):
        layer = decoder[f"layers_{i}"]
        inputs = layer["ih"]["kernel"]
        if i == 0:
            embed_kernel, inputs = inputs[:embed], inputs[embed:]
        kernels.append(jnp.concatenate([inputs, layer["hh"]["kernel"]]).astype(dtype))
        biases.append((layer["ih"]["bias"] + layer["hh"]["bias"]).astype(dtype))
    attention = None
    if "attention" in decoder:
        output = decoder["attention"]["output_proj"]["kernel"]
        units = output.shape[0] - cfg.decoder_width
        attention = {
            "keys": decoder["attention"]["input_proj"]["kernel"].T.astype(dtype),
            "context": output[:units].astype(dtype), "query": output[units:].astype(dtype),
        }
    assert embed_kernel is not None
    return DecoderWeights(
        embed_kernel=embed_kernel.astype(dtype), kernels=tuple(kernels), biases=tuple(biases),
        attention=attention, residuals=getattr(cfg, "residuals", False),
    )


def remember(
    weights: DecoderWeights, encoded: Encoded | None, mask: jax.Array | None
) -> Memory | None:
    """Attention's keys and values of a source, or None without attention.

    Args:
      encoded: of the source (None: there is none).
      mask: [B, S], or [B, T, S] when packed: what may be seen.
    """
    if weights.attention is None or encoded is None or mask is None:
        return None
    dtype = weights.embed_kernel.dtype
    bias = jnp.where(mask, 0.0, MASKED)
    return Memory(
        keys=linear(encoded.out, weights.attention["keys"], None, dtype=dtype),
        values=linear(encoded.out, weights.attention["context"], None, dtype=dtype),
        bias=bias[:, None] if mask.ndim == 2 else bias,
    )


def attend(
    weights: DecoderWeights, hidden: jax.Array, memory: Memory
) -> tuple[jax.Array, jax.Array]:
    """Luong's attention: hidden [B, W, H] -> output [B, W, H], probabilities [B, W, S]."""
    assert weights.attention is not None
    scores = jnp.einsum(
        "bwh,bsh->bws", hidden, memory.keys, preferred_element_type=jnp.float32
    )
    probs = jax.nn.softmax(scores + memory.bias, axis=-1)
    context = jnp.einsum("bws,bsh->bwh", probs.astype(hidden.dtype), memory.values)
    query = linear(hidden, weights.attention["query"], None, dtype=hidden.dtype)
    return jnp.tanh(context + query), probs


def advance(
    weights: DecoderWeights, gates: jax.Array, state: State, memory: Memory | None, *,
    drop: Callable[[jax.Array, int], jax.Array] = lambda x, place: x,
) -> tuple[jax.Array, jax.Array | None, State]:
    """One position.

    Args:
      gates: [B, W, 4H], the first layer's gates from the embedding.
      drop: (x, which) -> x with the output's dropout.

    Returns:
      Output [B, W, H], attention [B, W, S] or None, the new state.
    """
    inputs, hiddens, cells = state.feed, [], []
    hidden = state.hidden[0]
    for i, (kernel, bias) in enumerate(zip(weights.kernels, weights.biases, strict=True)):
        before = state.hidden[i]
        both = before if inputs is None else jnp.concatenate([inputs, before], axis=-1)
        total = linear(both, kernel, bias, dtype=both.dtype)
        hidden, new_cell = cell(total + gates if i == 0 else total, state.cell[i])
        inputs = drop(hidden, i)
        if weights.residuals:
            # fairseq adds the layer's own state of the position before, not its input.
            inputs = inputs + before
        hiddens.append(hidden)
        cells.append(new_cell)
    out, probs = (hidden, None) if memory is None else attend(weights, hidden, memory)
    out = drop(out, len(hiddens))
    feed = None if state.feed is None else out
    return out, probs, State(hidden=tuple(hiddens), cell=tuple(cells), feed=feed)


def decode(
    weights: DecoderWeights, embedded: jax.Array, first: State, memory: Memory | None, *,
    restart: tuple[jax.Array, State] | None, rate: float, rng: jax.Array | None, unroll: int,
) -> tuple[jax.Array, jax.Array | None]:
    """All positions, teacher-forced.

    Args:
      embedded: [B, T, E].
      first: state in front of the first position, W = 1.
      memory: with a bias [B, T, S] when packed.
      restart: packed only: ([B, T] bool where a sentence starts, the state it starts
        from with [B, T, H] arrays).
      rate, rng: dropout of the outputs.

    Returns:
      Outputs [B, T, H] and attention [B, T, S] or None.
    """
    length = embedded.shape[1]
    gates = linear(embedded, weights.embed_kernel, None, dtype=weights.embed_kernel.dtype)
    steps: dict[str, Any] = {"gates": gates.swapaxes(0, 1)[:, :, None]}
    if rng is not None:
        steps["key"] = jax.random.split(rng, length)
    if memory is not None and memory.bias.shape[1] > 1:
        steps["bias"] = memory.bias.swapaxes(0, 1)[:, :, None]
    if restart is not None:
        steps["restart"] = jax.tree.map(lambda a: a.swapaxes(0, 1)[:, :, None], restart)

    def turn(state: State, step: dict[str, Any]) -> tuple[State, tuple]:
        if "restart" in step:
            start, initial = step["restart"]
            state = jax.tree.map(lambda a, b: jnp.where(start[..., None], b, a), state, initial)
        seen = memory
        if memory is not None and "bias" in step:
            seen = dataclasses.replace(memory, bias=step["bias"])

        def drop(x: jax.Array, place: int) -> jax.Array:
            if rng is None:
                return x
            return dropout(x, rate, jax.random.fold_in(step["key"], place))

        out, probs, state = advance(weights, step["gates"], state, seen, drop=drop)
        return state, (out[:, 0], None if probs is None else probs[:, 0])

    _, (out, probs) = jax.lax.scan(turn, first, steps, unroll=unroll)
    return out.swapaxes(0, 1), None if probs is None else probs.swapaxes(0, 1)
