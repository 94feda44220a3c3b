"""Scores of hypotheses against references: sacreBLEU, chrF, TER, fairseq's BLEU, error rates.

One place for training, decoding and `seqjax.score`, so that the same text always gets the
same number. sacrebleu does the counting but for fairseq's token BLEU, which it has not, and error
rates, which are jiwer's.
"""

from __future__ import annotations

import collections
import dataclasses
import importlib
import importlib.util
import math
import unicodedata
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from seqjax.losses import Metric

BLEU: Mapping[str, Metric] = {"bleu": Metric(maximize=True, format="{:.2f}")}
"""How validations say sacreBLEU."""
ERRORS: Mapping[str, Metric] = {
    name: Metric(format="{:.2f}") for name in ("uer", "wer", "raw_wer")}
"""In percent: symbol errors, word errors, and word errors without the language model that `wer` was
found with."""
WORD_ERRORS: Mapping[str, Metric] = {"wer": ERRORS["wer"]}
"""Of outputs that are written by a decoder, as words."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """One number and how people write it."""

    name: str
    score: float
    text: str
    """As its tool prints it."""
    signature: str = ""
    """sacrebleu's, which says what exactly was counted."""


def sacrebleu(
    hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = False,
    tokenize: str = "13a",
) -> Score:
    """sacreBLEU of detokenised text."""
    from sacrebleu.metrics.bleu import BLEU

    return _corpus("sacrebleu", BLEU(lowercase=lowercase, tokenize=tokenize), hypotheses,
                   references)


def chrf(hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = False) -> Score:
    """chrF2 of detokenised text."""
    from sacrebleu.metrics.chrf import CHRF

    return _corpus("chrf", CHRF(lowercase=lowercase), hypotheses, references)


def ter(hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = False) -> Score:
    """Translation edit rate of detokenised text; lower is better."""
    from sacrebleu.metrics.ter import TER

    return _corpus("ter", TER(case_sensitive=not lowercase), hypotheses, references)


def _corpus(name: str, metric: Any, hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    _check(hypotheses, references)
    found = metric.corpus_score(list(hypotheses), [list(references)])
    return Score(name=name, score=found.score, text=str(found),
                 signature=str(metric.get_signature()))


def bleu(
    hypotheses: Sequence[str], references: Sequence[str], *, order: int = 4,
    lowercase: bool = False, smooth: bool = False,
) -> Score:
    """fairseq's BLEU of text that is already tokenised: words are what spaces separate.

    Args:
      order: of the longest n-gram.
      lowercase: letters are compared without their case.
      smooth: fairseq's of single sentences: one more match, and n-gram, of every n above 1.
    """
    _check(hypotheses, references)
    counts = TokenBleu(order=order, smooth=smooth)
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        if lowercase:
            hypothesis, reference = hypothesis.lower(), reference.lower()
        counts.add(_SPECIAL.tokens(hypothesis), _SPECIAL.tokens(reference))
    return counts.result()


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """Tokens that fairseq's BLEU treats as what they stand for. Words, or ids."""

    pad: Any = "<pad>"
    eos: Any = "</s>"
    unk: Any = "<unk>"

    def tokens(self, text: str) -> list[Any]:
        """A line as fairseq reads it: its words, then the end of the sentence."""
        return [*text.split(), self.eos]


_SPECIAL = SpecialTokens()


def jiwer() -> Any:
    """The module of that name, which aligns sequences.

    Raises:
      ModuleNotFoundError: it is not installed; says how to.
    """
    if importlib.util.find_spec("jiwer") is None:
        raise ModuleNotFoundError(
            "word and symbol error rates need jiwer: pip install 'seqjax[speech]' (or pip install "
            "jiwer)")
    return importlib.import_module("jiwer")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Errors:
    """How many tokens are wrong, missing or too many, of how many there should be."""

    count: int
    total: int

    @property
    def percent(self) -> float:
        """Errors for 100 tokens of the references; NaN where these have none."""
        return 100 * self.count / self.total if self.total else math.nan


def errors(
    outputs: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Hashable]]
) -> Errors:
    """Edits from the reference to the output of each pair, by jiwer, summed. Where a reference has
    no tokens, all of the output's are errors."""
    names: dict[Hashable, str] = {}

    def written(tokens: Sequence[Hashable]) -> str:
        return " ".join(names.setdefault(t, str(len(names))) for t in tokens)

    pairs = list(zip(outputs, references, strict=True))
    count = sum(len(out) for out, wanted in pairs if not len(wanted))
    scored = [(written(out), written(wanted)) for out, wanted in pairs if len(wanted)]
    if scored:
        found = jiwer().process_words([wanted for _, wanted in scored],
                                      [out for out, _ in scored])
        count += found.substitutions + found.deletions + found.insertions
    return Errors(count=count, total=sum(len(wanted) for wanted in references))


