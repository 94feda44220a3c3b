"""From scores to candidates: how each kind of beam search chooses what to look at.

A strategy is a frozen dataclass (compiled in) with a pytree of its own memory, `None` for
most. It sees scores and rules and returns candidates in order of rank; bookkeeping (what
is finished, what goes on) is the search's, and the same for all. Strategies that outputs
with constraints need are in `constrained` and `allowed`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import struct

from seqjax.generation.processors import FREE, Scores, Sentences, StepRules
from seqjax.generation.topk import row_top_k, top_k, top_k_of_rows

Memory = Any
"""Pytree of what a strategy remembers, of leading axis B, or None; its own."""


@struct.dataclass
class Candidates:
    """Next tokens worth considering, best first; their number N is static."""

    scores: jax.Array
    """[B, N] float32: score of the whole hypothesis with this token; -inf: impossible."""
    tokens: jax.Array
    """[B, N] int32."""
    beams: jax.Array
    """[B, N] int32: the hypothesis that it continues."""


class Strategy(Protocol):
    """How candidates are chosen. Who inherits from it has to define `select` only."""

    def start(self, sentences: Sentences, *, beam: int) -> Memory:
        """The strategy's memory for a batch (a pytree of leading axis B, or None)."""
        del sentences, beam
        return None

    def restrict(self, scores: Scores, sentences: Sentences, state: Any) -> Scores:
        """Scores with -inf where a hypothesis of `state` (a `SearchState`) may not go on,
        whatever rules say."""
        del sentences, state
        return scores

    def select(
        self, scores: Scores, rules: StepRules, sentences: Sentences, position: jax.Array,
        memory: Memory,
    ) -> tuple[Candidates, Memory]:
        """Candidates at one step and the memory after it. At position 0 all hypotheses
        are alike and only the first counts."""
        ...

    def follow(
        self, memory: Memory, sentences: Sentences, *, parents: jax.Array, tokens: jax.Array,
    ) -> Memory:
        """The memory that `select` returned, once it is known which candidates go on: each
        slot continues hypothesis `parents` with `tokens`, both [B, W]."""
        del sentences, parents, tokens
        return memory


def candidate_count(beam: int, vocabulary: int, *, multiple: int = 2) -> int:
    """fairseq's number of candidates: one less than there are entries, as pad is none."""
    return min(multiple * beam, beam * vocabulary - 1)


def first_step(scores: Scores, position: jax.Array) -> Scores:
    """Leaves hypothesis 0 alone alive at position 0."""
    alive = (position > 0) | (jnp.arange(scores.plus.shape[1]) == 0)
    return dataclasses.replace(scores, plus=jnp.where(alive, scores.plus, -jnp.inf))


def replicate_first(scores: Scores, rules: StepRules) -> tuple[Scores, jax.Array]:
    """Hypothesis 0 in all slots where a prefix forces eos; and [B, W] whose slot is whose."""
    beams = jnp.broadcast_to(jnp.arange(scores.plus.shape[1]), scores.plus.shape)
    copied = rules.eos_prefix[:, None]
    beams = jnp.where(copied, 0, beams)
    pick = lambda x: jnp.where(copied, x[:, :1], x)  # noqa: E731
    values = jnp.where(copied[..., None], scores.values[:, :1], scores.values)
    maxima = jnp.where(copied[..., None], scores.maxima[:, :1], scores.maxima)
    return Scores(values=values, maxima=maxima, minus=pick(scores.minus),
                  plus=pick(scores.plus)), beams


