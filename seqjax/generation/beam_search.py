"""The compiled search: one loop over steps, on the device, for a batch of sentences.

A search is `begin` (encode, empty state), then chunks: a `while_loop` that runs until all
sentences are done or the cache is full. Between chunks the cache grows to the next of a
few capacities, so that attention pays for real lengths and few programs are compiled.
The cache is never copied inside a chunk: hypotheses find their past through `ancestors`.

A model of `models.protocol`, its weights and one batch of ids go in, a `SearchState` comes out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.config import ConfigError, GenerationConfig
from seqjax.generation import penalties as penalties_module
from seqjax.generation.penalties import Penalties, penalties_of
from seqjax.generation.processors import (
    FREE,
    Scores,
    Sentences,
    StepRules,
    Tables,
    TokenRules,
    ban_repeated_ngrams,
    log_sum_exp,
    scores_of,
)
from seqjax.generation.rows import batch_first, move_rows
from seqjax.generation.sampling import SamplingSelection
from seqjax.generation.search_state import (
    SearchState,
    advance,
    grow_state,
    history,
    start_state,
)
from seqjax.generation.selection import (
    BeamSelection,
    DiverseSelection,
    SiblingSelection,
    Strategy,
)
from seqjax.generation.topk import block_maxima
from seqjax.models.protocol import (
    Cache,
    Params,
    Read,
    Stepper,
    Weights,
    encode_tokens,
    tempered,
)

LEAST_TEMPERATURE = 1e-6
SMALLEST_CAPACITY = 32
Batch = tuple[tuple[Cache, ...], SearchState, Sentences]
"""Sentences that are searched together, as arrays."""
"""Positions in the first cache; each next one has twice as many."""


def has_sibling_penalty(config: GenerationConfig) -> bool:
    """Whether siblings pay for their rank (or, at a rate below 0, are paid for it)."""
    return config.diversity_rate > -1 and config.diversity_rate != 0


def strategy_of(config: GenerationConfig) -> Strategy:
    """The strategy that a configuration asks for.

    Raises:
      ConfigError: options that contradict each other.
    """
    chosen = {
        "sampling": config.sampling, "diverse_beam_groups": config.diverse_beam_groups > 0,
        "diversity_rate": has_sibling_penalty(config),
        "match_source_len": config.match_source_len,
    }
    names = [name for name, on in chosen.items() if on]
    if len(names) > 1:
        raise ConfigError(f"generation: {' and '.join(names)} exclude each other: keep one")
    if not config.sampling and max(
            config.sampling_topk, config.sampling_topp, config.sampling_minp) > 0:
        raise ConfigError("generation: sampling_topk, sampling_topp and sampling_minp need "
                          "sampling=True")
    if config.sampling:
        if config.nbest != config.beam:
            raise ConfigError(
                f"generation: sampling draws beam={config.beam} independent outputs; "
                f"set nbest={config.beam} too (it is {config.nbest})")
        return SamplingSelection(
            topk=config.sampling_topk, topp=config.sampling_topp, minp=config.sampling_minp,
            one_by_one=config.rules == "transformers")
    if config.diverse_beam_groups > 0:
        if config.beam % config.diverse_beam_groups:
            raise ConfigError(
                f"generation: beam={config.beam} is not divisible by "
                f"diverse_beam_groups={config.diverse_beam_groups}")
        return DiverseSelection(groups=config.diverse_beam_groups,
                                strength=config.diverse_beam_strength,
                                by_number=config.padded_source_len)
    if has_sibling_penalty(config):
        return SiblingSelection(rate=config.diversity_rate)
    return BeamSelection()


def check(config: GenerationConfig) -> None:
    """Refuses values that no search can use.

    Raises:
      ConfigError: naming the key.
    """
    if config.beam < 1:
        raise ConfigError(f"generation.beam: {config.beam} is less than 1")
    if not 1 <= config.nbest <= config.beam:
        raise ConfigError(f"generation.nbest: {config.nbest} is not between 1 and "
                          f"beam={config.beam}")
    for name, value in vars(config).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"generation.{name}: {value} is not a finite number")
    if not config.temperature > 0:
        raise ConfigError(f"generation.temperature: {config.temperature} is not above 0")
    if config.temperature < LEAST_TEMPERATURE:
        raise ConfigError(
            f"generation.temperature: {config.temperature} is below {LEAST_TEMPERATURE}, where "
            "only the most probable token has a chance: beam=1 without sampling takes that")
    for name in ("no_repeat_ngram_size", "min_len", "prefix_size", "min_new_tokens",
                 "encoder_no_repeat_ngram_size"):
        if getattr(config, name) < 0:
            raise ConfigError(f"generation.{name}: {getattr(config, name)} is negative")
    for name, ids in (("bos_token", (config.bos_token,)),
                      ("first_tokens", config.first_tokens or ())):
        if any(i is not None and i < 0 for i in ids):
            raise ConfigError(f"generation.{name}: {getattr(config, name)}: ids are 0 or more")
    for name in ("max_tokens", "batch_size"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ConfigError(f"generation.{name}: {value} is less than 1")
    for name in ("sampling_topk", "sampling_topp", "diverse_beam_groups", "diversity_rate"):
        if getattr(config, name) < -1:
            raise ConfigError(f"generation.{name}: {getattr(config, name)} is less than -1, "
                              "which turns it off")
    if config.sampling_topp > 1:
        raise ConfigError(f"generation.sampling_topp: {config.sampling_topp} is a share of the "
                          "probability, 1 at most")
    for name in ("repetition_penalty", "encoder_repetition_penalty"):
        if getattr(config, name) <= 0:
            raise ConfigError(f"generation.{name}: {getattr(config, name)} is not above 0 (1 "
                              "changes nothing)")
    decay = config.exponential_decay_length_penalty
    if decay is not None and (decay[0] < 0 or not decay[1] > 0):
        raise ConfigError(f"generation.exponential_decay_length_penalty: {decay}; give tokens, and "
                          "a factor above 0")
    for words in config.bad_words_ids:
        if len(words) < 2 or min(words) < 0:
            raise ConfigError(f"generation.bad_words_ids: {list(words)}: give two ids or more; one "
                              "alone is for suppress_tokens")
    if not 0 <= config.sampling_minp <= 1:
        raise ConfigError(f"generation.sampling_minp: {config.sampling_minp} is no share of a "
                          "probability")
    strategy_of(config)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Everything that a search compiles in."""

    rules: TokenRules
    strategy: Strategy
    beam: int
    vocabulary: int
    temperature: float = 1.0
    lenpen: float = 1.0
    unnormalized: bool = False
    lm_weight: float | None = None
    """Not None: the last model is a language model whose log-probabilities are added with
    this weight."""
    stopping: str | None = None
    """None: fairseq's rule; else transformers' `early_stopping`."""
    penalties: Penalties | None = None
    """What else changes scores; None: nothing."""
    ngrams_begin: bool = False
    """What stands before the first token is part of n-grams, as in transformers."""

    def norms(self, capacity: int) -> np.ndarray:
        """[C] float32: what a hypothesis that ends at step c is divided by."""
        lengths = np.arange(1, capacity + 1, dtype=np.float64)
        return (np.ones_like(lengths) if self.unnormalized else lengths ** self.lenpen).astype(
            np.float32)