def wer(
    hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = False,
    tokenize: str = "none", punctuation: bool = True,
) -> Score:
    """Word errors for a hundred words of the references; lower is better.

    Args:
      tokenize: sacrebleu's tokenizer that makes words of lines first (fairseq's
        `--wer-tokenizer`).
      punctuation: without it, words of nothing else are left out (`--wer-remove-punct`).
    """
    split = _splitting(tokenize)

    def words(line: str) -> list[str]:
        found = split(line)
        return found if punctuation else [word for word in found if not _is_punctuation(word)]

    return _error_rate("WER", hypotheses, references, words, lowercase=lowercase)


def _splitting(tokenize: str) -> Callable[[str], list[str]]:
    """Line -> words, by a tokenizer of sacrebleu's or at white space (`none`)."""
    if tokenize == "none":
        return str.split
    from sacrebleu.metrics.bleu import BLEU

    tokenizer = BLEU(tokenize=tokenize).tokenizer
    return lambda line: tokenizer(line).split()


def _is_punctuation(word: str) -> bool:
    return all(unicodedata.category(letter).startswith("P") for letter in word)


def cer(hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = False) -> Score:
    """Character errors, spaces between words included, for a hundred characters."""
    return _error_rate("CER", hypotheses, references, lambda x: list(" ".join(x.split())),
                       lowercase=lowercase)


def _error_rate(
    name: str, hypotheses: Sequence[str], references: Sequence[str],
    tokens: Callable[[str], Sequence[str]], *, lowercase: bool,
) -> Score:
    _check(hypotheses, references)
    sides = [[tokens(x.lower() if lowercase else x) for x in side]
             for side in (hypotheses, references)]
    found = errors(*sides)
    if not found.total:
        raise ValueError(f"{name}: the references are all empty")
    return Score(name=name.lower(), score=found.percent,
                 text=f"{name}: {found.percent:.2f} ({found.count} errors, {found.total} "
                      f"{'words' if name == 'WER' else 'characters'})")


METRICS = {"sacrebleu": sacrebleu, "bleu": bleu, "chrf": chrf, "ter": ter, "wer": wer, "cer": cer}
"""`--metric` -> its function."""


def _check(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if len(hypotheses) != len(references):
        raise ValueError(
            f"{len(hypotheses)} hypotheses but {len(references)} references: they must match "
            "line by line"
        )
    if not hypotheses:
        raise ValueError("there is nothing to score")


class TokenBleu:
    """fairseq's `bleu` scorer: n-gram counts of tokens.

    Padding in front of a sentence, and padding and eos at its end, are no tokens, but the
    last one that is left stays whatever it is: of an empty sentence its eos is counted, and is
    matched by the eos of another empty one. The unknown word of a reference matches nothing.
    """

    def __init__(
        self, *, order: int = 4, special: SpecialTokens = _SPECIAL, smooth: bool = False,
    ) -> None:
        """
        Args:
          order: of the longest n-gram.
          special: how padding, eos and the unknown word are written.
          smooth: count one match of every n above 1 before the first sentence.
        """
        if order < 1:
            raise ValueError(f"bleu: an order of {order}; the longest n-gram has 1 word or more")
        self.order, self.special = order, special
        self.matches = [int(smooth and n > 0) for n in range(order)]
        self.counts = list(self.matches)
        self.system_length = self.reference_length = 0

    def add(self, hypothesis: Sequence[Any], reference: Sequence[Any]) -> None:
        """Counts one sentence, each side with its final eos."""
        hypothesis, reference = self._trimmed(hypothesis), self._trimmed(reference)
        self.system_length += len(hypothesis)
        self.reference_length += len(reference)
        for n in range(1, self.order + 1):
            found, wanted = _ngrams(hypothesis, n), _ngrams(reference, n)
            self.counts[n - 1] += sum(found.values())
            self.matches[n - 1] += sum(
                min(count, wanted[gram]) for gram, count in found.items()
                if self.special.unk not in gram)

    def _trimmed(self, tokens: Sequence[Any]) -> Sequence[Any]:
        """Without padding and eos at the ends."""
        pad, eos = self.special.pad, self.special.eos
        start, end = 0, len(tokens)
        while start < end and tokens[start] == pad:
            start += 1
        while end - start > 1 and tokens[end - 1] in (pad, eos):
            end -= 1
        return tokens[start:end]

    def result(self) -> Score:
        """BLEU of all that was counted, with fairseq's line."""
        precision = [m / c if c else 0.0 for m, c in zip(self.matches, self.counts, strict=True)]
        brevity = 1.0
        if self.system_length < self.reference_length:
            brevity = math.exp(1 - self.reference_length / max(self.system_length, 1))
        score = 0.0
        if all(p > 0 for p in precision):
            score = 100 * brevity * math.exp(sum(map(math.log, precision)) / self.order)
        shown = "/".join(f"{100 * p:2.1f}" for p in precision)
        ratio = self.system_length / max(self.reference_length, 1)
        return Score(
            name="bleu", score=score,
            text=f"BLEU{self.order} = {score:2.2f}, {shown} (BP={brevity:.3f}, "
                 f"ratio={ratio:.3f}, syslen={self.system_length}, "
                 f"reflen={self.reference_length})",
        )


def _ngrams(tokens: Sequence[Any], n: int) -> collections.Counter:
    return collections.Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
