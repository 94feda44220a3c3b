"""What the small pretraining runs are compared with; numbers as one line of JSON.

    python scripts/real_runs/baselines.py words TEXT label.train  # logistic regression on words
    python scripts/real_runs/baselines.py ngrams DATA             # n-grams of a data folder

`words`: scikit-learn's logistic regression on counts or tf-idf of word n-grams. Which of them,
n-grams of how many words, and the regularisation are chosen by the accuracy on the validation
split among 126 settings; that setting's accuracy on the test split is what counts.

`ngrams`: interpolated Kneser-Ney models of the pieces of a folder of `preprocess --only-source`,
the text one stream as it is for the language model; the order, 2 to 5, is chosen by the perplexity
of the validation split. With it the perplexity of single pieces (order 1, counts and one).
"""

from __future__ import annotations

import collections
import itertools
import json
import math
import pathlib
import sys
from typing import Any

import numpy as np

from seqjax.data.indexed import IndexedDataset
from seqjax.data.vocabulary import Vocabulary

# ---- bag of words ----


def labelled(prefix: pathlib.Path) -> tuple[list[str], list[str]]:
    """Sentences and their labels."""
    text, labels = (pathlib.Path(f"{prefix}.{end}").read_text(encoding="utf-8").splitlines()
                    for end in ("input0", "label"))
    return text, labels


def words(folder: pathlib.Path, train: str) -> dict[str, Any]:
    """The best of logistic regressions, by the validation split."""
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    x, y = labelled(folder / train)
    held = {name: labelled(folder / f"label.{name}") for name in ("valid", "test")}
    kinds: list[tuple[str, type, dict[str, Any]]] = [
        ("counts", CountVectorizer, {}), ("seen or not", CountVectorizer, {"binary": True}),
        ("tf-idf", TfidfVectorizer, {"sublinear_tf": True})]
    found: list[dict[str, Any]] = []
    for (kind, make, keys), longest, least in itertools.product(kinds, (1, 2, 3), (1, 2)):
        vectors = make(token_pattern=r"\S+", ngram_range=(1, longest), min_df=least, **keys)
        features = vectors.fit_transform(x)
        held_features = {name: vectors.transform(text) for name, (text, _) in held.items()}
        for c in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0):
            model = LogisticRegression(C=c, max_iter=3000).fit(features, y)
            score = {name: 100 * model.score(held_features[name], held[name][1]) for name in held}
            found.append({"features": kind, "ngrams": longest, "min_df": least, "C": c, **score})
    best = max(found, key=lambda row: row["valid"])
    return {"sentences": len(x), "settings": len(found), "best": best,
            "best of single words": max((row for row in found if row["ngrams"] == 1),
                                        key=lambda row: row["valid"])}


# ---- n-grams ----


class KneserNey:
    """Interpolated Kneser-Ney of one order; discounts are n1 / (n1 + 2 n2) of each order.

    Args:
      stream: ids of the text.
      order: of the n-grams.
      size: of the vocabulary.
    """

    def __init__(self, stream: list[int], order: int, size: int):
        self._size = size
        counts: collections.Counter[tuple[int, ...]] = collections.Counter(
            zip(*(stream[i:] for i in range(order)), strict=False))
        self._levels = []
        for _ in range(order):
            seen = collections.Counter(counts.values())
            discount = seen[1] / (seen[1] + 2 * seen[2])
            total: collections.Counter[tuple[int, ...]] = collections.Counter()
            kinds: collections.Counter[tuple[int, ...]] = collections.Counter()
            for gram, n in counts.items():
                total[gram[:-1]] += n
                kinds[gram[:-1]] += 1
            self._levels.append((counts, total, kinds, discount))
            # Of an order below: in front of how many different words it stands.
            counts = collections.Counter(gram[1:] for gram in counts)
        self._levels.reverse()

    def probability(self, gram: tuple[int, ...]) -> float:
        """Of the last id of an n-gram behind the others."""
        p = 1 / self._size
        for n, (counts, total, kinds, discount) in enumerate(self._levels, start=1):
            part = gram[len(gram) - n :]
            if part[:-1] not in total:
                break
            p = (max(counts[part] - discount, 0) + discount * kinds[part[:-1]] * p) / total[
                part[:-1]]
        return p

    def perplexity(self, stream: list[int], order: int) -> float:
        """Of a text; its first ids, which have fewer before them, are left out."""
        grams = list(zip(*(stream[i:] for i in range(order)), strict=False))
        return math.exp(-sum(math.log(self.probability(g)) for g in grams) / len(grams))


def ngrams(data: pathlib.Path) -> dict[str, Any]:
    """Perplexities of the orders; of the best one, that of the test split."""
    size = len(Vocabulary.load(str(data / "dict.txt")))
    streams = {name: [int(x) for sentence in IndexedDataset(str(data / name)) for x in sentence]
               for name in ("train", "valid", "test")}
    counts = np.bincount(streams["train"], minlength=size) + 1
    single = {name: float(np.exp(-np.log(counts / counts.sum())[streams[name]].mean()))
              for name in ("valid", "test")}
    orders: dict[int, dict[str, float]] = {}
    for order in (2, 3, 4, 5):
        model = KneserNey(streams["train"], order, size)
        orders[order] = {name: model.perplexity(streams[name], order)
                         for name in ("valid", "test")}
    best = min(orders, key=lambda order: orders[order]["valid"])
    return {"pieces": {name: len(s) for name, s in streams.items()}, "single pieces": single,
            "Kneser-Ney": orders, "best order": best}


def main() -> None:
    kind, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    found = words(folder, sys.argv[3]) if kind == "words" else ngrams(folder)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
