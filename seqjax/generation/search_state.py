"""What a search remembers between steps, and fairseq's bookkeeping on it.

Tokens and scores stay in the slot in which they were made; a hypothesis is a path through
slots, found by `parents` on the host and by `ancestors` on the device. So nothing is moved
when hypotheses change places. Candidates go in, the next state and finished hypotheses come
out.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from seqjax.generation.hypothesis import Hypothesis
from seqjax.generation.selection import Candidates, Memory


@struct.dataclass
class Finished:
    """The finished hypotheses of a batch, in the order in which they finished."""

    count: jax.Array
    """[B] int32."""
    score: jax.Array
    """[B, W] float32, normalised; -inf where there is none."""
    total: jax.Array
    """[B, W] float32: cumulative score, eos included."""
    step: jax.Array
    """[B, W] int32: the step that chose the last token: tokens before it."""
    slot: jax.Array
    """[B, W] int32: the slot that was continued with its last token at that step."""
    token: jax.Array
    """[B, W] int32: that token: eos, unless hypotheses may stop at a greatest length."""


@struct.dataclass
class SearchState:
    """A batch in the middle of its search. C is the cache's capacity."""

    position: jax.Array
    """int32 scalar: the step to be made next."""
    tokens: jax.Array
    """[B, W] int32: the tokens at `position`."""
    total: jax.Array
    """[B, W] float32: cumulative scores."""
    ignore: jax.Array
    """[B, W] bool: slots without a hypothesis, because it has finished."""
    ancestors: jax.Array
    """[B, W, C] int32: see `EncoderDecoder.step`."""
    chosen: jax.Array
    """[B, W, C] int32: column c holds what step c chose for the slot."""
    totals: jax.Array
    """[B, W, C] float32: cumulative scores after step c."""
    parents: jax.Array
    """[B, W, C] int32: the slot that step c continued."""
    finished: Finished
    done: jax.Array
    """[B] bool."""
    memory: Memory
    """The strategy's."""


def start_state(
    *, bos: jax.Array, beam: int, capacity: int, done: jax.Array, memory: Memory,
) -> SearchState:
    """Before the first step; `bos` [B], `done` [B] marks rows without a sentence."""
    b = bos.shape[0]
    full = lambda value, dtype, *more: jnp.full((b, beam, *more), value, dtype)  # noqa: E731
    return SearchState(
        position=jnp.zeros((), jnp.int32),
        tokens=jnp.broadcast_to(bos[:, None], (b, beam)).astype(jnp.int32),
        total=full(0, jnp.float32), ignore=full(False, bool),
        ancestors=_own_slots(b, beam, capacity),
        chosen=full(0, jnp.int32, capacity), totals=full(0, jnp.float32, capacity),
        parents=full(0, jnp.int32, capacity),
        finished=Finished(count=jnp.zeros((b,), jnp.int32), score=full(-jnp.inf, jnp.float32),
                          total=full(0, jnp.float32), step=full(0, jnp.int32),
                          slot=full(0, jnp.int32), token=full(0, jnp.int32)),
        done=done, memory=memory)


def grow_state(state: SearchState, *, capacity: int) -> SearchState:
    """The same search with room for `capacity` steps."""
    b, w, c = state.ancestors.shape
    wider = lambda x: jnp.pad(x, ((0, 0), (0, 0), (0, capacity - c)))  # noqa: E731
    return dataclasses.replace(
        state, ancestors=jnp.concatenate([state.ancestors, _own_slots(b, w, capacity - c)], axis=2),
        chosen=wider(state.chosen), totals=wider(state.totals), parents=wider(state.parents))


def _own_slots(batch: int, beam: int, columns: int) -> jax.Array:
    return jnp.broadcast_to(jnp.arange(beam, dtype=jnp.int32)[:, None], (batch, beam, columns))


def history(state: SearchState) -> jax.Array:
    """[B, W, C]: the tokens of each hypothesis in order, valid below `position`."""
    later = jnp.concatenate([state.ancestors[..., 1:], state.ancestors[..., -1:]], axis=2)
    return jnp.take_along_axis(state.chosen, later, axis=1)