def forced_scores(scores: Scores, rules: StepRules) -> tuple[jax.Array, jax.Array]:
    """What each hypothesis scores with the forced token, [B, W], and whose slot is whose."""
    token = jnp.maximum(rules.forced, 0)[:, None, None]
    log_prob = jnp.take_along_axis(scores.values, token, axis=2) - scores.minus[..., None]
    total = rules.forced_price(log_prob, token)[..., 0] + scores.plus
    total = jnp.where(scores.plus > -jnp.inf, total, -jnp.inf)
    beams = jnp.broadcast_to(jnp.arange(total.shape[1]), total.shape)
    copied = rules.eos_prefix[:, None]
    return jnp.where(copied, total[:, :1], total), jnp.where(copied, 0, beams)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BeamSelection(Strategy):
    """The best 2W continuations of all hypotheses together (fairseq's `BeamSearch`)."""

    multiple: int = 2
    """Candidates per hypothesis."""

    def select(
        self, scores: Scores, rules: StepRules, sentences: Sentences, position: jax.Array,
        memory: Memory,
    ) -> tuple[Candidates, Memory]:
        del sentences
        _, w, v = scores.values.shape
        count = candidate_count(w, v, multiple=self.multiple)
        scores = first_step(scores, position)
        best = top_k_of_rows(
            scores.values, count, maxima=scores.maxima, minus=scores.minus, plus=scores.plus,
            adjust=rules.adjust, special=rules.rules.special)
        free = Candidates(scores=best.values, tokens=best.indices % v, beams=best.indices // v)
        return _or_forced(free, scores, rules), memory


def _or_forced(free: Candidates, scores: Scores, rules: StepRules) -> Candidates:
    """The forced token in every hypothesis, best first, for sentences that have one."""
    count = free.scores.shape[1]
    total, beams = forced_scores(scores, rules)
    width = min(count, total.shape[1])
    values, order = row_top_k(total, width)
    fill = lambda x, value: jnp.pad(x, ((0, 0), (0, count - width)), constant_values=value)  # noqa: E731
    is_free = (rules.forced == FREE)[:, None]
    return Candidates(
        scores=jnp.where(is_free, free.scores, fill(values, -jnp.inf)),
        tokens=jnp.where(is_free, free.tokens, jnp.maximum(rules.forced, 0)[:, None]),
        beams=jnp.where(is_free, free.beams, fill(jnp.take_along_axis(beams, order, 1), 0)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiverseSelection(Strategy):
    """Groups of hypotheses; a group pays for tokens that groups before it just took.

    fairseq's `DiverseBeamSearch` (Vijayakumar et al. 2016) with its defaults: the price
    grows with the number of tokens two groups have shared so far, and each group proposes
    as many candidates as it has hypotheses. Group g is slots g, g + groups, ...
    """

    groups: int
    strength: float
    by_number: bool = False
    """After the first step, take what was shared then from the row that has the sentence's
    number, as fairseq does by mistake: right only where numbers are rows (elsewhere, and
    where there is no such row, the sentence's own). For comparisons with fairseq."""

    def start(self, sentences: Sentences, *, beam: int) -> jax.Array:
        """[B, G, G]: tokens shared so far."""
        batch = sentences.source_len.shape[0]
        return jnp.zeros((batch, self.groups, self.groups), jnp.float32)

    def select(
        self, scores: Scores, rules: StepRules, sentences: Sentences, position: jax.Array,
        memory: Memory,
    ) -> tuple[Candidates, Memory]:
        b, w, v = scores.values.shape
        size = w // self.groups
        scores, owner = replicate_first(scores, rules)
        log_probs = rules.mask(scores.log_probs())
        found: list[Candidates] = []
        for g in range(self.groups):
            penalty = jnp.zeros((b, v), jnp.float32)
            for other, taken in enumerate(found):
                price = jnp.broadcast_to(1 + memory[:, g, other, None], taken.tokens.shape)
                # Row by row, so that rows on several devices stay there.
                penalty = jax.vmap(lambda row, tokens, price: row.at[tokens].add(price))(
                    penalty, taken.tokens, price)
            mine = log_probs[:, g::self.groups] - self.strength * penalty[:, None]
            alive = (position > 0) | (jnp.arange(size) == 0)
            plus = jnp.where(alive, scores.plus[:, g::self.groups], -jnp.inf)
            best = top_k((mine + plus[..., None]).reshape(b, size * v), size)
            found.append(Candidates(scores=best.values, tokens=best.indices % v,
                                    beams=best.indices // v * self.groups + g))
        every = jax.tree.map(lambda *parts: jnp.stack(parts, axis=2), *found)  # [B, size, G]
        same = every.tokens[:, :, None, :] == every.tokens[:, :, :, None]
        flat = jax.tree.map(lambda x: x.reshape(b, w), every)
        flat = dataclasses.replace(flat, beams=jnp.take_along_axis(owner, flat.beams, axis=1))
        memory = memory + same.sum(1)
        if self.by_number:
            exists = sentences.index < (sentences.source_len > 0).sum()
            row = jnp.where(exists, sentences.index, jnp.arange(b))
            memory = jnp.where(position == 0, memory[row], memory)
        return flat, memory


@dataclasses.dataclass(frozen=True, kw_only=True)
class SiblingSelection(Strategy):
    """Continuations of one hypothesis pay for their rank among themselves.

    fairseq's `DiverseSiblingsSearch` (Li et al. 2016); the price stays in the score.
    """

    rate: float

    def select(
        self, scores: Scores, rules: StepRules, sentences: Sentences, position: jax.Array,
        memory: Memory,
    ) -> tuple[Candidates, Memory]:
        del sentences
        b, w, v = scores.values.shape
        count = candidate_count(w, v)
        scores, owner = replicate_first(first_step(scores, position), rules)
        each = top_k(rules.mask(scores.log_probs()) + scores.plus[..., None], min(count, v))
        ranks = jnp.arange(1, each.values.shape[-1] + 1, dtype=jnp.float32)
        price = jnp.where(position > 0, self.rate, 0.0) * ranks
        best = row_top_k((each.values - price).reshape(b, -1), count)
        picked = lambda x: jnp.take_along_axis(x.reshape(b, -1), best[1], axis=1)  # noqa: E731
        beams = best[1] // each.values.shape[-1]
        return Candidates(scores=best[0], tokens=picked(each.indices),
                          beams=jnp.take_along_axis(owner, beams, axis=1)), memory
