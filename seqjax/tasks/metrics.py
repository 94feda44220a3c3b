"""Scores of hypotheses against references: sacreBLEU, chrF, TER, and fairseq's BLEU.

One place for training, decoding and `seqjax.score`, so that the same text always gets the
same number. sacrebleu does the counting but for fairseq's token BLEU, which it has not.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Sequence
from typing import Any


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
    lowercase: bool = False,
) -> Score:
    """fairseq's BLEU of text that is already tokenised: words are what spaces separate."""
    _check(hypotheses, references)
    counts = TokenBleu(order=order)
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        if lowercase:
            hypothesis, reference = hypothesis.lower(), reference.lower()
        counts.add(hypothesis.split(), reference.split())
    return counts.result()


METRICS = {"sacrebleu": sacrebleu, "bleu": bleu, "chrf": chrf, "ter": ter}
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
    """fairseq's `bleu` scorer: n-gram counts of tokens, no smoothing.

    Tokens may be words or ids. A reference token None matches nothing (fairseq treats the
    unknown word so).
    """

    def __init__(self, *, order: int = 4) -> None:
        self.order = order
        self.matches, self.counts = [0] * order, [0] * order
        self.system_length = self.reference_length = 0

    def add(self, hypothesis: Sequence[Any], reference: Sequence[Any]) -> None:
        """Counts one sentence."""
        self.system_length += len(hypothesis)
        self.reference_length += len(reference)
        for n in range(1, self.order + 1):
            found, wanted = _ngrams(hypothesis, n), _ngrams(reference, n)
            self.counts[n - 1] += sum(found.values())
            self.matches[n - 1] += sum(
                min(count, wanted[gram]) for gram, count in found.items() if None not in gram
            )

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
