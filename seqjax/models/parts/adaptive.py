"""Adaptive input and adaptive softmax: rare words in fewer dimensions.

Baevski and Auli 2019, Grave et al. 2017; fairseq's `AdaptiveInput` and `AdaptiveSoftmax`.
Words, ordered by frequency, are cut into bands at `cutoffs`; band i has `factor ** i` times
fewer dimensions. The softmax is of two levels: the head holds the words of the first band
and one class per tail cluster, a tail its words given its class. The loss over clusters is
in `seqjax.losses.adaptive`.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax.typing import DTypeLike

from seqjax.models.parts.initializers import xavier_uniform
from seqjax.models.parts.layers import Embedding, Linear, dropout, embed, linear
from seqjax.models.protocol import Params, tempered

PAD = 1


def band_ends(cutoffs: tuple[int, ...], vocab_size: int, *, key: str) -> tuple[int, ...]:
    """Where each band ends; the last one ends with the vocabulary.

    Raises:
      ValueError: a cutoff beyond the vocabulary; names `key`.
    """
    if cutoffs[-1] > vocab_size:
        raise ValueError(
            f"config.model.{key}: {cutoffs} does not fit a dictionary of {vocab_size} entries; "
            "cutoffs must not exceed it"
        )
    return cutoffs if cutoffs[-1] == vocab_size else (*cutoffs, vocab_size)


def band_widths(width: int, factor: float, bands: int) -> tuple[int, ...]:
    """Dimensions of each band; where nothing is left none, as in fairseq."""
    return tuple(int(width // factor**i) for i in range(bands))


def check_input_widths(width: int, factor: float, bands: int) -> None:
    """Raises ValueError for an adaptive input with a band without dimensions, which could tell
    none of its words from another (fairseq stops on it too)."""
    if band_widths(width, factor, bands)[-1] < 1:
        raise ValueError(
            f"config.model.adaptive_input_factor: {bands} bands of a width of {width}, each "
            f"{factor:g} times narrower than the one before, leave nothing for the last"
        )


@functools.cache  # once, however often a model is built
def check_softmax_widths(width: int, factor: float, bands: int) -> None:
    """Warns of clusters without dimensions: models of fairseq's have them."""
    empty = sum(w < 1 for w in band_widths(width, factor, bands))
    if empty:
        warnings.warn(
            f"the adaptive softmax has {bands} clusters of a width of {width}, each {factor:g} "
            f"times narrower than the one before: nothing is left for the last {empty}, whose "
            "words are all equally likely; fewer cutoffs or a smaller factor help", stacklevel=3)


