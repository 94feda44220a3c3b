"""Which source token each target token belongs to, from attention.

Ids of pairs go in, positions or the attention itself come out: one teacher-forced pass over
pairs (fairseq's `SequenceGeneratorWithAlignment`); the search itself keeps no attention.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.config import ConfigError
from seqjax.generation.decoder import Decoded
from seqjax.generation.hypothesis import Ids
from seqjax.generation.teacher_forcing import pair_batches, previous_tokens
from seqjax.models.protocol import EncoderDecoder, Params, encode_tokens, source_attention

WAITING = 256
"""Hypotheses that are collected, at least, before they are aligned together."""


class Aligner:
    """Aligns pairs with one model, or with several whose attention is averaged."""

    def __init__(self, model: EncoderDecoder | Sequence[EncoderDecoder], *,
                 max_tokens: int = 12000, batch_size: int = 64):
        """
        Args:
          model: one model or several of the same vocabularies.
          max_tokens: tokens of a batch on its longer side, padding included.
          batch_size: pairs of a batch at most.
        """
        self.models = tuple(model) if isinstance(model, Sequence) else (model,)
        self.pad, self.eos = self.models[0].pad, self.models[0].eos
        self._limits = {"max_tokens": max_tokens, "batch_size": batch_size}
        self._attention = jax.jit(self._mean_attention)
        self._strongest = jax.jit(self._argmax)

    def attention(
        self, params: Params | Sequence[Params], sources: Sequence[Ids], targets: Sequence[Ids],
        *, starts: Sequence[int] | None = None,
    ) -> list[np.ndarray]:
        """Attention of each target token to the source tokens.

        Args:
          params: of the model, or a sequence of one per model.
          sources, targets: id sequences with their final eos.
          starts: what decoding of each target begins with (None: the model's eos).

        Returns:
          [T, S] float32 for each pair, both eos included.

        Raises:
          ValueError: a model without attention to the source; an empty or over-long side
            of a pair, by its number from 0.
        """
        sources, targets = _arrays(sources), _arrays(targets)
        out: list[np.ndarray] = [np.zeros((0, 0), np.float32)] * len(sources)
        for indices, found in self._run(self._attention, params, sources, targets, starts):
            for i, one in zip(indices, found, strict=False):
                out[i] = one[:len(targets[i]), :len(sources[i])].copy()
        return out

    def align(
        self, params: Params | Sequence[Params], sources: Sequence[Ids], targets: Sequence[Ids],
        *, starts: Sequence[int] | None = None,
    ) -> list[list[tuple[int, int]]]:
        """For each target token the source token that it looks at most.

        Arguments and errors are those of `attention`.

        Returns:
          Pairs (source place, target place) for each pair of sentences, by target place.
          Places are counted from 0 and leave out eos, which nothing is aligned with.
        """
        sources, targets = _arrays(sources), _arrays(targets)
        out: list[list[tuple[int, int]]] = [[] for _ in sources]
        for indices, found in self._run(self._strongest, params, sources, targets, starts):
            for i, strongest in zip(indices, found, strict=False):
                out[i] = self._pairs(sources[i], targets[i], strongest)
        return out

    def attach(
        self, parts: Iterable[Decoded], params: Params | Sequence[Params],
        sources: Sequence[Ids], *, alignment: str | None = None, unknown: int | None = None,
        starts: Sequence[int] | None = None,
    ) -> Iterator[Decoded]:
        """What a search found, with what is asked for; hypotheses are collected to be aligned
        together.

        Args:
          parts: results; their indices are places in `sources`.
          sources: ids of every source.
          alignment: `hard`: hypotheses get their `alignment`; `soft`: their `attention`.
          unknown: hypotheses that hold this token get their `alignment` in any case.
          starts: what decoding of each source began with (None: the model's eos).

        Raises:
          ConfigError: another kind of alignment.
          ValueError: a model without attention to the source. Both before the first part
            is asked for.
        """
        if alignment not in (None, "hard", "soft"):
            raise ConfigError(f"alignment: {alignment!r} is not 'hard' or 'soft'")
        if alignment is None and unknown is None:
            return iter(parts)
        one, start = (jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((1, 1), (1,)))
        jax.eval_shape(self._mean_attention, _each(params), one, one, start)
        starts = [self.eos] * len(sources) if starts is None else starts
        return self._attach(parts, params, list(zip(sources, starts, strict=True)),
                            (alignment, unknown))

    def _attach(
        self, parts: Iterable[Decoded], params: Params, sources: Sequence[tuple[Ids, int]],
        asked: tuple[str | None, int | None],
    ) -> Iterator[Decoded]:
        waiting: list[Decoded] = []
        for part in parts:
            waiting.append(part)
            if sum(len(hs) for p in waiting for hs in p.hypotheses) >= WAITING:
                yield self._attached(waiting, params, sources, asked)
                waiting = []
        if waiting:
            yield self._attached(waiting, params, sources, asked)

    def _attached(
        self, parts: Sequence[Decoded], params: Params, sources: Sequence[tuple[Ids, int]],
        asked: tuple[str | None, int | None],
    ) -> Decoded:
        """Args: sources: of each its ids and what decoding began with; asked: the kind of
        alignment, and the token whose hypotheses get one in any case."""
        alignment, unknown = asked
        indices = tuple(i for part in parts for i in part.indices)
        lists = [list(found) for part in parts for found in part.hypotheses]
        places = [(row, k) for row, found in enumerate(lists) for k in range(len(found))]

        def fill(field: str, compute: Callable[..., list], chosen: list[tuple[int, int]]) -> None:
            read = [sources[indices[row]] for row, _ in chosen]
            values = compute(params, [ids for ids, _ in read],
                             [lists[row][k].tokens for row, k in chosen],
                             starts=[start for _, start in read])
            for (row, k), value in zip(chosen, values, strict=True):
                lists[row][k] = dataclasses.replace(lists[row][k], **{field: value})

        if alignment == "soft":
            fill("attention", self.attention, places)
        if alignment != "hard":
            places = [(row, k) for row, k in places
                      if unknown is not None and unknown in lists[row][k].tokens]
        fill("alignment", self.align, places)
        return Decoded(indices=indices, hypotheses=lists)

    def _run(
        self, function: Callable[..., jax.Array], params: Params, sources: list[np.ndarray],
        targets: list[np.ndarray], starts: Sequence[int] | None,
    ) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
        """Results of one compiled function, batch by batch."""
        each = _each(params)
        for batch in pair_batches(self.models, sources, targets, starts=starts, **self._limits):
            yield batch.indices, np.asarray(
                function(each, batch.source, batch.target, batch.start))

    def _mean_attention(
        self, params: Sequence[Params], source: jax.Array, target: jax.Array, start: jax.Array
    ) -> jax.Array:
        """[B, T, S] float32."""
        previous = previous_tokens(target, pad=self.pad, start=start)
        each = [
            source_attention(model.features(p, previous, encode_tokens(model, p, source)))
            for model, p in zip(self.models, params, strict=True)]
        return sum(each[1:], each[0]) / len(each)

    def _argmax(
        self, params: Sequence[Params], source: jax.Array, target: jax.Array, start: jax.Array
    ) -> jax.Array:
        """[B, T] int32: the source position that each target position looks at most."""
        attention = self._mean_attention(params, source, target, start)
        word = (source != self.pad) & (source != self.eos)
        return jnp.where(word[:, None], attention, -jnp.inf).argmax(axis=-1)

    def _pairs(
        self, source: np.ndarray, target: np.ndarray, strongest: np.ndarray
    ) -> list[tuple[int, int]]:
        word = (source != self.pad) & (source != self.eos)
        if not word.any():
            return []
        place = np.cumsum(word) - 1
        chosen = strongest[np.flatnonzero((target != self.pad) & (target != self.eos))]
        return [(int(place[s]), t) for t, s in enumerate(chosen)]


def _each(params: Params) -> tuple[Params, ...]:
    return tuple(params) if isinstance(params, (list, tuple)) else (params,)


def _arrays(rows: Sequence[Ids]) -> list[np.ndarray]:
    return [np.asarray(row, np.int32) for row in rows]