def options_of(
    config: GenerationConfig, *, pad: int, eos: int, unk: int, vocabulary: int,
    suppress: Sequence[int] = (), lm_weight: float | None = None,
    strategy: Strategy | None = None,
) -> SearchOptions:
    """The options of a configuration; the beam is at most the vocabulary less pad. A
    `strategy` replaces the configuration's."""
    check(config)
    theirs = config.rules == "transformers" and not config.sampling
    penalties = penalties_of(config, eos=eos, pad=pad)
    return SearchOptions(
        penalties=penalties if penalties.any else None,
        ngrams_begin=config.rules == "transformers",
        rules=TokenRules(
            pad=pad, eos=eos, unk=unk, unkpen=config.unkpen,
            suppress=tuple(sorted({*suppress, *config.suppress_tokens})),
            min_len=config.min_len, min_new=config.min_new_tokens,
            match_source_len=config.match_source_len,
            no_repeat_ngram_size=config.no_repeat_ngram_size,
            ban_pad=config.rules == "fairseq", forced_cost=not theirs,
            force_eos=config.force_eos or not theirs),
        strategy=strategy or strategy_of(config), beam=min(config.beam, vocabulary - 1),
        vocabulary=vocabulary, temperature=config.temperature, lenpen=config.lenpen,
        unnormalized=config.unnormalized, lm_weight=lm_weight,
        stopping=_stopping(config) if theirs else None)


