"""Which tokens a hypothesis may take next, and at what price: fairseq's rules.

Rules never build a masked copy of the vocabulary-wide scores. They are a function from
(log-probabilities, their columns) to changed ones that search applies to the few entries
it looks at, plus one token per sentence that may be forced. How candidates are chosen from
the scores is in `selection`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from seqjax.generation.topk import block_maxima

FREE = -1
"""In `StepRules.forced`: nothing is forced."""
Packed = Any
"""What a strategy must know of each sentence: a pytree of leading axis B, or None."""
Tables = Any
"""What it must know beside that, alike for all sentences: a pytree, or None."""


@struct.dataclass
class Sentences:
    """What is asked of each sentence of a batch."""

    source_len: jax.Array
    """[B] int32: source tokens, eos included; 0 marks a row without a sentence."""
    max_len: jax.Array
    """[B] int32: hypothesis tokens at most, the final eos not counted."""
    prefix: jax.Array
    """[B, P] int32: forced first tokens, pad where there is none."""
    bos: jax.Array
    """[B] int32: the token before the first one."""
    index: jax.Array
    """[B] int32: number of the sentence in the input; seeds its samples."""
    seed: jax.Array
    """uint32 scalar."""
    constraints: Packed = None
    """What the strategy must know of each sentence: a pytree of leading axis B, or None."""
    exempt: jax.Array | None = None
    """[B] int32: first steps in which neither `min_len` nor `suppress` holds. fairseq's are
    those in which any prefix of the batch lasts; None: nobody is exempt."""
    uncounted: jax.Array | None = None
    """[B] int32: first tokens of an output that count in no score (transformers' prompts); None:
    all count."""
    source: jax.Array | None = None
    """[B, S] int32: the source's tokens, pad behind them, where rules ask for them (of a language
    model its prompt's); None: they do not."""
    tables: Tables = None
    """What it must know beside that, alike for all sentences, or None. Only inside compiled
    functions: it is handed in beside the sentences, which move between batches."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenRules:
    """The rules of one search; compiled in."""

    pad: int
    eos: int
    unk: int
    unkpen: float = 0.0
    """Subtracted from the log-probability of unk."""
    suppress: tuple[int, ...] = ()
    """Tokens that are never chosen (unless a prefix forces them)."""
    min_len: int = 1
    """eos is not allowed before this many other tokens."""
    min_new: int = 0
    """Nor before this many other tokens beyond the prompt."""
    match_source_len: bool = False
    """eos is not allowed before the source's length, and costs nothing from there on."""
    no_repeat_ngram_size: int = 0
    """No n tokens in a row occur twice in a hypothesis (0: off)."""
    ban_pad: bool = True
    """No output has padding's symbol."""
    forced_cost: bool = True
    """Tokens that are forced cost what the model says; False: nothing."""
    force_eos: bool = True
    """Hypotheses of the greatest length end in eos."""

    @property
    def special(self) -> tuple[int, ...]:
        """Columns that `StepRules.adjust` may change."""
        return tuple(sorted({self.pad, self.eos, self.unk, *self.suppress}))

    def at(self, position: jax.Array, sentences: Sentences) -> StepRules:
        """The rules as they stand at one step (0-based, int32 scalar)."""
        last = position >= sentences.max_len
        forced = jnp.where(last & self.force_eos, self.eos, FREE)
        eos_prefix = jnp.zeros_like(last)
        width = sentences.prefix.shape[1]
        if width:
            token = jax.lax.dynamic_index_in_dim(
                sentences.prefix, jnp.minimum(position, width - 1), axis=1, keepdims=False)
            here = (position < width) & (token != self.pad) & ~(last & self.force_eos)
            forced = jnp.where(here, token, forced)
            eos_prefix = here & (token == self.eos)
        ban = jnp.broadcast_to(position < self.min_len, last.shape)
        if self.min_new:
            prompt = 0 if sentences.uncounted is None else sentences.uncounted
            ban = ban | (position - prompt < self.min_new)
        exempt = None
        if sentences.exempt is not None:
            exempt = position < sentences.exempt
            ban = ban & ~exempt
        pay = jnp.ones_like(ban)
        if self.match_source_len:
            ban = pay = position < sentences.source_len  # overrides min_len, as in fairseq
        return StepRules(rules=self, forced=forced, eos_prefix=eos_prefix, ban_eos=ban,
                         pay_eos=pay, exempt=exempt)


@struct.dataclass
class StepRules:
    """`TokenRules` at one step."""

    rules: TokenRules = struct.field(pytree_node=False)
    forced: jax.Array
    """[B] int32: the only token allowed, or FREE."""
    eos_prefix: jax.Array
    """[B] bool: a prefix forces eos here; all beams then become copies of beam 0."""
    ban_eos: jax.Array
    """[B] bool, for sentences that are free."""
    pay_eos: jax.Array
    """[B] bool: false where eos costs nothing (`match_source_len`)."""
    exempt: jax.Array | None = None
    """[B] bool: where `suppress` does not hold; None: nowhere."""

    def adjust(self, log_probs: jax.Array, columns: jax.Array) -> jax.Array:
        """Log-probabilities [B, ...] of free sentences; `columns` broadcasts to them."""
        rules = self.rules
        out = self.price(log_probs, columns)
        for token in rules.suppress:
            here = columns == token
            if self.exempt is not None:
                here = here & ~per_sentence(self.exempt, out)
            out = jnp.where(here, -jnp.inf, out)
        if rules.eos in rules.suppress and self.exempt is None:
            return out
        banned = per_sentence(self.ban_eos, out)
        return jnp.where((columns == rules.eos) & banned, -jnp.inf, out)

    def mask(self, log_probs: jax.Array, columns: jax.Array | None = None) -> jax.Array:
        """All rules on [B, W, V] at once, for searches that need every entry; or on
        [B, W, N] of columns [B, W, N]."""
        if columns is None:
            columns = jnp.arange(log_probs.shape[-1])
        forced = self.forced[:, None, None]
        only = jnp.where(columns == forced, self.forced_price(log_probs, columns), -jnp.inf)
        return jnp.where(forced == FREE, self.adjust(log_probs, columns), only)

    def forced_price(self, log_probs: jax.Array, columns: jax.Array) -> jax.Array:
        """What forced tokens cost; arguments as `adjust`."""
        if self.rules.forced_cost:
            return self.price(log_probs, columns)
        return jnp.where(log_probs > -jnp.inf, 0.0, log_probs)

    def price(self, log_probs: jax.Array, columns: jax.Array) -> jax.Array:
        """The rules that hold for forced tokens too; arguments as `adjust`."""
        rules = self.rules
        out = jnp.where(columns == rules.pad, -jnp.inf, log_probs) if rules.ban_pad else log_probs
        if rules.unkpen:
            out = jnp.where(columns == rules.unk, out - rules.unkpen, out)
        if rules.match_source_len:
            free = ~per_sentence(self.pay_eos, out)
            out = jnp.where((columns == rules.eos) & free, 0.0, out)
        return out


def per_sentence(flags: jax.Array, like: jax.Array) -> jax.Array:
    """[B] with as many trailing axes of size 1 as `like` [B, ...] needs."""
    return flags.reshape(flags.shape + (1,) * (like.ndim - 1))


@struct.dataclass
class Scores:
    """Scores of every next token of every hypothesis, in the parts that make them up.

    The log-probability of token v is `values[..., v] - minus`, before rules; its score is
    that plus `plus`. A hypothesis whose `plus` is -inf is dead.
    """

    values: jax.Array
    """[B, W, V] float32."""
    maxima: jax.Array
    """`block_maxima(values)`."""
    minus: jax.Array
    """[B, W] float32: the log of the sum of exponentials, or 0."""
    plus: jax.Array
    """[B, W] float32: score of the hypothesis so far."""

    def log_probs(self) -> jax.Array:
        """[B, W, V], -inf for dead hypotheses."""
        alive = (self.plus > -jnp.inf)[..., None]
        return jnp.where(alive, self.values - self.minus[..., None], -jnp.inf)


def scores_of(
    logits: list[jax.Array], cumulative: jax.Array, *,
    lm_logits: jax.Array | None = None, lm_weight: float = 0.0,
) -> Scores:
    """Scores from the logits [B, W, V] of one model, or of several that vote.

    Several models: the logarithm of the mean of their probabilities. With a language
    model's logits, its log-probabilities times `lm_weight` are added. A hypothesis with a
    NaN or an infinite log-sum-exp is dead, as in fairseq.
    """
    if len(logits) == 1 and lm_logits is None:
        values, maxima = logits[0], block_maxima(logits[0])
        minus = log_sum_exp(values, maxima.max(-1))
    else:
        values = mean_log_probs([log_softmax(x) for x in logits])
        if lm_logits is not None:
            values = values + lm_weight * log_softmax(lm_logits)
        values = jnp.where(jnp.isnan(values), -jnp.inf, values)
        maxima, minus = block_maxima(values), jnp.zeros_like(cumulative)
    alive = jnp.isfinite(minus)
    return Scores(values=values, maxima=maxima, minus=jnp.where(alive, minus, 0.0),
                  plus=jnp.where(alive, cumulative, -jnp.inf))


def mean_log_probs(each: Sequence[jax.Array]) -> jax.Array:
    """The logarithm of the mean of several models' probabilities, from log-probabilities of
    one shape. The mean is taken before the logarithm: none comes out above 0."""
    if len(each) == 1:
        return each[0]
    stacked = jnp.stack(each)
    top = stacked.max(axis=0)
    top = jnp.where(top > -jnp.inf, top, 0.0)
    return top + jnp.log(jnp.exp(stacked - top).mean(axis=0))


def log_sum_exp(x: jax.Array, maximum: jax.Array) -> jax.Array:
    """[...] from [..., V] and its maximum, in one pass."""
    return maximum + jnp.log(jnp.exp(x - maximum[..., None]).sum(-1))


def log_softmax(x: jax.Array) -> jax.Array:
    """Log-probabilities [..., V] of logits."""
    return x - log_sum_exp(x, x.max(-1))[..., None]


def ban_repeated_ngrams(
    values: jax.Array, tokens: jax.Array, position: jax.Array, *, size: int, free: jax.Array,
) -> jax.Array:
    """-inf where a token would complete an n-gram that its hypothesis already has.

    fairseq's rule as its CUDA kernel has it (its Python code inspects padding instead and
    hardly ever bans). The leading bos is not part of a hypothesis, and forced tokens are
    never banned.

    Args:
      values: [B, W, V].
      tokens: [B, W, C]: column c holds the hypothesis's token number c, valid below `position`.
      position: tokens each hypothesis has.
      size: n.
      free: [B] bool: sentences without a forced token.
    """
    b, w, c = tokens.shape
    starts = jnp.arange(c)
    found = jnp.broadcast_to(starts + size <= position, (b, w, c)) & free[:, None, None]
    for offset in range(size - 1):
        last = jnp.maximum(position - (size - 1) + offset, 0)
        wanted = jax.lax.dynamic_index_in_dim(tokens, last, axis=2, keepdims=True)
        found = found & (_ahead(tokens, offset) == wanted)
    banned = jnp.where(found, _ahead(tokens, size - 1), values.shape[-1])
    return values.at[jnp.arange(b)[:, None, None], jnp.arange(w)[:, None], banned].set(
        -jnp.inf, mode="drop")


def _ahead(tokens: jax.Array, by: int) -> jax.Array:
    """tokens[..., c + by] in column c, clipped at the end."""
    by = min(by, tokens.shape[-1])
    return jnp.concatenate([tokens[..., by:], jnp.zeros_like(tokens[..., :by])], axis=-1)
