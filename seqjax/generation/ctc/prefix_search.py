"""CTC prefix beam search: frames in, the most probable token sequences out, compiled.

A hypothesis is a sequence of tokens (with a lexicon: and where its words end); its probability is
the sum over the alignments that give it, kept in two parts, alignments that end in a blank and
those that do not (Hannun et al. 2014, "First-Pass Large Vocabulary Continuous Speech Recognition
using Bi-Directional Recurrent DNNs"). Hypotheses that meet again are one: each carries a hash of
itself and of its parent. A word's language model score is added where the word ends, until then
the best score of a word below (see `lexicon`).
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from seqjax.generation.ctc.frames import NO_TOKEN
from seqjax.generation.ctc.lexicon import NO_WORD, ROOT, UNKNOWN, TrieArrays, TrieForm
from seqjax.generation.ctc.ngram import NGramArrays
from seqjax.generation.ctc.sorted_table import ABSENT
from seqjax.generation.topk import row_top_k

NEVER = -jnp.inf


class WordModel(Protocol):
    """Scores words one after the other: an `NGramForm`, or a model of another library."""

    @property
    def unk(self) -> int:
        """The id of an unknown word."""
        ...

    @property
    def eos(self) -> int | None:
        """The id of the end of a sentence."""
        ...

    @property
    def start(self) -> int:
        """The first state."""
        ...

    def advance(
        self, arrays: Any, states: jax.Array, words: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """log10 probabilities and next states of (state, word) pairs."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """What a search is compiled for."""

    beam: int
    beam_threshold: float
    lm_weight: float
    word_score: float
    unk_weight: float
    sil_weight: float
    log_add: bool
    silence: int
    trie: TrieForm | None
    lm: WordModel | None
    units: bool
    """The language model is of tokens, not of words."""


class Data(NamedTuple):
    """Arrays of a search that are not of its input."""

    trie: TrieArrays | None
    lm: NGramArrays | np.ndarray | None
    """What its `advance` takes."""
    words: jax.Array
    """The language model's ids of the lexicon's words, or of tokens."""


class Beams(NamedTuple):
    """W hypotheses of B rows, [B, W] each, best first."""

    ends_blank: jax.Array
    """Log-probability of alignments that end in a blank."""
    ends_token: jax.Array
    """Log-probability of those that end in the last token."""
    bonus: jax.Array
    """What language model, words and silences have added."""
    last: jax.Array
    """The last token, `NO_TOKEN` before the first."""
    way: jax.Array
    """Which of the ways of its last token it went (see `TrieForm.ways`)."""
    node: jax.Array
    state: jax.Array
    """The language model's."""
    hash: jax.Array
    """[B, W, 2] uint32."""
    parent: jax.Array
    """[B, W, 2] uint32: the hash without the last token."""


class Step(NamedTuple):
    """How a frame changed the beam, [B, W] int32 each."""

    origin: jax.Array
    """Whose continuation this is."""
    token: jax.Array
    """The token that it got, `NO_TOKEN` for none."""
    word: jax.Array
    """The word that ended, `NO_WORD` for none."""


class Found(NamedTuple):
    """What a search found."""

    beams: Beams
    scores: jax.Array
    """[B, W] with the last word and the end of the sentence, descending."""
    order: jax.Array
    """[B, W] int32: which beam each score is of."""
    last_word: jax.Array
    """[B, W] int32, by beam: the word that the end of the utterance ended."""
    steps: Step
    """[T, B, W] each."""


def _add(rules: Rules, a: jax.Array, b: jax.Array) -> jax.Array:
    """Log-probability of either: of all alignments, or of the best."""
    return jnp.logaddexp(a, b) if rules.log_add else jnp.maximum(a, b)


def _mixed(hashes: jax.Array, token: jax.Array, way: jax.Array) -> jax.Array:
    """Hashes [..., 2] of hypotheses that got a token."""
    more = (token.astype(jnp.uint32) + 1) * jnp.uint32(0x9E3779B1) + way.astype(jnp.uint32) + 1
    mixed = (hashes ^ more[..., None]) * jnp.array([0x85EBCA6B, 0xC2B2AE35], jnp.uint32)
    return mixed ^ (mixed >> jnp.uint32(15))


