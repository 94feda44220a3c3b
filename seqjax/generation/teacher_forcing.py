"""Pairs of sources and targets in batches of few static shapes, to be run teacher-forced.

Plain NumPy on ids, but for `previous_tokens`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.generation.decoding_plan import plan_decoding, round_up_to_power
from seqjax.models.protocol import EncoderDecoder

LEAST_WIDTH = 16
"""Narrower shapes do not pay for their compilation."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PairBatch:
    """Pairs that are run together."""

    indices: tuple[int, ...]
    """Their numbers in the input, one for each of the first rows."""
    source: np.ndarray
    """[B, S] int32, right-padded."""
    target: np.ndarray
    """[B, T] int32, right-padded: each side has a width of its own."""
    start: np.ndarray
    """[B] int32: what decoding begins with."""


def pair_batches(
    models: Sequence[EncoderDecoder], sources: Sequence[np.ndarray],
    targets: Sequence[np.ndarray], *, max_tokens: int, batch_size: int,
    starts: Sequence[int] | None = None,
) -> Iterator[PairBatch]:
    """Every pair once, those of like length together.

    Args:
      models: that shall take the pairs.
      sources, targets: int32 ids with their final eos, as many of each.
      max_tokens: tokens of a batch on its longer side, padding included.
      batch_size: pairs of a batch at most.
      starts: what decoding of each target begins with (None: the models' eos).

    Raises:
      ValueError: an empty or over-long side of a pair, by its number from 0.
    """
    if len(sources) != len(targets):
        raise ValueError(f"there are {len(sources)} sources but {len(targets)} targets")
    limits = (min(m.max_source_positions for m in models),
              min(m.max_target_positions for m in models))
    _check("source", sources, limits[0])
    _check("target", targets, limits[1])
    longer = [max(len(s), len(t)) for s, t in zip(sources, targets, strict=True)]
    for batch in plan_decoding(
        longer, max_tokens=max_tokens, batch_size=batch_size, least_width=LEAST_WIDTH
    ):
        source, target = (
            _padded([side[i] for i in batch.indices], rows=batch.rows, pad=models[0].pad,
                    limit=limit)
            for side, limit in zip((sources, targets), limits, strict=True))
        start = np.full(batch.rows, models[0].eos, np.int32)
        if starts is not None:
            start[:len(batch.indices)] = [starts[i] for i in batch.indices]
        yield PairBatch(indices=batch.indices, source=source, target=target, start=start)


def previous_tokens(
    target: jax.Array, segments: jax.Array | None = None, *, pad: int,
    start: int | jax.Array,
) -> jax.Array:
    """What the decoder reads to predict `target` [B, T]: each sentence shifted right by one,
    behind `start`.

    fairseq moves the final eos (of mBART's targets the final language token) to the front, which
    is the same for a sentence that ends in `start`. Padding behind the sentences stays padding; a
    `<pad>` within one is a token.

    Args:
      start: what decoding begins with (`TargetForm.start`): eos as a rule; or of each row [B]; or,
        when packed, of the sentence at each position [B, T].
      segments: [B, T] 1, 2, ... per sentence of a row, 0 on padding, when packed.
    """
    start = jnp.asarray(start, target.dtype)
    start = jnp.broadcast_to(start[:, None] if start.ndim == 1 else start, target.shape)
    shifted = jnp.concatenate([start[:, :1], target[:, :-1]], axis=1)
    if segments is None:
        left = jnp.cumsum((target != pad)[:, ::-1], axis=1)[:, ::-1]
        return jnp.where(left > 0, shifted, pad)
    before = jnp.pad(segments[:, :-1], ((0, 0), (1, 0)))
    return jnp.where(segments > 0, jnp.where(segments != before, start, shifted), pad)


def _check(side: str, rows: Sequence[np.ndarray], most: int) -> None:
    for i, ids in enumerate(rows):
        if not len(ids):
            raise ValueError(f"{side} {i} has no tokens (not even eos)")
        if len(ids) > most:
            raise ValueError(f"{side} {i} has {len(ids)} tokens, but the model takes at most "
                             f"{most}: shorten or leave out that pair")


def _padded(ids: Sequence[np.ndarray], *, rows: int, pad: int, limit: int) -> np.ndarray:
    """[rows, a power of two, or `limit` where that is less]."""
    width = min(round_up_to_power(max(map(len, ids)), least=LEAST_WIDTH), limit)
    side = np.full((rows, width), pad, np.int32)
    for row, one in enumerate(ids):
        side[row, :len(one)] = one
    return side


def final_token_first(
    target: jax.Array, segments: jax.Array | None = None, *, pad: int
) -> jax.Array:
    """What the decoder reads to predict `target` [B, T], in which there is no padding but behind
    the sentences: each sentence's final token, whichever it is, and then the others, as fairseq's
    collating moves it.

    Args:
      segments: [B, T] 1, 2, ... per sentence of a row, 0 on padding, when packed.
    """
    segments = (target != pad).astype(jnp.int32) if segments is None else segments
    real = segments > 0
    begins = segments != jnp.pad(segments[:, :-1], ((0, 0), (1, 0)))
    ends = segments != jnp.pad(segments[:, 1:], ((0, 0), (0, 1)))
    index = jnp.broadcast_to(jnp.arange(target.shape[1]), target.shape)
    last = jax.lax.cummin(jnp.where(ends, index, target.shape[1] - 1), axis=1, reverse=True)
    final = jnp.take_along_axis(target, last, axis=1)
    shifted = jnp.pad(target[:, :-1], ((0, 0), (1, 0)))
    return jnp.where(real, jnp.where(begins, final, shifted), pad)
