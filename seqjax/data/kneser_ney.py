"""Lines of words to an n-gram model in ARPA form, by interpolated modified Kneser-Ney.

Chen & Goodman 1998, "An Empirical Study of Smoothing Techniques for Language Modeling", section
3: three discounts per order from the counts of counts, lower orders count distinct left
contexts, unigrams are interpolated with the uniform distribution (as KenLM's `lmplz`).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from seqjax.config import ConfigError
from seqjax.data import whole_files

BOS, EOS, UNK = "<s>", "</s>", "<unk>"
NGram = tuple[str, ...]
FALLBACK = (0.5, 1.0, 1.5)
"""Discounts where the counts of counts give none (`lmplz --discount_fallback`)."""


def count(sentences: Iterable[str], *, order: int) -> list[Counter[NGram]]:
    """Counts of the n-grams of order 1, 2, ...: of the highest how often each stands there, of
    the others how many words stand before it (before `<s>`, nothing does: how often).

    Raises:
      ConfigError: no sentence; a word that is `<s>`, `</s>` or `<unk>`.
    """
    highest: Counter[NGram] = Counter()
    starts: list[Counter[NGram]] = [Counter() for _ in range(order)]
    number = 0
    for number, sentence in enumerate(sentences, 1):
        words = sentence.split()
        wrong = {BOS, EOS, UNK}.intersection(words)
        if wrong:
            raise ConfigError(f"line {number}: {min(wrong)} is the model's own; leave it out")
        said = (BOS, *words, EOS)
        highest.update(zip(*(said[i:] for i in range(order)), strict=False))
        for n in range(1, order):
            if len(said) >= n:
                starts[n - 1][said[:n]] += 1
    if not number:
        raise ConfigError("there is no text to count words of")
    counts = [highest]
    for n in range(order - 1, 0, -1):
        below: Counter[NGram] = Counter()
        for ngram in counts[0]:
            below[ngram[1:]] += 1
        below.update(starts[n - 1])
        counts.insert(0, below)
    return counts


def discounts(counts: Counter[NGram]) -> tuple[float, float, float]:
    """What is taken off counts of 1, 2, and 3 or more."""
    n = Counter(value for value in counts.values() if value <= 4)
    if not all(n[i] for i in (1, 2, 3, 4)):
        return FALLBACK
    y = n[1] / (n[1] + 2 * n[2])
    found = tuple(i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3))
    if any(not 0 <= d <= i for i, d in enumerate(found, 1)):
        return FALLBACK
    return found[0], found[1], found[2]


def estimate(counts: list[Counter[NGram]]) -> list[dict[NGram, tuple[float, float]]]:
    """By order, each n-gram's probability and the weight of backing off from it (0: none)."""
    words = {ngram[0] for ngram in counts[0]} - {BOS}
    lower: dict[NGram, float] = {(): 1.0 / (len(words) + 1)}  # uniform, <unk> included
    weights: list[dict[NGram, float]] = []
    orders: list[dict[NGram, float]] = []
    for at, here in enumerate(counts):
        if at == 0:
            here = Counter({ngram: value for ngram, value in here.items() if ngram != (BOS,)})
        off = discounts(here)
        totals: dict[NGram, int] = defaultdict(int)
        taken: dict[NGram, float] = defaultdict(float)
        for ngram, value in here.items():
            totals[ngram[:-1]] += value
            taken[ngram[:-1]] += min(off[min(value, 3) - 1], value)
        gamma = {context: taken[context] / total for context, total in totals.items()}
        probability = {}
        for ngram, value in here.items():
            context = ngram[:-1]
            shorter = lower[ngram[1:]] if at else lower[()]
            left = max(value - off[min(value, 3) - 1], 0.0) / totals[context]
            probability[ngram] = left + gamma[context] * shorter
        if at == 0:
            probability[(UNK,)] = gamma[()] * lower[()]
            lower = {}
        weights.append(gamma)
        orders.append(probability)
        lower = probability
    orders[0][(BOS,)] = 0.0
    gammas = weights[1:] + [{}]
    return [{ngram: (p, gamma.get(ngram, 0.0)) for ngram, p in probability.items()}
            for probability, gamma in zip(orders, gammas, strict=True)]


def arpa_text(orders: list[dict[NGram, tuple[float, float]]]) -> Iterable[str]:
    """Lines of the ARPA file."""
    yield "\\data\\"
    for n, entries in enumerate(orders, 1):
        yield f"ngram {n}={len(entries)}"
    for n, entries in enumerate(orders, 1):
        yield f"\n\\{n}-grams:"
        for ngram, (p, weight) in sorted(entries.items()):
            log10 = f"{math.log10(p):.7g}" if p > 0 else "-99"
            backoff = f"\t{math.log10(weight):.7g}" if weight > 0 else ""
            yield f"{log10}\t{' '.join(ngram)}{backoff}"
    yield "\n\\end\\"


def write_arpa(sentences: Iterable[str], path: str | Path, *, order: int = 3) -> list[int]:
    """Writes the model of `sentences`, whole or not at all; the number of n-grams by order.

    Raises:
      ConfigError: see `count`; an order below 1.
    """
    if order < 1:
        raise ConfigError(f"order={order} has to be 1 or more")
    orders = estimate(count(sentences, order=order))
    text = "\n".join(arpa_text(orders)) + "\n"
    whole_files.write(Path(path), text.encode("utf-8"))
    return [len(entries) for entries in orders]