def start(rules: Rules, rows: int) -> Beams:
    """Beams of the empty hypothesis alone."""
    shape = (rows, rules.beam)
    zeros = jnp.zeros(shape, jnp.int32)
    first = jnp.where(jnp.arange(rules.beam) == 0, 0.0, NEVER)
    return Beams(
        ends_blank=jnp.broadcast_to(first, shape), ends_token=jnp.full(shape, NEVER),
        bonus=jnp.zeros(shape), last=jnp.full(shape, NO_TOKEN), way=zeros, node=zeros,
        state=jnp.full(shape, 0 if rules.lm is None else rules.lm.start, jnp.int32),
        hash=jnp.ones((*shape, 2), jnp.uint32), parent=jnp.zeros((*shape, 2), jnp.uint32))


class Ends(NamedTuple):
    """The ways that candidates of any shape [..., C] can go."""

    allowed: jax.Array
    bonus: jax.Array
    """Added to the hypothesis'."""
    word: jax.Array
    """The word that ends, `NO_WORD` for none."""
    node: jax.Array
    state: jax.Array


def _word_scores(
    rules: Rules, data: Data, states: jax.Array, words: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """What ended words add, and next states; words may be `NO_WORD`."""
    bonus = jnp.where(words == UNKNOWN, rules.word_score + rules.unk_weight, rules.word_score)
    if rules.lm is None:
        return bonus, jnp.broadcast_to(states, words.shape)
    ids = jnp.where(words < 0, rules.lm.unk, data.words[jnp.maximum(words, 0)])
    log10, after = rules.lm.advance(data.lm, *jnp.broadcast_arrays(states, ids))
    return bonus + rules.lm_weight * log10, after


def _look(trie: TrieArrays, nodes: jax.Array) -> jax.Array:
    return trie.look_ahead[nodes]


def _ends(rules: Rules, data: Data, beams: Beams, tokens: jax.Array, *, may_end: bool) -> Ends:
    """Ways of hypotheses [B, W] that get tokens [B, 1 or W, N]: [B, W, N, C].

    Args:
      may_end: words can end with one of these tokens.
    """
    assert rules.trie is not None and data.trie is not None
    nodes = beams.node[..., None]
    child = rules.trie.follow(data.trie, nodes, jnp.maximum(tokens, 0))
    child = jnp.where(tokens == NO_TOKEN, ABSENT, child)[..., None]  # [B, W, N, 1]
    at = jnp.maximum(child, 0)
    before = _look(data.trie, nodes)[..., None]
    goes_on = data.trie.goes_on[at] & (child != ABSENT)
    staying = Ends(goes_on, _look(data.trie, at) - before, jnp.full_like(child, NO_WORD), at,
                   jnp.broadcast_to(beams.state[..., None, None], child.shape))
    if not may_end:
        return staying
    words = data.trie.words[at[..., 0]]  # [B, W, N, M]
    words = jnp.where(child == ABSENT, NO_WORD, words)
    added, after = _word_scores(rules, data, beams.state[..., None, None], words)
    ending = Ends(words != NO_WORD, added - before, words, jnp.full_like(words, ROOT), after)
    both = [jnp.concatenate(parts, -1) for parts in zip(ending, staying, strict=True)]
    return _packed(Ends(*both), rules.trie.ways)


def _packed(ends: Ends, ways: int) -> Ends:
    """The allowed ways first, and no more of them than there can be."""
    if ends.allowed.shape[-1] == ways:
        return ends
    number = jnp.cumsum(ends.allowed, -1)
    chosen = jnp.stack([jnp.argmax(ends.allowed & (number == i + 1), -1) for i in range(ways)], -1)
    packed = Ends(*(jnp.take_along_axis(part, chosen, -1) for part in ends))
    return packed._replace(allowed=jnp.arange(ways) < number[..., -1:])


def _ways(rules: Rules, data: Data, beams: Beams, tokens: jax.Array) -> Ends:
    """What becomes of hypotheses [B, W] that get tokens [B, N]: [B, W, N, C]."""
    tokens = tokens[:, None]
    if rules.trie is None:
        allowed = jnp.broadcast_to(
            tokens != NO_TOKEN, (*beams.last.shape, tokens.shape[-1]))[..., None]
        nowhere = jnp.zeros(allowed.shape, jnp.int32)
        states = jnp.broadcast_to(beams.state[..., None, None], allowed.shape)
        bonus = jnp.zeros(allowed.shape)
        if rules.units:
            words = jnp.broadcast_to(jnp.maximum(tokens, 0)[..., None], allowed.shape)
            bonus, states = _word_scores(rules, data, states, words)
            bonus -= rules.word_score  # tokens are no words
        return Ends(allowed, bonus, jnp.full_like(nowhere, NO_WORD), nowhere, states)
    if rules.trie.boundary is None:
        return _ends(rules, data, beams, tokens, may_end=True)
    # Only at the boundary do words end, so there alone is the language model asked.
    inside = _ends(rules, data, beams, tokens, may_end=False)
    boundary = jnp.full((*beams.last.shape, 1), rules.trie.boundary, jnp.int32)
    ending = _ends(rules, data, beams, boundary, may_end=True)
    here = (tokens == rules.trie.boundary)[..., None]
    first = jnp.arange(rules.trie.ways) == 0
    inside = inside._replace(allowed=inside.allowed & first)
    return Ends(*(jnp.where(here, end, go) for end, go in zip(ending, inside, strict=True)))


class Grown(NamedTuple):
    """What a frame makes of a beam, before the best are chosen."""

    stay_blank: jax.Array
    """[B, W]: alignments that stay, with a blank."""
    stay_token: jax.Array
    """[B, W]: those that repeat the last token, and those that arrive from the parent."""
    longer: jax.Array
    """[B, W, N]: log-probabilities with one more token."""
    gone: jax.Array
    """[B, W]: the place in `longer` of the hypothesis itself, its parent's continuation; beyond
    the end if its parent is not in the beam."""


def _grow(rules: Rules, beams: Beams, frame: dict[str, jax.Array]) -> Grown:
    tokens, log_probs = frame["tokens"], frame["log_probs"]  # [B, N]
    total = _add(rules, beams.ends_blank, beams.ends_token)
    gap = frame["only_blank_before"][:, None]
    ends_blank = jnp.where(gap, total + frame["blanks_before"][:, None], beams.ends_blank)
    ends_token = jnp.where(gap, NEVER, beams.ends_token)
    total = jnp.where(gap, ends_blank, total)

    is_last = beams.last[..., None] == tokens[:, None]  # [B, W, N]
    slot = jnp.argmax(is_last, -1)
    has_slot = jnp.any(is_last, -1)
    own = jnp.where(has_slot, jnp.take_along_axis(log_probs, slot, 1), NEVER)
    longer = jnp.where(is_last, ends_blank[..., None], total[..., None]) + log_probs[:, None]

    # What its parent would give a hypothesis that is there already goes to that hypothesis.
    meets = jnp.all(beams.parent[:, :, None] == beams.hash[:, None], -1)  # [B, child, parent]
    joins = jnp.any(meets, -1) & has_slot
    place = jnp.argmax(meets, -1) * tokens.shape[-1] + slot
    flat = longer.reshape(len(tokens), -1)
    given = jnp.where(joins, jnp.take_along_axis(flat, place, 1), NEVER)
    return Grown(
        stay_blank=total + frame["blank"][:, None], longer=longer,
        stay_token=_add(rules, ends_token + own, given),
        gone=jnp.where(joins, place, flat.shape[1]))


def _step(
    rules: Rules, data: Data, beams: Beams, frame: dict[str, jax.Array],
) -> tuple[Beams, Step]:
    """One frame of all rows; see `frames.Frames` for its parts."""
    tokens = frame["tokens"]
    b, n = tokens.shape
    grown = _grow(rules, beams, frame)
    ends = _ways(rules, data, beams, tokens)
    c = ends.allowed.shape[-1]
    silent = jnp.where(tokens == rules.silence, rules.sil_weight, 0.0)[:, None, :, None]
    more = ends.bonus + silent
    rank = jnp.where(
        ends.allowed, grown.longer[..., None] + beams.bonus[..., None, None] + more, NEVER)
    rank = rank.reshape(b, -1).at[jnp.arange(b)[:, None], grown.gone * c + beams.way].set(
        NEVER, mode="drop")
    stays = _add(rules, grown.stay_blank, grown.stay_token) + beams.bonus
    best, chosen = row_top_k(jnp.concatenate([stays, rank], 1), rules.beam)
    alive = (best >= best.max(1, keepdims=True) - rules.beam_threshold) & (best > NEVER)

    new = chosen >= rules.beam
    candidate = jnp.maximum(chosen - rules.beam, 0)
    origin = jnp.where(new, candidate // (n * c), chosen)

    def of_origin(x: jax.Array) -> jax.Array:
        return jnp.take_along_axis(x, origin, 1)

    def of_candidate(x: jax.Array) -> jax.Array:
        return jnp.take_along_axis(x.reshape(b, -1), candidate, 1)

    token = jnp.where(
        new, jnp.take_along_axis(tokens, candidate // c % n, 1), of_origin(beams.last))
    way = jnp.where(new, candidate % c, of_origin(beams.way))
    longer = jnp.take_along_axis(grown.longer.reshape(b, -1), candidate // c, 1)
    old_hash = jnp.take_along_axis(beams.hash, origin[..., None], 1)
    old_parent = jnp.take_along_axis(beams.parent, origin[..., None], 1)
    after = Beams(
        ends_blank=jnp.where(alive & ~new, of_origin(grown.stay_blank), NEVER),
        ends_token=jnp.where(alive, jnp.where(new, longer, of_origin(grown.stay_token)), NEVER),
        bonus=of_origin(beams.bonus) + jnp.where(new, of_candidate(more), 0.0),
        last=token, way=way,
        node=jnp.where(new, of_candidate(ends.node), of_origin(beams.node)),
        state=jnp.where(new, of_candidate(ends.state), of_origin(beams.state)),
        hash=jnp.where(new[..., None], _mixed(old_hash, token, way), old_hash),
        parent=jnp.where(new[..., None], old_hash, old_parent))
    return after, Step(origin, jnp.where(new, token, NO_TOKEN),
                       jnp.where(new, of_candidate(ends.word), NO_WORD))


def _sentence_end(rules: Rules, data: Data, states: jax.Array) -> jax.Array:
    """What the end of a sentence adds."""
    if rules.lm is None or rules.lm.eos is None:
        return jnp.zeros(states.shape)
    end = jnp.full(states.shape, rules.lm.eos, jnp.int32)
    return rules.lm_weight * rules.lm.advance(data.lm, states, end)[0]


def _finish(
    rules: Rules, data: Data, beams: Beams, blanks_after: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Scores [B, W] with the end of the utterance, and the words that it ends."""
    scores = _add(rules, beams.ends_blank, beams.ends_token) + beams.bonus + blanks_after[:, None]
    word = jnp.full(beams.last.shape, NO_WORD)
    end = _sentence_end(rules, data, beams.state)
    if rules.trie is not None:
        inside = beams.node != ROOT
        ended = jnp.zeros_like(inside)
        if rules.trie.boundary is not None:  # it need not be heard
            boundary = jnp.full((*beams.last.shape, 1), rules.trie.boundary, jnp.int32)
            ways = jax.tree.map(lambda x: x[:, :, 0], _ends(
                rules, data, beams, boundary, may_end=True))
            added = jnp.where(ways.allowed & (ways.word != NO_WORD),
                              ways.bonus + _sentence_end(rules, data, ways.state), NEVER)
            best = jnp.argmax(added, -1, keepdims=True)
            added, ending = (jnp.take_along_axis(x, best, -1)[..., 0] for x in (added, ways.word))
            ended = inside & (added > NEVER)
            end = jnp.where(ended, added, end)
            word = jnp.where(ended, ending, NO_WORD)
        # Half a word is no answer, unless there is nothing else.
        whole = ~inside | ended
        any_whole = jnp.any(whole & (scores > NEVER), 1, keepdims=True)
        scores = jnp.where(whole | ~any_whole, scores, NEVER)
    return scores + end, word


@partial(jax.jit, static_argnames="rules")
def search(rules: Rules, data: Data, frames: dict[str, jax.Array]) -> Found:
    """The best hypotheses of B rows.

    Args:
      rules: the options and what is compiled in.
      data: arrays of lexicon and language model.
      frames: the fields of `frames.Frames` but `times`, [B, T, ...]; of frames that are not
        used, nothing is read.
    """
    after = frames["blanks_after"]
    by_time = {name: jnp.swapaxes(part, 0, 1) for name, part in frames.items()
               if name != "blanks_after"}
    stay = jnp.broadcast_to(jnp.arange(rules.beam, dtype=jnp.int32), (len(after), rules.beam))

    def step(beams: Beams, frame: dict[str, jax.Array]) -> tuple[Beams, Step]:
        used = frame["used"]
        moved, how = _step(rules, data, beams, frame)
        idle = Step(stay, jnp.full_like(stay, NO_TOKEN), jnp.full_like(stay, NO_WORD))

        def keep(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(used.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        return jax.tree.map(keep, moved, beams), jax.tree.map(keep, how, idle)

    beams, steps = lax.scan(step, start(rules, len(after)), by_time)
    scores, last_word = _finish(rules, data, beams, after)
    best, order = row_top_k(scores, rules.beam)
    return Found(beams, best, order.astype(jnp.int32), last_word, steps)
