"""Temperatures: log-probabilities stay below 0, and an adaptive softmax has fairseq's rule."""

from __future__ import annotations

import family_goldens as goldens
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_search import log_softmax
from toy_models import ToyLanguageModel, ToyModel

from seqjax.config import GenerationConfig
from seqjax.generation import processors
from seqjax.generation.decoder import Decoder
from seqjax.models.parts import adaptive
from seqjax.models.protocol import Features, tempered

TEMPERATURES = (1e-3, 0.01, 0.1, 0.7, 3.0, 10.0)
ROWS, WIDTH, WORDS = 4, 16, 150


def features(dtype, *, clusters: bool) -> Features:
    """Random states with an ordinary output layer, or with three clusters."""
    keys = jax.random.split(jax.random.key(3), 6)
    hidden = 4 * jax.random.normal(keys[0], (ROWS, 3, WIDTH), dtype)
    if not clusters:
        table = jax.random.normal(keys[1], (WORDS, WIDTH), dtype)
        return Features(hidden=hidden, projection=table, project=lambda table, h: jnp.einsum(
            "btd,vd->btv", h, table, preferred_element_type=jnp.float32))
    projection = adaptive.AdaptiveProjection(
        head=jax.random.normal(keys[2], (40 + 2, WIDTH)), key=None, ends=(40, 90, WORDS),
        down=(jax.random.normal(keys[3], (8, WIDTH)), jax.random.normal(keys[3], (4, WIDTH))),
        words=(jax.random.normal(keys[4], (50, 8)), jax.random.normal(keys[5], (60, 4))),
        dropout=0.0)
    return Features(hidden=hidden, projection=projection, project=adaptive.log_probs)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("clusters", [False, True])
def test_log_probabilities_are_never_above_zero(dtype, clusters):
    """One model, three that vote, and fusion; compiled as search compiles them."""
    rows = features(dtype, clusters=clusters)

    def run(rows, temperature):
        zero = jnp.zeros(rows.hidden.shape[:2])
        logits = rows.logits(temperature)
        for many, lm in (([logits], None), ([logits] * 3, None), ([logits] * 2, rows.logits())):
            scores = processors.scores_of(many, zero, lm_logits=lm, lm_weight=0.5)
            yield scores.log_probs()

    for temperature in TEMPERATURES:
        compiled = jax.jit(lambda rows, t=temperature: tuple(run(rows, t)))
        one, three, fused = map(np.asarray, compiled(rows))
        assert max(one.max(), three.max(), fused.max()) <= 0
        np.testing.assert_allclose(np.exp(one.astype(np.float64)).sum(-1), 1, atol=2e-5)
        best = one.max(-1)
        np.testing.assert_allclose(three.max(-1), best, atol=1e-5 + 1e-6 * abs(best).max())


def test_temperatures_are_divisions_of_logits():
    logits = np.asarray(10 * jax.random.normal(jax.random.key(0), (5, 40)))
    for temperature in TEMPERATURES:
        found = jax.nn.log_softmax(tempered(jnp.asarray(logits), temperature))
        for row, wanted in zip(np.asarray(found), logits, strict=True):
            np.testing.assert_allclose(row, log_softmax(wanted, temperature), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sampling", [False, True])
@pytest.mark.parametrize("kind", ["one", "ensemble", "fusion", "language model"])
def test_searches_give_no_score_above_zero(kind, sampling):
    toy, lm = ToyModel(vocabulary=300), ToyLanguageModel(toy=ToyModel(vocabulary=300))
    params = [toy.init(jax.random.key(i)) for i in range(3)]
    models, fused, sources = toy, None, [np.array([5, 6, 2]), np.array([9, 2])]
    if kind == "ensemble":
        models = [toy] * 3
    elif kind == "fusion":
        fused, params = lm, [params[0], params[1]]
    elif kind == "language model":
        models, params = lm, params[:1]
    else:
        params = params[:1]
    for temperature in (1e-3, 0.03, 0.3):
        settings = GenerationConfig(
            beam=3, nbest=3, max_len_b=12, temperature=temperature, sampling=sampling,
            lm_weight=0.5 if fused else 0.0)
        found = Decoder(models, settings, language_model=fused).decode(params, sources)
        for h in (h for hypotheses in found for h in hypotheses):
            assert h.positional_scores.max() <= 0 and h.score <= 0


# ---- adaptive softmax ----


def test_each_cluster_has_the_temperature_by_itself():
    """fairseq divides the decoder's states, before head and tails."""
    rows = features(jnp.float32, clusters=True)
    for temperature in (0.25, 0.7, 4.0):
        found = rows.logits(temperature)
        wanted = adaptive.log_probs(rows.projection, rows.hidden / temperature)
        np.testing.assert_allclose(found, wanted, atol=2e-5, rtol=1e-5)
        of_all = jax.nn.log_softmax(rows.logits() / temperature)
        assert np.abs(found - of_all).max() > 0.1


@pytest.mark.parametrize("name", ["transformer_lm/adaptive", "lstm/adaptive", "lstm/lm_adaptive",
                                  "fconv/lm_adaptive", "lightconv/lm_adaptive"])
def test_every_family_tempers_its_clusters(name):
    golden = goldens.load(name)
    source, prev, _ = golden.batch()
    rows = golden.features(golden.params, source, prev)
    wanted = rows.project(rows.projection, rows.hidden / 0.5)
    np.testing.assert_allclose(rows.logits(0.5), wanted, atol=2e-5, rtol=1e-5)
    assert np.abs(rows.logits(0.5) - jax.nn.log_softmax(rows.logits() / 0.5)).max() > 1e-3


def test_samples_follow_the_tempered_clusters():
    """The same rule for sampling as for beams."""
    golden = goldens.load("transformer_lm/adaptive")
    prompts = [np.array([5, 6])] * 200
    settings = GenerationConfig(beam=8, nbest=8, max_len_b=3, min_len=0, temperature=0.5,
                                sampling=True)
    decoder = Decoder(golden.model, settings)
    found = decoder.decode(golden.params, [[2, 5, 6]] * 200, prefixes=prompts)
    drawn = np.array([h.tokens[2] for hypotheses in found for h in hypotheses])
    rows = golden.model.features(golden.params, jnp.array([[2, 5, 6]]))
    wanted = np.exp(np.asarray(rows.logits(0.5))[0, -1].astype(np.float64))
    wanted[1] = 0
    counts = np.bincount(drawn, minlength=len(wanted)) / len(drawn)
    likely = wanted > 0.02
    np.testing.assert_allclose(counts[likely], wanted[likely] / wanted.sum(), atol=0.04)
