"""Teacher-forced scores against the plain log-softmax of the toy model."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from toy_models import ToyModel

from seqjax.config import GenerationConfig
from seqjax.generation.decoder import Decoder
from seqjax.generation.scoring import Scorer, token_log_probs
from seqjax.models.protocol import token_source

MODEL = ToyModel()
PARAMS = MODEL.init(jax.random.key(0))


def plain(source, target, params=PARAMS):
    logits = np.stack([MODEL.numpy_logits(params, source, target[:i]) for i in range(len(target))])
    lp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return lp[np.arange(len(target)), target]


def make_pairs(count):
    rng = np.random.default_rng(0)
    sides = [[np.append(rng.integers(4, 12, rng.integers(0, 30)), 2) for _ in range(count)]
             for _ in range(2)]
    return sides[0], sides[1]


def test_scores_are_the_plain_log_probabilities():
    sources, targets = make_pairs(9)
    found = Scorer(MODEL, batch_size=4).score(PARAMS, sources, targets)
    for h, source, target in zip(found, sources, targets, strict=True):
        want = plain(source, target)
        assert h.tokens.tolist() == target.tolist()
        np.testing.assert_allclose(h.positional_scores, want, atol=2e-5)
        np.testing.assert_allclose(h.score, want.mean(), atol=2e-5)


def test_ensembles_average_probabilities():
    other = MODEL.init(jax.random.key(5))
    sources, targets = make_pairs(3)
    found = Scorer([MODEL, MODEL]).score([PARAMS, other], sources, targets)
    for h, source, target in zip(found, sources, targets, strict=True):
        each = np.exp([plain(source, target), plain(source, target, other)])
        np.testing.assert_allclose(h.positional_scores, np.log(each.mean(0)), atol=2e-5)


@pytest.mark.parametrize("budget", [1, 12 * 7, 10**6])
def test_the_budget_of_logits_changes_nothing(budget):
    sources, targets = make_pairs(1)
    source, target = sources[0][None], targets[0][None]
    previous = np.append(2, target[0][:-1])[None]
    features = MODEL.features(PARAMS, previous, MODEL.encode(PARAMS, token_source(source, pad=1)))
    found = jax.jit(lambda: token_log_probs(features, target, budget=budget))()
    np.testing.assert_allclose(found[0], plain(source[0], target[0]), atol=2e-5)


def test_a_hypothesis_scores_what_search_said():
    sources, _ = make_pairs(4)
    found = Decoder(MODEL, GenerationConfig(beam=3, max_len_b=15)).decode(PARAMS, sources)
    again = Scorer(MODEL).score(PARAMS, sources, [h[0].tokens for h in found])
    for h, s in zip(found, again, strict=True):
        np.testing.assert_allclose(h[0].positional_scores, s.positional_scores, atol=1e-5)
        np.testing.assert_allclose(h[0].score, s.score, atol=1e-5)


@pytest.mark.parametrize(("sources", "targets", "message"), [
    ([[5, 2]], [], "1 sources but 0 targets"),
    ([[5, 2], []], [[2], [2]], "source 1 has no tokens"),
    ([[5, 2]], [[5] * 101], "target 0 has 101 tokens.*at most 100"),
])
def test_bad_pairs_are_refused(sources, targets, message):
    with pytest.raises(ValueError, match=message):
        Scorer(MODEL).score(PARAMS, sources, targets)
