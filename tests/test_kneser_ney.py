"""The n-gram model of a text: distributions that sum to one, discounts, the file."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path

import pytest

from seqjax.config import ConfigError
from seqjax.data.kneser_ney import FALLBACK, count, discounts, estimate, write_arpa
from seqjax.generation.ctc.ngram import load_ngram

TEXT = ["the cat sat", "the dog sat on the cat", "a cat sat on a dog", "the dog", "the cat"]


def test_every_context_gives_a_distribution(tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    sizes = write_arpa(TEXT * 2, path, order=3)
    model = load_ngram(path)
    words = [word for word in model.words if word != "<s>"]
    assert sizes[0] == len(model.words)
    for context in itertools.chain([(), ("the",), ("on", "the"), ("dog", "dog"), ("cat", "a")]):
        before = model.score(context, bos=False, eos=False)
        mass = sum(10 ** (model.score((*context, word), bos=False, eos=False) - before)
                   for word in words)
        assert mass == pytest.approx(1.0, abs=1e-4), context
    assert model.score("the cat sat".split()) > model.score("sat cat the".split())


def test_counts_below_the_highest_order_are_of_left_contexts() -> None:
    unigrams, bigrams = count(TEXT, order=2)
    assert bigrams["the", "cat"] == 3
    assert unigrams[("cat",)] == 2  # after `the` and `a`
    assert unigrams[("the",)] == 2  # after `<s>` and `on`
    (of_cat,) = [p for ngram, (p, _) in estimate([unigrams, bigrams])[0].items()
                 if ngram == ("cat",)]
    words = {ngram for ngram in unigrams if ngram != ("<s>",)}
    total = sum(unigrams[ngram] for ngram in words)
    off = discounts(Counter({ngram: unigrams[ngram] for ngram in words}))
    left = sum(min(off[min(unigrams[ngram], 3) - 1], unigrams[ngram]) for ngram in words)
    assert of_cat == pytest.approx((2 - off[1]) / total + left / total / (len(words) + 1))


def test_discounts_are_those_of_the_counts_of_counts() -> None:
    values = [1] * 8 + [2] * 4 + [3] * 2 + [4]
    counts = Counter({(str(i),): value for i, value in enumerate(values)})
    y = 8 / 16
    assert discounts(counts) == pytest.approx((1 - 2 * y * 4 / 8, 2 - 3 * y * 2 / 4, 3 - 4 * y / 2))
    assert discounts(Counter({("a",): 1})) == FALLBACK


def test_what_cannot_be_counted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no text"):
        write_arpa([], tmp_path / "lm.arpa")
    with pytest.raises(ConfigError, match="line 2: </s> is the model's own"):
        write_arpa(["a b", "a </s>"], tmp_path / "lm.arpa")
    assert not (tmp_path / "lm.arpa").exists()
    assert math.isfinite(sum(write_arpa(["a"], tmp_path / "lm.arpa", order=4)))