def _sizes(ends: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(end - start for start, end in zip((0, *ends), ends, strict=False))


@struct.dataclass
class AdaptiveTable:
    """The bands of an adaptive input, ready to be looked up."""

    rows: tuple[jax.Array, ...]
    """[V_i, D_i]: words of band i."""
    kernels: tuple[jax.Array, ...]
    """[D_i, D]: from band i to the model's width."""
    ends: tuple[int, ...] = struct.field(pytree_node=False)


def look_up(table: AdaptiveTable, ids: jax.Array, *, dtype: DTypeLike = jnp.float32) -> jax.Array:
    """[..., D] for `ids` [...]; every id is projected through every band and one is kept,
    which costs less than sorting ids into bands."""
    result, start = None, 0
    for rows, kernel, end in zip(table.rows, table.kernels, table.ends, strict=True):
        y = linear(embed(rows, ids - start, pad=PAD if start == 0 else None), kernel, None,
                   dtype=dtype)
        result = y if result is None else jnp.where((ids >= start)[..., None], y, result)
        start = end
    assert result is not None
    return result


class _Band(nn.Module):
    """Words of one band and their projection."""

    rows: int
    width: int
    dim: int

    def setup(self) -> None:
        self.embed = Embedding(self.rows, self.width, PAD)
        self.proj = _bias_free(self.width, self.dim)

    def __call__(self) -> tuple[jax.Array, jax.Array]:
        return self.embed.embedding, self.proj.kernel


class AdaptiveInput(nn.Module):
    """fairseq's `AdaptiveInput`: an embedding whose rare words are narrow."""

    ends: tuple[int, ...]
    widths: tuple[int, ...]
    dim: int
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        self.embeddings = [
            _Band(rows, width, self.dim)
            for rows, width in zip(_sizes(self.ends), self.widths, strict=True)
        ]

    def __call__(self, ids: jax.Array) -> jax.Array:
        rows, kernels = zip(*(band() for band in self.embeddings), strict=True)
        return look_up(AdaptiveTable(rows=rows, kernels=kernels, ends=self.ends), ids,
                       dtype=self.dtype)


def input_table(params: Params, ends: tuple[int, ...]) -> AdaptiveTable:
    """The table of an `AdaptiveInput`'s parameters."""
    bands = [params[f"embeddings_{i}"] for i in range(len(ends))]
    return AdaptiveTable(
        rows=tuple(b["embed"]["embedding"] for b in bands),
        kernels=tuple(b["proj"]["kernel"] for b in bands), ends=ends,
    )


class _Tail(nn.Module):
    """One tail cluster; what is tied to the adaptive input has no parameter here."""

    dim: int
    width: int
    rows: int
    own_proj: bool
    own_words: bool

    def setup(self) -> None:
        if self.own_proj:
            self.proj = _bias_free(self.dim, self.width)
        if self.own_words:
            self.out = _bias_free(self.width, self.rows)

    def __call__(self) -> list[jax.Array]:
        """Touches every parameter."""
        own = [*([self.proj] if self.own_proj else []), *([self.out] if self.own_words else [])]
        return [layer.kernel for layer in own]


def _bias_free(width: int, features: int) -> Linear:
    return Linear(width, features, use_bias=False, kernel_init=xavier_uniform())


def ties_softmax(config: object) -> bool:
    """Whether the words of an adaptive softmax are the bands of an adaptive input, which
    translation models do not have."""
    return getattr(config, "tie_adaptive_weights", False)


class AdaptiveSoftmax(nn.Module):
    """Parameters of fairseq's `AdaptiveSoftmax`; `output_projection` computes with them."""

    dim: int
    ends: tuple[int, ...]
    factor: float
    tie_weights: bool
    tie_proj: bool

    def setup(self) -> None:
        tails = len(self.ends) - 1
        if self.tie_weights:
            self.class_proj = _bias_free(self.dim, tails)
        else:
            self.head = _bias_free(self.dim, self.ends[0] + tails)
        widths = band_widths(self.dim, self.factor, len(self.ends))
        self.tail = [
            _Tail(self.dim, width, rows, not (self.tie_weights and self.tie_proj),
                  not self.tie_weights)
            if width else None  # nothing to learn, and nothing to save
            for width, rows in zip(widths[1:], _sizes(self.ends)[1:], strict=True)
        ]

    def __call__(self) -> list[jax.Array]:
        """Touches every parameter."""
        head = self.class_proj if self.tie_weights else self.head
        return [head.kernel, *(k for tail in self.tail if tail is not None for k in tail())]


@struct.dataclass
class AdaptiveProjection:
    """The output layer in pieces: what `seqjax.losses.adaptive` and `log_probs` work on."""

    head: jax.Array
    """[ends[0] + n, D]: the first band's words, then a class for each of n tails."""
    down: tuple[jax.Array, ...]
    """[D_i, D] per tail."""
    words: tuple[jax.Array, ...]
    """[V_i, D_i] per tail."""
    key: jax.Array | None
    """For dropout inside the tails; None without."""
    ends: tuple[int, ...] = struct.field(pytree_node=False)
    dropout: float = struct.field(pytree_node=False)
    temperature: float = struct.field(pytree_node=False, default=1.0)
    """What the logits of the head, and those of each tail, are divided by."""

    def tempered(self, temperature: float) -> AdaptiveProjection:
        """The same at another temperature. It is each cluster's own, as in fairseq: class and
        word given the class are tempered, not the distribution that both make together."""
        return dataclasses.replace(self, temperature=temperature)

    def head_logits(self, hidden: jax.Array) -> jax.Array:
        """Float32 [..., ends[0] + n] of `hidden` [..., D]."""
        return self._divided(_times(hidden, self.head, jnp.float32))

    def tail_hidden(self, index: int, hidden: jax.Array) -> jax.Array:
        """[..., D_i]: `hidden` in the narrower space of a tail, with its dropout."""
        narrow = _times(hidden, self.down[index], hidden.dtype)
        key = None if self.key is None else jax.random.fold_in(self.key, index)
        return dropout(narrow, self.dropout, key)

    def tail_logits(self, index: int, narrow: jax.Array) -> jax.Array:
        """Float32 [..., V_i] from `tail_hidden`."""
        return self._divided(_times(narrow, self.words[index], jnp.float32))

    def _divided(self, logits: jax.Array) -> jax.Array:
        return logits if self.temperature == 1.0 else tempered(logits, self.temperature)


def _times(x: jax.Array, table: jax.Array, out: Any) -> jax.Array:
    """`x` [..., D] times the rows of `table` [N, D], computed in the type of `x`."""
    return jax.lax.dot_general(
        x, table.astype(x.dtype), (((x.ndim - 1,), (1,)), ((), ())), preferred_element_type=out
    )


def log_probs(projection: AdaptiveProjection, hidden: jax.Array) -> jax.Array:
    """Float32 log-probabilities [..., V] over the whole vocabulary."""
    first = projection.ends[0]
    head = jax.nn.log_softmax(projection.head_logits(hidden))
    parts = [head[..., :first]]
    for i in range(len(projection.words)):
        tail = projection.tail_logits(i, projection.tail_hidden(i, hidden))
        parts.append(jax.nn.log_softmax(tail) + head[..., first + i, None])
    return jnp.concatenate(parts, axis=-1)


def _down(tail: Params, tied: jax.Array | None, head: jax.Array) -> jax.Array:
    """[D_i, D]: into the space of a tail."""
    if "proj" in tail:
        return tail["proj"]["kernel"].T
    return jnp.zeros((0, head.shape[1]), head.dtype) if tied is None else tied


def output_projection(
    params: Params, table: AdaptiveTable | None, *, ends: tuple[int, ...],
    dropout: float = 0.0, key: jax.Array | None = None,
) -> AdaptiveProjection:
    """The pieces of an `AdaptiveSoftmax`. Clusters without dimensions have no parameters.

    Args:
      params: its parameters.
      table: the adaptive input that it is tied to (None: not tied).
      key: for dropout (None: none).
    """
    tails = [params[f"tail_{i}"] if f"tail_{i}" in params else {} for i in range(len(ends) - 1)]
    if table is None:
        head = params["head"]["kernel"].T
        words = tuple(tail["out"]["kernel"].T if tail else jnp.zeros((rows, 0), head.dtype)
                      for tail, rows in zip(tails, _sizes(ends)[1:], strict=True))
    else:
        head = jnp.concatenate([table.rows[0], params["class_proj"]["kernel"].T])
        words = table.rows[1:]
    down = tuple(_down(tail, None if table is None else table.kernels[i + 1], head)
                 for i, tail in enumerate(tails))
    return AdaptiveProjection(
        head=head, down=down, words=words, key=key, ends=ends, dropout=dropout
    )