def advance(
    state: SearchState, candidates: Candidates, *, eos: int, max_len: jax.Array,
    norm: jax.Array, existing: jax.Array, memory: Memory, worthless: jax.Array | None = None,
    stopping: str | None = None, furthest: jax.Array | None = None, force_eos: bool = True,
) -> tuple[SearchState, jax.Array]:
    """One step of fairseq's bookkeeping, or of transformers'.

    An eos candidate finishes if its rank is among the first W; the first W candidates that
    are not eos go on; a sentence is done at W finished hypotheses or at its `max_len`. By
    transformers' rules the best W are kept, and `stopping` says when a sentence is done.

    Args:
      state: before the step.
      candidates: N of them, best first.
      eos: its id.
      max_len: [B].
      norm: float32 scalar or [B, 1], what scores of hypotheses that finish now are divided by.
      existing: int32 scalar: candidates of this rank or later do not exist.
      memory: the strategy's, after the step.
      worthless: [B] bool: what finishes now gets the score -inf.
      stopping: None: fairseq's rules; else transformers' `early_stopping`.
      furthest: [B] float32, with `never`: what scores at `max_len` are divided by.
      force_eos: at `max_len` there is nothing but eos; False: every candidate ends there.

    Returns:
      The state after the step, and [B, W] parents of its slots.
    """
    b, w = state.tokens.shape
    t, n = state.position, candidates.scores.shape[1]
    ignore = jnp.pad(state.ignore, ((0, 0), (0, n - w)))
    is_eos = (candidates.tokens == eos) & (candidates.scores > -jnp.inf) & ~ignore
    ends = is_eos & ~state.done[:, None]
    if not force_eos:
        last = (t >= max_len) & ~state.done
        ends = ends | (last[:, None] & (candidates.scores > -jnp.inf) & ~ignore)
    finish = _finish if stopping is None else _finish_best
    finished = finish(
        state.finished, candidates, ends, t=t, norm=norm, worthless=worthless)
    done = state.done | (t >= max_len)
    done = done | (finished.count >= w) if stopping in (None, "true") else done

    # The first W that go on, in order of rank; behind them, should there be fewer, others.
    # (Of a definite type: a state of weak types would be another program's.)
    gone = (is_eos | ignore).astype(jnp.int32) + 2 * (jnp.arange(n) >= existing).astype(jnp.int32)
    order = jnp.argsort(gone * n + jnp.arange(n), axis=1)[:, :w]
    pick = lambda x: jnp.take_along_axis(x, order, axis=1)  # noqa: E731
    parents, tokens = pick(candidates.beams), pick(candidates.tokens)
    total = pick(candidates.scores)
    if stopping is not None:
        best = jnp.where(pick(gone)[:, 0] > 0, -jnp.inf, total[:, 0])
        done = done | _final(finished, best, norm if furthest is None else furthest[:, None])
    columns = jnp.arange(state.ancestors.shape[2])
    moved = jnp.take_along_axis(state.ancestors, parents[:, :, None], axis=1)
    ancestors = jnp.where(columns <= t, moved, jnp.arange(w)[:, None])
    write = lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y[:, :, None], t, axis=2)  # noqa: E731
    return SearchState(
        position=t + 1, tokens=tokens, total=total, ignore=pick(gone) > 0, ancestors=ancestors,
        chosen=write(state.chosen, tokens), totals=write(state.totals, total),
        parents=write(state.parents, parents), finished=finished, done=done, memory=memory,
    ), parents


def _final(finished: Finished, best: jax.Array, norm: jax.Array) -> jax.Array:
    """[B]: whether there are W finished hypotheses of which none is worse than the best one that
    goes on, of score `best` [B], would be divided by `norm`."""
    full = finished.count >= finished.score.shape[1]
    return full & ((best[:, None] / norm)[:, 0] <= finished.score.min(axis=1))