def _stopping(config: GenerationConfig) -> str:
    """transformers' rule for when a sentence is done. One hypothesis is done when it ends; and
    where length is not paid for, waiting for longer ones is of no use to it."""
    if config.beam == 1:
        return "true"
    if config.early_stopping == "never" and config.lenpen <= 0:
        return "false"
    return config.early_stopping


class Search:
    """The compiled functions of one search by one model, or by several that vote.

    Nothing is kept between calls but compiled programs; jit finds them by shape.
    """

    def __init__(
        self, models: Sequence[Stepper], options: SearchOptions, *,
        cache_axes: tuple[int, ...] = (),
    ):
        """
        Args:
          models: one, or several of the same target vocabulary; with `options.lm_weight`
            the last one is a language model.
          options: what is compiled in.
          cache_axes: the batch axis of each array of the caches (`rows.batch_axes`); needed
            by `move` alone.
        """
        self.models = tuple(models)
        self.options = options
        self.cache_axes = cache_axes
        self.begin = jax.jit(self._begin, static_argnames=("capacity",))
        self.chunk = jax.jit(self._chunk, donate_argnames=("caches", "state"))
        self.grow = jax.jit(self._grow, static_argnames=("capacity",))
        self.move = jax.jit(self._move, donate_argnames=("into",))

    def _begin(
        self, params: Sequence[Params], weights: Sequence[Weights], source: Read,
        sentences: Sentences, *, capacity: int,
    ) -> tuple[tuple[Cache, ...], SearchState]:
        """Encodes the sources; caches and state before the first step."""
        caches = tuple(
            model.start(w, encode_tokens(model, p, source), rows=sentences.source_len.shape[0],
                        beam=self.options.beam, capacity=capacity)
            for model, p, w in zip(self.models, params, weights, strict=True))
        state = start_state(
            bos=sentences.bos, beam=self.options.beam, capacity=capacity,
            done=sentences.source_len == 0,
            memory=self.options.strategy.start(sentences, beam=self.options.beam))
        return caches, state

    def _grow(
        self, caches: tuple[Cache, ...], state: SearchState, *, capacity: int,
    ) -> tuple[tuple[Cache, ...], SearchState]:
        """The same search with room for `capacity` positions."""
        grown = tuple(m.grow(c, capacity=capacity)
                      for m, c in zip(self.models, caches, strict=True))
        return grown, grow_state(state, capacity=capacity)

    def _chunk(
        self, weights: Sequence[Weights], sentences: Sentences, caches: tuple[Cache, ...],
        state: SearchState, stop: jax.Array, *, tables: Tables = None,
    ) -> tuple[tuple[Cache, ...], SearchState]:
        """Steps up to `stop` (at most the capacity), or until all is done; `tables` are what
        the strategy knows of all sentences alike."""
        sentences = dataclasses.replace(sentences, tables=tables)
        capacity = state.ancestors.shape[2]
        norms = jnp.asarray(self.options.norms(capacity))

        def unfinished(carry: tuple[tuple[Cache, ...], SearchState]) -> jax.Array:
            return (carry[1].position < stop) & ~jnp.all(carry[1].done)

        def body(carry: tuple[tuple[Cache, ...], SearchState]):
            return self.step(weights, sentences, *carry, norms=norms)

        return jax.lax.while_loop(unfinished, body, (caches, state))

    def _move(
        self, into: Batch, of: Batch, source: jax.Array, moved: jax.Array,
    ) -> Batch:
        """Two batches at the same position: `into`, with sentences of `of`, the rows
        `source` [R], where `moved` [R]."""
        axes = (*self.cache_axes, *batch_first(of[1]), *batch_first(of[2]))
        arrays, structure = jax.tree.flatten(into)
        return structure.unflatten([
            move_rows(x, y, source, moved, axis=axis)
            for x, y, axis in zip(arrays, jax.tree.leaves(of), axes, strict=True)])

    def step(
        self, weights: Sequence[Weights], sentences: Sentences, caches: tuple[Cache, ...],
        state: SearchState, *, norms: jax.Array,
    ) -> tuple[tuple[Cache, ...], SearchState]:
        """One token for every hypothesis."""
        lm_weight = self.options.lm_weight
        temperatures = [self.options.temperature] * len(self.models)
        if lm_weight is not None:
            temperatures[-1] = 1.0  # the language model's own is not for it, as in fairseq
        logits, grown = [], []
        penalties = self.options.penalties
        if penalties is not None and penalties.reads_logits:
            temperatures = [1.0] * len(self.models)  # it comes behind the penalties
        for model, w, cache, t in zip(self.models, weights, caches, temperatures, strict=True):
            features, cache = model.step(
                w, state.tokens, cache, position=state.position, ancestors=state.ancestors)
            logits.append(features.logits(t))
            grown.append(cache)
        rules = self.options.rules.at(state.position, sentences)
        scores = scores_of(
            logits if lm_weight is None else logits[:-1], state.total,
            lm_logits=None if lm_weight is None else logits[-1], lm_weight=lm_weight or 0.0)
        scores = self._penalised(scores, state, rules, sentences)
        strategy = self.options.strategy
        scores = strategy.restrict(scores, sentences, state)
        candidates, memory = strategy.select(
            scores, rules, sentences, state.position, state.memory)
        count = candidates.scores.shape[1]
        worthless = None
        if self.options.rules.match_source_len:
            worthless = state.position > sentences.source_len
        norm, furthest = self._norms(norms, state.position, sentences)
        state, parents = advance(
            state, candidates, eos=self.options.rules.eos, max_len=sentences.max_len,
            norm=norm, memory=memory, worthless=worthless, furthest=furthest,
            stopping=self.options.stopping, force_eos=self.options.rules.force_eos,
            existing=jnp.where(state.position == 0, min(count, self.options.vocabulary - 1),
                               count))
        state = dataclasses.replace(state, memory=strategy.follow(
            state.memory, sentences, parents=parents, tokens=state.tokens))
        caches = tuple(m.reorder(c, parents)
                       for m, c in zip(self.models, grown, strict=True))
        return caches, state

    def _norms(
        self, norms: jax.Array, position: jax.Array, sentences: Sentences
    ) -> tuple[jax.Array, jax.Array | None]:
        """What scores of hypotheses that finish now are divided by, and of those that go on for
        as long as they may (None: of no interest)."""
        if self.options.stopping is None or sentences.uncounted is None:
            norm = norms[position]
            uncounted = jnp.zeros_like(sentences.max_len)
        else:
            uncounted = sentences.uncounted
            norm = norms[jnp.maximum(position - uncounted, 0)][:, None]
        if self.options.stopping != "never":
            return norm, None
        last = jnp.maximum(sentences.max_len - uncounted, 0).astype(jnp.float32) + 1
        return norm, jnp.ones_like(last) if self.options.unnormalized else (
            last ** self.options.lenpen)

    def _penalised(
        self, scores: Scores, state: SearchState, rules: StepRules, sentences: Sentences
    ) -> Scores:
        """The scores after penalties, and -inf where n-grams come again."""
        size, asked = self.options.rules.no_repeat_ngram_size, self.options.penalties
        if not size and asked is None:
            return scores
        written = tokens = history(state)
        if asked is not None or self.options.ngrams_begin:
            begun = jnp.broadcast_to(sentences.bos[:, None, None], (*tokens.shape[:2], 1))
            tokens = jnp.concatenate([begun.astype(tokens.dtype), tokens], axis=2)
        if size:
            more = int(self.options.ngrams_begin)
            values = ban_repeated_ngrams(
                scores.values, tokens if more else written, state.position + more, size=size,
                free=rules.forced == FREE)
            scores = dataclasses.replace(scores, values=values, maxima=block_maxima(values))
        if asked is None:
            return scores
        scores = penalties_module.apply(
            scores, asked, rules, sentences, tokens=tokens, position=state.position)
        if asked.reads_logits and self.options.temperature != 1.0:
            values = tempered(scores.values, self.options.temperature)
            maxima = block_maxima(values)
            scores = dataclasses.replace(
                scores, values=values, maxima=maxima, minus=log_sum_exp(values, maxima.max(-1)))
        return scores


def capacities(needed: int, largest: int) -> list[int]:
    """The capacities a search goes through that may need `needed` positions: powers of two,
    the last one no larger than the model's `largest`; of short outputs a multiple of 4."""
    menu = [-(-needed // 4) * 4 if needed <= SMALLEST_CAPACITY // 2 else SMALLEST_CAPACITY]
    while menu[-1] < needed:
        menu.append(2 * menu[-1])
    menu[-1] = max(min(menu[-1], largest), needed)
    return menu
