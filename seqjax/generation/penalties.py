"""What transformers' processors make of scores: scores of every next token and the tokens of each
hypothesis in, changed scores out.

A beam search changes log-probabilities and does not normalise them again (unless
`renormalize_logits` says so); a search of one hypothesis, and sampling, change logits. A
hypothesis is here what stands before its first token, its prompt and what was generated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.config import ConfigError
from seqjax.generation.decoding_plan import round_up_to_power
from seqjax.generation.processors import Scores, Sentences, StepRules, log_sum_exp
from seqjax.generation.topk import block_maxima
from seqjax.models.protocol import Read


@dataclasses.dataclass(frozen=True, kw_only=True)
class Penalties:
    """The processors of one search; compiled in."""

    eos: int
    pad: int
    of_logits: bool = False
    """Logits are changed; False: log-probabilities."""
    repetition: float = 1.0
    """What scores of tokens that a hypothesis has are divided by (negative ones: multiplied)."""
    source: float = 1.0
    """What those of the source's tokens are multiplied by (negative ones: divided)."""
    source_ngrams: int = 0
    """No n tokens in a row of the source (0: off)."""
    banned: tuple[tuple[int, ...], ...] = ()
    """Tokens in a row that no hypothesis has, two or more each."""
    at_first: tuple[int, ...] = ()
    """Tokens that are not the first that is chosen."""
    decay: tuple[int, float] | None = None
    """Generated tokens behind which eos becomes likelier, and the factor that it does so by."""
    normalized: bool = False
    """Log-probabilities are normalised again after all rules."""

    @property
    def reads_source(self) -> bool:
        """Whether the source's tokens are asked for."""
        return self.source != 1.0 or self.source_ngrams > 0

    @property
    def weighs(self) -> bool:
        """Whether scores are changed other than to -inf, so that they are no longer normalised."""
        return self.repetition != 1.0 or self.source != 1.0 or self.decay is not None

    @property
    def any(self) -> bool:
        """Whether anything is changed."""
        return bool(self.weighs or self.source_ngrams or self.banned or self.at_first
                    or self.normalized)

    @property
    def reads_logits(self) -> bool:
        """Whether logits must be as the model gives them."""
        return self.of_logits and self.weighs


class Asked(Protocol):
    """What is read of a configuration of searches."""

    @property
    def beam(self) -> int: ...
    @property
    def sampling(self) -> bool: ...
    @property
    def repetition_penalty(self) -> float: ...
    @property
    def encoder_repetition_penalty(self) -> float: ...
    @property
    def encoder_no_repeat_ngram_size(self) -> int: ...
    @property
    def bad_words_ids(self) -> tuple[tuple[int, ...], ...]: ...
    @property
    def begin_suppress_tokens(self) -> tuple[int, ...]: ...
    @property
    def exponential_decay_length_penalty(self) -> tuple[int, float] | None: ...
    @property
    def renormalize_logits(self) -> bool: ...


def penalties_of(config: Asked, *, eos: int, pad: int) -> Penalties:
    """Those that a configuration asks for."""
    return Penalties(
        eos=eos, pad=pad, of_logits=config.beam == 1 or config.sampling,
        repetition=config.repetition_penalty, source=config.encoder_repetition_penalty,
        source_ngrams=config.encoder_no_repeat_ngram_size, banned=config.bad_words_ids,
        at_first=config.begin_suppress_tokens, decay=config.exponential_decay_length_penalty,
        normalized=config.renormalize_logits)


def read(
    asked: Penalties | None, source: Read, prompts: Sequence[Sequence[int]] | None, *,
    pad: int,
) -> np.ndarray | None:
    """What penalties take for the sources of a batch: [B, S] int32, padded.

    Args:
      asked: of the search; None is given where none of it reads a source.
      source: [B, S].
      prompts: of language models, which read no source: of the first rows.

    Raises:
      ConfigError: sources are audio, which has no tokens.
    """
    if asked is None or not asked.reads_source:
        return None
    if not isinstance(source, np.ndarray):
        raise ConfigError("generation: encoder_repetition_penalty and encoder_no_repeat_ngram_size "
                          "are of the source's tokens, but this model reads audio")
    if prompts is None:
        return source
    width = round_up_to_power(max(map(len, prompts)))
    out = np.full((len(source), width), pad, np.int32)
    for row, ids in enumerate(prompts):
        out[row, :len(ids)] = ids
    return out


