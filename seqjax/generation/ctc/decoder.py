"""Log-probabilities of utterances to hypotheses: batches of a few shapes through the search."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.config import ConfigError
from seqjax.generation.ctc import prefix_search
from seqjax.generation.ctc.frames import NO_TOKEN, Frames, frames
from seqjax.generation.ctc.greedy import greedy
from seqjax.generation.ctc.hypothesis import CTCHypothesis
from seqjax.generation.ctc.kenlm_model import KenLM, is_binary, load_kenlm
from seqjax.generation.ctc.lexicon import (
    NO_WORD,
    Lexicon,
    Spelling,
    build_lexicon,
    letters,
    read_lexicon,
    with_look_ahead,
)
from seqjax.generation.ctc.ngram import BOS, EOS, UNK, NGram, load_ngram
from seqjax.generation.ctc.options import CTCOptions

_log = logging.getLogger(__name__)
LanguageModel = NGram | KenLM
ROWS = 16
"""Utterances that are searched together."""
UNKNOWN_WORD = -10.0
"""`unk_weight` where the words are those of a language model and none was given."""


class CTCDecoder:
    """Decodes a CTC model's log-probabilities, with the options of one call.

    Args:
      symbols: the text of each id.
      blank: the id of the blank.
      silence: the id of the token between words; None: the model has none.
      options: see `CTCOptions`.

    Raises:
      ConfigError: options that no search can follow; a lexicon or language model that cannot
        be read or has tokens that the model has not.
    """

    def __init__(
        self, symbols: Sequence[str], *, blank: int, silence: int | None, options: CTCOptions,
    ):
        options.check()
        self.symbols, self.blank, self.silence = symbols, blank, silence
        self.options = options
        if not options.greedy:
            self._rules, self._data, self._lexicon = self._prepare()

    @cached_property
    def tokens(self) -> dict[str, int]:
        """Each token's id, but for the blank's."""
        return {symbol: i for i, symbol in enumerate(self.symbols) if i != self.blank}

    def decode(self, rows: Sequence[np.ndarray]) -> list[list[CTCHypothesis]]:
        """The best hypotheses of each utterance, best first; at least one, perhaps empty.

        Args:
          rows: [frames, V] natural logarithms of each utterance, float32.

        Raises:
          ValueError: a row of another vocabulary, or with NaN.
        """
        for i, row in enumerate(rows):
            if row.ndim != 2 or row.shape[1] != len(self.symbols):
                raise ValueError(f"utterance {i}: log-probabilities of shape {row.shape}; expected "
                                 f"[frames, {len(self.symbols)}]")
            if np.isnan(row).any():
                raise ValueError(f"utterance {i}: log-probabilities with NaN")
        if self.options.greedy:
            return [[one] for one in greedy(rows, blank=self.blank)]
        order = np.argsort([len(row) for row in rows], kind="stable")
        found: dict[int, list[CTCHypothesis]] = {}
        for at in range(0, len(rows), ROWS):
            chosen = order[at:at + ROWS]
            for i, hypotheses in zip(
                    chosen.tolist(), self._search([rows[i] for i in chosen]), strict=True):
                found[i] = hypotheses
        return [found[i] for i in range(len(rows))]

    def _search(self, rows: list[np.ndarray]) -> list[list[CTCHypothesis]]:
        made = frames(rows, blank=self.blank, token_min_logp=self.options.token_min_logp,
                      beam_size_token=self.options.beam_size_token)
        padded = _padded(made, tokens=len(self.symbols) - 1)
        parts = {field.name: jnp.asarray(getattr(padded, field.name))
                 for field in dataclasses.fields(padded) if field.name != "times"}
        out = prefix_search.search(self._rules, self._data, parts)
        out = jax.device_get(out)
        return [self._hypotheses(out, i) for i in range(len(rows))]

    def _hypotheses(self, out: prefix_search.Found, i: int) -> list[CTCHypothesis]:
        found = []
        for rank in range(self.options.nbest):
            score, beam = float(out.scores[i, rank]), int(out.order[i, rank])
            if score == -math.inf and rank:
                break
            found.append(self._trace(out, i, beam, score))
        return found

    def _trace(
        self, out: prefix_search.Found, i: int, beam: int, score: float,
    ) -> CTCHypothesis:
        tokens: list[int] = []
        words = [int(out.last_word[i, beam])]
        for t in range(len(out.steps.origin) - 1, -1, -1):
            if out.steps.token[t, i, beam] != NO_TOKEN:
                tokens.append(int(out.steps.token[t, i, beam]))
                words.append(int(out.steps.word[t, i, beam]))
            beam = int(out.steps.origin[t, i, beam])
        tokens.reverse()
        ended = [word for word in reversed(words) if word != NO_WORD]
        lexicon = self._lexicon
        return CTCHypothesis(
            tokens=np.array(tokens, np.int32), score=score,
            words=None if lexicon is None else tuple(self._spoken(ended, tokens, lexicon)))

    def _spoken(self, words: list[int], tokens: list[int], lexicon: Lexicon) -> list[str]:
        """The words' texts; of unknown ones, their letters."""
        texts = [lexicon.words[word] if word >= 0 else None for word in words]
        if None not in texts:
            return [text for text in texts if text is not None]
        spelled = "".join(" " if token == self.silence else self.symbols[token]
                          for token in tokens).split()
        if len(spelled) != len(texts):
            return [text or UNK for text in texts]
        return [text or letters for text, letters in zip(texts, spelled, strict=True)]

    def _prepare(self) -> tuple[prefix_search.Rules, prefix_search.Data, Lexicon | None]:
        options = self.options
        lm = None
        if options.lm:
            lm = load_kenlm(options.lm) if is_binary(options.lm) else load_ngram(options.lm)
        lexicon = self._make_lexicon(lm)
        ids: list[int] = []
        if lm is not None:
            spoken = lexicon.words if lexicon is not None else self.symbols
            ids = [lm.words.get(word, lm.form.unk) for word in spoken]
            unknown = [word for word, i in zip(spoken, ids, strict=True)
                       if i == lm.form.unk and not _is_special(word)]
            if unknown:
                _log.warning("%s: knows %s not and %d more of %d; they count as %s", options.lm,
                             repr(unknown[0]), len(unknown) - 1, len(spoken), UNK)
            if options.unit_lm and all(i == lm.form.unk for i in ids):
                raise ConfigError(f"{options.lm}: no token of the model is a word of this language "
                                  "model; with unit_lm it has to be one of tokens")
        if lexicon is not None:
            lexicon = self._looking_ahead(lexicon, ids, lm)
        unk = self._unk_weight
        rules = prefix_search.Rules(
            beam=options.beam, beam_threshold=options.beam_threshold, lm_weight=options.lm_weight,
            word_score=options.word_score, unk_weight=unk if unk > -math.inf else 0.0,
            sil_weight=options.sil_weight, log_add=options.log_add,
            silence=-2 if self.silence is None else self.silence,
            trie=None if lexicon is None else lexicon.form, lm=None if lm is None else lm.form,
            units=options.unit_lm)
        data = prefix_search.Data(
            trie=None if lexicon is None else lexicon.arrays, lm=None if lm is None else lm.arrays,
            words=jnp.asarray(np.array(ids or [0], np.int32)))
        return rules, data, lexicon

    @property
    def _unk_weight(self) -> float:
        given = self.options.unk_weight
        return UNKNOWN_WORD if given == -math.inf and not self.options.lexicon else given

    def _make_lexicon(self, lm: LanguageModel | None) -> Lexicon | None:
        options = self.options
        if options.lexicon:
            spellings = read_lexicon(options.lexicon, self.tokens)
        elif lm is not None and not options.unit_lm:
            spellings = self._spelled(lm)
        else:
            return None
        unknown = None
        if self._unk_weight > -math.inf:
            if self.silence is None:
                raise ConfigError(
                    "unk_weight allows words outside the lexicon, but the model has no token "
                    "between words by which they would end; leave unk_weight out")
            unknown = [i for symbol, i in self.tokens.items() if not _is_special(symbol)]
        return build_lexicon(spellings, tokens=len(self.symbols), boundary=self.silence,
                             unknown=unknown)

    def _spelled(self, lm: LanguageModel) -> list[Spelling]:
        """The language model's own words by the model's letters."""
        options = self.options
        if self.silence is None:
            raise ConfigError(
                f"{options.lm}: the model has no token between words, so a language model of words "
                "needs lexicon=FILE (or unit_lm=True, if it is one of tokens)")
        words = [word for word in lm.words if word not in (UNK, BOS, EOS)]
        if not words:
            raise ConfigError(f"{options.lm}: a KenLM binary does not tell its words; give "
                              "lexicon=FILE")
        spelled = letters(words, self.tokens, boundary=self.symbols[self.silence])
        if not spelled:
            raise ConfigError(
                f"{options.lm}: no word of the language model can be spelled with the model's "
                f"letters; it begins with {words[0]!r}, the letters are "
                f"{' '.join(list(self.tokens)[4:12])} ... (upper and lower case?)")
        if len(spelled) < len(words):
            known = {word for word, _ in spelled}
            other = next(word for word in words if word not in known)
            _log.warning(
                "%s: %d of its %d words, %r the first, have letters that the model has not: they "
                "are not found", options.lm, len(words) - len(spelled), len(words), other)
        return spelled

    def _looking_ahead(
        self, lexicon: Lexicon, ids: list[int], lm: LanguageModel | None,
    ) -> Lexicon:
        weight = self.options.lm_weight
        scores = np.zeros(len(lexicon.words), np.float32)
        unknown = self._unk_weight
        if lm is not None:
            scores = np.array([weight * lm.unigram(i) for i in ids], np.float32)
            unknown += weight * lm.unigram(lm.form.unk)
        return with_look_ahead(lexicon, scores, unknown=unknown)


def _is_special(symbol: str) -> bool:
    """Whether it stands for no sound: `<s>`, `<pad>`."""
    return symbol.startswith("<") and symbol.endswith(">")


def _padded(made: Frames, *, tokens: int) -> Frames:
    """The frames in one of a few shapes: `ROWS` rows, frames and tokens rounded up."""
    b, t, n = made.tokens.shape
    target = (ROWS, _rounded(t, least=32), min(_rounded(n, least=4), max(n, tokens)))
    padded = {}
    for field in dataclasses.fields(made):
        part = getattr(made, field.name)
        width = [(0, new - old) for new, old in zip(target, part.shape, strict=False)]
        fill = {"tokens": NO_TOKEN, "log_probs": -np.inf}.get(field.name, 0)
        padded[field.name] = np.pad(part, width, constant_values=fill)
    return Frames(**padded)


def _rounded(number: int, *, least: int) -> int:
    """The next of 2^k and 1.5 * 2^k."""
    size = least
    while size < number:
        size = size * 3 // 2 if size & (size - 1) == 0 else size // 3 * 4
    return size
