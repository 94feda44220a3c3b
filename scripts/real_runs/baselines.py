"""What the small runs are compared with; numbers as one line of JSON.

    python scripts/real_runs/baselines.py words TEXT label.train  # logistic regression on words
    python scripts/real_runs/baselines.py ngrams DATA             # n-grams of a data folder
    python scripts/real_runs/baselines.py same-words train.wrd test.wrd   # one answer to all
    python scripts/real_runs/baselines.py same-translation train.en test.en

`words`: scikit-learn's logistic regression on counts or tf-idf of word n-grams. Which of them,
n-grams of how many words, and the regularisation are chosen by the accuracy on the validation
split among 126 settings; that setting's accuracy on the test split is what counts.

`ngrams`: interpolated Kneser-Ney models of the pieces of a folder of `preprocess --only-source`,
the text one stream as it is for the language model; the order, 2 to 5, is chosen by the perplexity
of the validation split. With it the perplexity of single pieces (order 1, counts and one).

`same-words`: the word and the character error rate, in percent, of the one transcript for all test
recordings that has the fewest such errors *on the test split*: no word, each training transcript,
and the likeliest word up to ten times. No recogniser that does not listen does better with them.

`same-translation`: the training target that is the best translation of all training recordings
(BLEU and, where that is 0, chrF), for each test recording; and, beside it, the one that is best on
the test split.
"""

from __future__ import annotations

import collections
import itertools
import json
import math
import pathlib
import random
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


# ---- one answer to everything ----


def read_lines(path: str) -> list[str]:
    """A file's lines."""
    return pathlib.Path(path).read_text(encoding="utf-8").splitlines()


def same_words(train: str, test: str) -> dict[str, Any]:
    """The transcripts with the fewest errors."""
    import jiwer

    texts, references = read_lines(train), read_lines(test)
    likeliest = collections.Counter(w for t in texts for w in t.split()).most_common(1)[0][0]
    tried = list(dict.fromkeys(["", *texts, *(" ".join([likeliest] * n) for n in range(1, 11))]))
    result: dict[str, Any] = {"transcripts tried": len(tried)}
    for name, measure in (("wer", jiwer.wer), ("cer", jiwer.cer)):
        errors = {text: measure(references, [text] * len(references)) for text in tried}
        best = min(errors, key=errors.__getitem__)
        result[name] = {"score": round(100 * errors[best], 2), "transcript": best,
                        "of no word": round(100 * errors[""], 2)}
    return result


def same_translation(train: str, test: str) -> dict[str, Any]:
    """The best single translation of the training split, and of the test split."""
    import sacrebleu

    texts, references = read_lines(train), read_lines(test)

    def scores(text: str, of: list[str]) -> tuple[float, float]:
        hypotheses = [text] * len(of)
        return (round(sacrebleu.corpus_bleu(hypotheses, [of]).score, 4),
                round(sacrebleu.corpus_chrf(hypotheses, [of]).score, 4))

    # Of 150 targets on 300 recordings each; all of both would take an hour.
    rng = random.Random(1)
    distinct = sorted(set(texts))
    tried = rng.sample(distinct, min(150, len(distinct)))
    some = rng.sample(texts, min(300, len(texts)))
    result: dict[str, Any] = {"translations tried": len(tried)}
    for name, of in (("chosen on training", some), ("chosen on test", references)):
        best = max(tried, key=lambda text: scores(text, of))
        bleu, chrf = scores(best, references)
        result[name] = {"translation": best, "bleu": bleu, "chrf": chrf}
    return result


def main() -> None:
    kind, where = sys.argv[1], sys.argv[2:]
    found = {
        "words": lambda: words(pathlib.Path(where[0]), where[1]),
        "ngrams": lambda: ngrams(pathlib.Path(where[0])),
        "same-words": lambda: same_words(*where),
        "same-translation": lambda: same_translation(*where)}[kind]()
    print(json.dumps(found, ensure_ascii=False))


if __name__ == "__main__":
    main()