def apply(
    scores: Scores, asked: Penalties, rules: StepRules, sentences: Sentences, *,
    tokens: jax.Array, position: jax.Array,
) -> Scores:
    """The scores after all processors but those of `StepRules`, whose bans only a normalisation
    asks about.

    Args:
      tokens: [B, W, 1 + C]: what stands before each hypothesis's first token, then its tokens, of
        which `position` are there.
      position: int32 scalar.
    """
    values = scores.values if asked.of_logits else scores.values - scores.minus[..., None]
    written = jnp.arange(tokens.shape[-1]) <= position
    if asked.source != 1.0:
        assert sentences.source is not None
        values = _scaled(values, _wide(sentences.source, values), 1 / asked.source, pad=asked.pad)
    if asked.repetition != 1.0:
        seen = jnp.where(written, tokens, values.shape[-1])
        values = _scaled(values, seen, asked.repetition)
    if asked.source_ngrams:
        assert sentences.source is not None
        values = _without_ngrams_of(
            values, _wide(sentences.source, values), tokens, position, size=asked.source_ngrams,
            pad=asked.pad)
    for words in asked.banned:
        ends = jnp.broadcast_to(position + 1 >= len(words) - 1, values.shape[:2])
        for place, word in enumerate(words[:-1]):
            ends = ends & (_token(tokens, position - (len(words) - 2) + place) == word)
        values = values.at[..., words[-1]].set(
            jnp.where(ends, -jnp.inf, values[..., words[-1]]))
    if asked.decay is not None:
        values = _towards_end(values, asked.decay, asked.eos, _generated(sentences, position))
    if asked.at_first:
        first = (sentences.prefix != asked.pad).sum(axis=1) == position
        ids = jnp.asarray(asked.at_first)
        values = values.at[..., ids].set(
            jnp.where(first[:, None, None], -jnp.inf, values[..., ids]))
    return _with_values(scores, values, asked, rules)


def _with_values(scores: Scores, values: jax.Array, asked: Penalties, rules: StepRules) -> Scores:
    """Scores of changed values, normalised where they are logits or it is asked for."""
    minus = scores.minus if asked.of_logits else jnp.zeros_like(scores.minus)
    if asked.normalized:
        banned = jnp.isneginf(rules.adjust(values, jnp.arange(values.shape[-1])))
        values = jnp.where(banned, -jnp.inf, values)
    maxima = block_maxima(values)
    if asked.normalized or asked.reads_logits:
        most = maxima.max(-1)
        minus = jnp.where(most > -jnp.inf, log_sum_exp(
            values, jnp.where(most > -jnp.inf, most, 0.0)), 0.0)
    return dataclasses.replace(scores, values=values, maxima=maxima, minus=minus)


def _generated(sentences: Sentences, position: jax.Array) -> jax.Array:
    """[B] tokens that are there beyond the prompt."""
    prompt = 0 if sentences.uncounted is None else sentences.uncounted
    return jnp.broadcast_to(position - prompt, sentences.max_len.shape)


def _wide(source: jax.Array, values: jax.Array) -> jax.Array:
    """[B, S] for every hypothesis."""
    return jnp.broadcast_to(source[:, None], (*values.shape[:2], source.shape[1]))


def _token(tokens: jax.Array, place: jax.Array) -> jax.Array:
    """[B, W]: the token of each hypothesis at a place, 0 being what stands before the first."""
    return jax.lax.dynamic_index_in_dim(tokens, jnp.maximum(place, 0), axis=2, keepdims=False)


def _at(values: jax.Array, ids: jax.Array, new: jax.Array) -> jax.Array:
    """`values` [B, W, V] with `new` [B, W, N] at `ids` [B, W, N]; ids that are none are passed
    over."""
    b, w, _ = values.shape
    return values.at[jnp.arange(b)[:, None, None], jnp.arange(w)[:, None], ids].set(
        new, mode="drop")


def _scaled(
    values: jax.Array, ids: jax.Array, penalty: float, *, pad: int | None = None
) -> jax.Array:
    """The scores of these tokens [B, W, N] divided by a penalty, negative ones multiplied."""
    size = values.shape[-1]
    if pad is not None:
        ids = jnp.where(ids == pad, size, ids)
    at = jnp.take_along_axis(values, jnp.minimum(ids, size - 1), axis=2)
    return _at(values, ids, jnp.where(at < 0, at * penalty, at / penalty))


def _without_ngrams_of(
    values: jax.Array, source: jax.Array, tokens: jax.Array, position: jax.Array, *, size: int,
    pad: int,
) -> jax.Array:
    """-inf where a token would complete an n-gram of the source [B, W, S]."""
    length = source.shape[-1]
    found = jnp.broadcast_to(position + 1 >= size - 1, source.shape)
    for offset in range(size - 1):
        wanted = _token(tokens, position - (size - 2) + offset)[..., None]
        found = found & (_ahead(source, offset, pad) == wanted)
    last = _ahead(source, size - 1, pad)
    inside = (jnp.arange(length) + size <= length) & (last != pad)
    return _at(values, jnp.where(found & inside, last, values.shape[-1]), jnp.full(
        source.shape, -jnp.inf))


def _ahead(ids: jax.Array, by: int, pad: int) -> jax.Array:
    """ids[..., s + by] at s."""
    return jnp.pad(ids[..., by:], ((0, 0), (0, 0), (0, min(by, ids.shape[-1]))),
                   constant_values=pad)


def _towards_end(
    values: jax.Array, decay: tuple[int, float], eos: int, generated: jax.Array
) -> jax.Array:
    """eos, likelier with every token behind the first so many."""
    start, factor = decay
    over = jnp.maximum(generated - start, 0).astype(jnp.float32)[:, None]
    at = values[..., eos]
    more = jnp.where(jnp.isfinite(at), jnp.abs(at) * (factor ** over - 1.0), 0.0)
    return values.at[..., eos].set(at + more)
