"""Sampling: each of the W hypotheses of a sentence is an independent draw.

A draw depends on the seed, the sentence's number in the input, the step and the slot, so
results do not depend on batching. Scores go in, candidates come out, as of `selection`.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from seqjax.generation.processors import FREE, Scores, Sentences, StepRules
from seqjax.generation.selection import Candidates, Memory, Strategy, forced_scores
from seqjax.generation.topk import row_top_k, top_k

NUCLEUS = 256
"""Top-p first looks at so many tokens, and sorts the vocabulary if they hold too little."""
BLOCK = 128
"""Tokens in a block of the two-stage draw."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingSelection(Strategy):
    """Draws by probability, perhaps among the best only (fairseq's `Sampling`)."""

    topk: int = -1
    """Only among the so many most probable tokens (not positive: all)."""
    topp: float = -1.0
    """Only among the smallest set of most probable tokens whose mass reaches this (not
    positive: all); goes before `topk`."""
    minp: float = 0.0
    """Only among tokens that have at least this share of the most probable one's probability."""
    one_by_one: bool = False
    """Each of these of what the one before left, `topk` first, as in transformers."""

    def select(
        self, scores: Scores, rules: StepRules, sentences: Sentences, position: jax.Array,
        memory: Memory,
    ) -> tuple[Candidates, Memory]:
        """One candidate per hypothesis, in the order of slots."""
        b, w, v = scores.values.shape
        log_probs = rules.adjust(scores.log_probs(), jnp.arange(v))
        number = uniforms(sentences, position, w)
        if self.one_by_one or self.minp > 0:
            tokens = draw(self.among(log_probs), number)
        elif self.topp > 0:
            tokens = draw_nucleus(log_probs, number, self.topp)
        elif 0 < self.topk < v:
            best = top_k(log_probs, self.topk)
            rank = draw_few(best.values, number)
            tokens = jnp.take_along_axis(best.indices, rank[..., None], axis=-1)[..., 0]
        else:
            tokens = draw(log_probs, number)
        drawn = jnp.take_along_axis(log_probs, tokens[..., None], axis=-1)[..., 0] + scores.plus
        drawn = jnp.where(scores.plus > -jnp.inf, drawn, -jnp.inf)
        forced, owner = forced_scores(scores, rules)
        is_free = (rules.forced == FREE)[:, None]
        slots = jnp.broadcast_to(jnp.arange(w), (b, w))
        return Candidates(
            scores=jnp.where(is_free, drawn, forced),
            tokens=jnp.where(is_free, tokens, jnp.maximum(rules.forced, 0)[:, None]),
            beams=jnp.where(is_free, slots, owner)), memory

    def among(self, log_probs: jax.Array) -> jax.Array:
        """Log-probabilities [..., V] with -inf where nothing is drawn; each rule is of what the
        one before left."""
        v = log_probs.shape[-1]
        if 0 < self.topk < v:
            least = top_k(log_probs, self.topk).values[..., -1:]
            log_probs = jnp.where(log_probs < least, -jnp.inf, log_probs)
        if 0 < self.topp < 1:
            best, order = row_top_k(log_probs, v)
            mass = jnp.cumsum(jax.nn.softmax(best), axis=-1)
            kept = jnp.concatenate([jnp.zeros_like(mass[..., :1]), mass[..., :-1]], -1) < self.topp
            rank = jnp.argsort(order, axis=-1)
            log_probs = jnp.where(jnp.take_along_axis(kept, rank, axis=-1), log_probs, -jnp.inf)
        if self.minp > 0:
            least = log_probs.max(-1, keepdims=True) + jnp.log(self.minp)
            log_probs = jnp.where(log_probs < least, -jnp.inf, log_probs)
        return log_probs


def uniforms(sentences: Sentences, position: jax.Array, slots: int) -> jax.Array:
    """[B, W] numbers in [0, 1)."""
    root = jax.random.key(sentences.seed)

    def one(index: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.fold_in(root, index), position)
        return jax.random.uniform(key, (slots,))

    return jax.vmap(one)(sentences.index)


def draw_few(log_probs: jax.Array, number: jax.Array) -> jax.Array:
    """An index into the last axis of [..., K] by the probabilities there, not normalised."""
    mass = jnp.cumsum(jnp.exp(log_probs), axis=-1)
    below = mass <= number[..., None] * mass[..., -1:]
    # Rounding must not choose an entry of no probability past the last one that has some.
    last = jnp.max(jnp.where(log_probs > -jnp.inf, jnp.arange(log_probs.shape[-1]), 0), axis=-1)
    return jnp.minimum(below.sum(-1), last)


def draw(log_probs: jax.Array, number: jax.Array) -> jax.Array:
    """As `draw_few` for a large last axis: first a block, then an entry in it."""
    v = log_probs.shape[-1]
    block = BLOCK
    if v <= 2 * block:
        return draw_few(log_probs, number)
    blocks = -(-v // block)
    padded = jnp.pad(log_probs, ((0, 0),) * (log_probs.ndim - 1) + ((0, blocks * block - v),),
                     constant_values=-jnp.inf).reshape(*log_probs.shape[:-1], blocks, block)
    share = jnp.exp(padded).sum(-1)
    mass = jnp.cumsum(share, axis=-1)
    target = number * mass[..., -1]
    last = jnp.max(jnp.where(share > 0, jnp.arange(blocks), 0), axis=-1)
    chosen = jnp.minimum((mass <= target[..., None]).sum(-1), last)[..., None]
    pick = lambda x: jnp.take_along_axis(x, chosen, axis=-1)[..., 0]  # noqa: E731
    inside = jnp.take_along_axis(padded, chosen[..., None], axis=-2)[..., 0, :]
    rest = target - (pick(mass) - pick(share))
    within = jnp.where(pick(share) > 0, rest / pick(share), 0.0)
    return chosen[..., 0] * block + draw_few(inside, jnp.clip(within, 0.0, 1.0))


def draw_nucleus(log_probs: jax.Array, number: jax.Array, p: float) -> jax.Array:
    """A token [...] from the smallest set of best tokens whose mass reaches p.

    Mass is what the tokens have after rules, not normalised again, as in fairseq.
    """
    v = log_probs.shape[-1]

    def among(best: jax.Array, indices: jax.Array) -> jax.Array:
        mass = jnp.cumsum(jnp.exp(best), axis=-1)
        before = jnp.concatenate([jnp.zeros_like(mass[..., :1]), mass[..., :-1]], axis=-1)
        rank = draw_few(jnp.where(before < p, best, -jnp.inf), number)
        return jnp.take_along_axis(indices, rank[..., None], axis=-1)[..., 0]

    def by_sorting(log_probs: jax.Array) -> jax.Array:
        return among(*row_top_k(log_probs, v))

    if v <= NUCLEUS:
        return by_sorting(log_probs)
    few = top_k(log_probs, NUCLEUS)
    enough = jnp.all(jnp.exp(few.values).sum(-1) >= p)
    return lax.cond(enough, lambda _: among(*few), by_sorting, log_probs)
