"""Beam search whose outputs contain given phrases, at a cost that does not grow with them.

fairseq's `LexicallyConstrainedBeamSearch`: the beam is shared out among banks, hypotheses
that have met as many tokens of their constraints (dynamic beam allocation, Post and Vilar
2018; Hu et al. 2019). How far a hypothesis has come is counted in `constraints`.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from seqjax.generation.constraints import Progress
from seqjax.generation.processors import Scores, Sentences, StepRules
from seqjax.generation.selection import (
    Candidates,
    Memory,
    Strategy,
    candidate_count,
    first_step,
    replicate_first,
)
from seqjax.generation.topk import top_k

APART = 100.0
"""What a bank weighs in a candidate's sort key beside its score, as in fairseq."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConstrainedSelection(Strategy):
    """The best 2W continuations, the best of each hypothesis and all that further a
    constraint; of these the best of each bank, then the second of each, up to 2W.

    eos is impossible, but for the very first step, while constraints are unmet.
    `sentences.constraints` are the progress's packed phrases.
    """

    progress: Progress

    def start(self, sentences: Sentences, *, beam: int) -> Memory:
        return self.progress.start(sentences.constraints, beam=beam)

    def select(
        self, scores: Scores, rules: StepRules, sentences: Sentences, position: jax.Array,
        memory: Memory,
    ) -> tuple[Candidates, Memory]:
        b, w, v = scores.values.shape
        count, packed = candidate_count(w, v), sentences.constraints
        scores, owner = replicate_first(first_step(scores, position), rules)
        log_probs = rules.mask(scores.log_probs())
        unmet = ~self.progress.finished(packed, memory) & (position > 0)
        is_eos = jnp.arange(v) == rules.rules.eos
        total = jnp.where(is_eos & unmet[..., None], -jnp.inf, log_probs) + scores.plus[..., None]

        moves = self.progress.moves(packed, memory)
        found, exists = _gather(total, moves.tokens, moves.wanted, count=count, position=position)
        best = striped(
            found, moves.at(found.tokens, found.beams), exists, count=count,
            span=self.progress.span(packed), vocabulary=v)
        beams = jnp.take_along_axis(owner, best.beams, axis=1)
        return dataclasses.replace(best, beams=beams), memory

    def follow(
        self, memory: Memory, sentences: Sentences, *, parents: jax.Array, tokens: jax.Array,
    ) -> Memory:
        return self.progress.follow(sentences.constraints, memory, parents=parents, tokens=tokens)


def _gather(
    total: jax.Array, tokens: jax.Array, wanted: jax.Array, *, count: int, position: jax.Array,
) -> tuple[Candidates, jax.Array]:
    """All candidates [B, N], some of them twice, and which of them there are.

    Args:
      total: [B, W, V] scores of hypotheses with each next token.
      tokens, wanted: [B, W, J], see `Moves`.
      count: continuations to be taken from all hypotheses together.
      position: at 0 there is one hypothesis, of which no best is taken beside those.
    """
    b, w, v = total.shape
    best = top_k(total.reshape(b, w * v), count)
    own_token = jnp.argmax(total, axis=-1)
    asked = jnp.where(wanted, tokens, 0)
    slots = jnp.broadcast_to(jnp.arange(w)[:, None], asked.shape)
    flat = lambda x: x.reshape(b, -1)  # noqa: E731
    exists = [jnp.ones((b, count), bool), jnp.broadcast_to(position > 0, (b, w)),
              flat(wanted & ((position > 0) | (slots == 0)))]
    parts = Candidates(
        scores=jnp.concatenate([best.values, total.max(-1), flat(
            jnp.take_along_axis(total, asked, axis=2))], axis=1),
        tokens=jnp.concatenate([best.indices % v, own_token, flat(asked)], axis=1),
        beams=jnp.concatenate([best.indices // v, jnp.broadcast_to(jnp.arange(w), (b, w)),
                               flat(slots)], axis=1))
    return parts, jnp.concatenate(exists, axis=1)


def striped(
    found: Candidates, banks: jax.Array, exists: jax.Array, *, span: jax.Array, count: int,
    vocabulary: int,
) -> Candidates:
    """Shares the beam out among the banks.

    Candidates are sorted by bank (highest first) and score. A stretch of equal banks is
    numbered from 0, and the candidates are taken by number, banks taking turns. Impossible
    candidates come last.

    Args:
      found: N candidates, some of them twice.
      banks: [B, N] int32.
      exists: [B, N] bool.
      span: [B] int32, of `Progress`.
      count: how many to return.
      vocabulary: its size.
    """
    n = banks.shape[1]
    height = span[:, None] - banks  # below 0 where constraints share tokens
    key = height * APART - found.scores
    # Fits 32 bits with any vocabulary and beam that exist.
    identity = found.beams * (vocabulary + 1) + found.tokens
    identity = jnp.where(exists, identity, jnp.iinfo(jnp.int32).max)
    key = jnp.where(exists, key, jnp.inf)
    places = jnp.broadcast_to(jnp.arange(n), banks.shape)
    *_, identity, order = lax.sort((key, -found.scores, identity, places), num_keys=3)
    pick = lambda x: jnp.take_along_axis(x, order, axis=1)  # noqa: E731
    scores, height, exists = pick(found.scores), pick(height), pick(exists)

    before = lambda x: jnp.concatenate([x[:, :1], x[:, :-1]], axis=1)  # noqa: E731
    first = jnp.arange(n) == 0
    unique = exists & (first | (identity != before(identity)))
    possible = unique & (scores > -jnp.inf)
    place = jnp.cumsum(possible, axis=1) - 1
    begins = possible & (first | (height != before(height)))
    number = place - lax.cummax(jnp.where(begins, place, 0), axis=1)
    stripe = height + number * (unique.sum(1, keepdims=True) + 1)
    stripe = jnp.where(possible, stripe, jnp.iinfo(jnp.int32).max)
    last = jnp.argsort(stripe, axis=1, stable=True)[:, :count]
    take = lambda x: jnp.take_along_axis(pick(x), last, axis=1)  # noqa: E731
    kept = jnp.take_along_axis(possible, last, axis=1)
    return Candidates(scores=jnp.where(kept, take(found.scores), -jnp.inf),
                      tokens=take(found.tokens), beams=take(found.beams))
