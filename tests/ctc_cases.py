"""Small language models and searches by enumeration, for the tests of CTC decoding."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

TRIGRAMS = """\\data\\
ngram 1=6
ngram 2=6
ngram 3=3

\\1-grams:
-1.1\t<unk>\t0
-99\t<s>\t-0.3
-1.3\t</s>
-0.7\tab\t-0.25
-0.9\tba\t-0.5
-1.2\tb\t-0.1

\\2-grams:
-0.4\t<s> ab\t-0.2
-0.8\t<s> b\t-0.15
-0.5\tab ba\t-0.35
-1.0\tba ab
-0.6\tb b\t-0.4
-0.3\tba </s>

\\3-grams:
-0.2\t<s> ab ba
-0.9\tab ba ab
-0.1\tb b ba

\\end\\
"""


def log_softmax(x: np.ndarray) -> np.ndarray:
    return (x - np.log(np.exp(x).sum(-1, keepdims=True))).astype(np.float32)


def label_sequences(log_probs: np.ndarray, *, blank: int, best: bool = False,
                    ) -> dict[tuple[int, ...], float]:
    """Every output of [T, V] and its log-probability, by all V^T paths."""
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        score = float(sum(log_probs[t, token] for t, token in enumerate(path)))
        out = tuple(token for token, _ in itertools.groupby(path) if token != blank)
        join = max if best else np.logaddexp
        found[out] = float(join(found.get(out, -math.inf), score))
    return found


class PlainNGram:
    """An ARPA text, looked up as Katz's backing off is written down."""

    def __init__(self, text: str):
        self.probability: dict[tuple[str, ...], float] = {}
        self.backoff: dict[tuple[str, ...], float] = {}
        for line in text.splitlines():
            fields = line.split("\t")
            if len(fields) > 1:
                words = tuple(fields[1].split())
                self.probability[words] = float(fields[0])
                self.backoff[words] = float(fields[2]) if len(fields) > 2 else 0.0
        self.order = max(map(len, self.probability))

    def word(self, context: Sequence[str], word: str) -> float:
        if (word,) not in self.probability:
            word = "<unk>"
        context = tuple(c if (c,) in self.probability else "<unk>" for c in context)
        context = context[max(0, len(context) - self.order + 1):]
        total = 0.0
        while (*context, word) not in self.probability:
            total += self.backoff.get(context, 0.0)
            context = context[1:]
        return total + self.probability[*context, word]

    def sentence(self, words: Sequence[str], *, eos: bool = True) -> float:
        said = ["<s>", *words, *(["</s>"] if eos else [])]
        return sum(self.word(said[:i], said[i]) for i in range(1, len(said)))


def segmentations(
    labels: Sequence[int], spellings: Mapping[tuple[int, ...], Sequence[str]],
) -> Iterator[tuple[str, ...]]:
    """Every way of reading tokens as words, each spelled as in `spellings`."""
    if not labels:
        yield ()
    for end in range(1, len(labels) + 1):
        for word in spellings.get(tuple(labels[:end]), ()):
            for rest in segmentations(labels[end:], spellings):
                yield (word, *rest)


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)