def _finish(
    store: Finished, candidates: Candidates, ends: jax.Array, *, t: jax.Array, norm: jax.Array,
    worthless: jax.Array | None,
) -> Finished:
    """Puts candidates [B, N] that end among the first W into the next free places."""
    w = store.score.shape[1]
    ends = ends[:, :w]
    place = store.count[:, None] + jnp.cumsum(ends, axis=1) - 1
    goes = ends[:, :, None] & (place[:, :, None] == jnp.arange(w))  # [B, rank, place]
    taken, rank = goes.any(1), jnp.argmax(goes, axis=1)
    put = lambda new, old: jnp.where(taken, jnp.take_along_axis(new, rank, axis=1), old)  # noqa: E731
    total = candidates.scores[:, :w]
    score = total / norm
    if worthless is not None:
        score = jnp.where(worthless[:, None], -jnp.inf, score)
    return Finished(
        count=store.count + taken.sum(1, dtype=jnp.int32), score=put(score, store.score),
        total=put(total, store.total), step=jnp.where(taken, t, store.step),
        slot=put(candidates.beams[:, :w], store.slot),
        token=put(candidates.tokens[:, :w], store.token))


def _finish_best(
    store: Finished, candidates: Candidates, ends: jax.Array, *, t: jax.Array, norm: jax.Array,
    worthless: jax.Array | None,
) -> Finished:
    """The best W of those that have finished and of candidates [B, N] that end among the first W;
    of equal ones those that finished before, which is the order that they have here too."""
    w = store.score.shape[1]
    ends = ends[:, :w]
    total = candidates.scores[:, :w]
    score = jnp.where(ends, total / norm, -jnp.inf)
    if worthless is not None:
        score = jnp.where(worthless[:, None], -jnp.inf, score)
    found = Finished(
        count=ends.sum(1, dtype=jnp.int32), score=score, total=total,
        step=jnp.broadcast_to(t, total.shape), slot=candidates.beams[:, :w],
        token=candidates.tokens[:, :w])
    order = jnp.argsort(-jnp.concatenate([store.score, score], axis=1), axis=1, stable=True)[:, :w]

    def merged(old: jax.Array, new: jax.Array) -> jax.Array:
        return jnp.take_along_axis(jnp.concatenate([old, new], axis=1), order, axis=1)

    return Finished(
        count=jnp.minimum(store.count + found.count, w), score=merged(store.score, found.score),
        total=merged(store.total, found.total), step=merged(store.step, found.step),
        slot=merged(store.slot, found.slot), token=merged(store.token, found.token))


def hypotheses(
    state: SearchState, *, rows: np.ndarray, nbest: int, eos: int,
) -> list[list[Hypothesis]]:
    """The finished hypotheses of some sentences of a state on the host, best first.

    Args:
      state: numpy arrays.
      rows: the sentences' rows.
      nbest: hypotheses a sentence at most; one without any gets a lone eos of score -inf.
      eos: its id.
    """
    order = np.argsort(-state.finished.score[rows], axis=1, kind="stable")[:, :nbest]
    take = lambda x: np.take_along_axis(x[rows], order, axis=1)  # noqa: E731
    steps, slot, ends = (take(state.finished.step), take(state.finished.slot),
                         take(state.finished.total))
    last = take(state.finished.token)
    score, exists = take(state.finished.score), order < state.finished.count[rows][:, None]
    length = int(steps.max(initial=0))
    tokens = np.full((len(rows), order.shape[1], length + 1), eos, np.int32)
    totals = np.zeros((len(rows), order.shape[1], length + 1), np.float32)
    for c in reversed(range(length)):
        inside = c < steps
        at = lambda x: np.take_along_axis(x[rows, :, c], slot, axis=1)  # noqa: B023, E731
        tokens[..., c] = np.where(inside, at(state.chosen), eos)
        totals[..., c] = np.where(inside, at(state.totals), 0)
        slot = np.where(inside, at(state.parents), slot)
    np.put_along_axis(totals, steps[..., None], ends[..., None], axis=2)
    np.put_along_axis(tokens, steps[..., None], last[..., None], axis=2)
    positional = np.diff(totals, axis=2, prepend=np.float32(0))  # past the end: unused
    nothing = Hypothesis(tokens=np.array([eos], np.int32), score=float("-inf"),
                         positional_scores=np.array([-np.inf], np.float32))
    out = []
    for b in range(len(rows)):
        found = [
            Hypothesis(tokens=tokens[b, i, :steps[b, i] + 1].copy(), score=float(score[b, i]),
                       positional_scores=positional[b, i, :steps[b, i] + 1].copy())
            for i in range(order.shape[1]) if exists[b, i]
        ]
        out.append(found or [nothing])
    return out
