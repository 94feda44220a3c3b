"""Sampling: the right distribution, the right support, and independence of batching."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_search import log_softmax
from toy_models import ToyModel

from seqjax.config import GenerationConfig
from seqjax.generation import sampling
from seqjax.generation.decoder import Decoder

MODEL = ToyModel(sharpness=1.0)
PARAMS = MODEL.init(jax.random.key(0))
SOURCE = np.array([5, 7, 2])


def first_tokens(config, count=512, vocabulary=12):
    """Frequencies of first tokens over `count` copies of one source, beam samples each."""
    found = Decoder(MODEL, config).decode(PARAMS, [SOURCE] * count)
    drawn = np.array([h.tokens[0] for hypotheses in found for h in hypotheses])
    return np.bincount(drawn, minlength=vocabulary) / len(drawn), found


def first_distribution():
    p = np.exp(log_softmax(MODEL.numpy_logits(PARAMS, SOURCE, [])))
    p[[1, 2]] = 0  # pad never, eos not at the first step
    return p


def sampling_config(**options):
    defaults = {"beam": 8, "nbest": 8, "sampling": True, "max_len_b": 3}
    return GenerationConfig(**{**defaults, **options})


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_frequencies_are_the_models_probabilities(temperature):
    p = np.exp(log_softmax(MODEL.numpy_logits(PARAMS, SOURCE, []), temperature))
    p[[1, 2]] = 0
    frequencies, _ = first_tokens(sampling_config(temperature=temperature))
    np.testing.assert_allclose(frequencies, p / p.sum(), atol=0.03)  # 4096 draws
    assert not frequencies[[1, 2]].any()


def test_topk_draws_among_the_best_only():
    p = first_distribution()
    kept = np.argsort(-p)[:3]
    frequencies, _ = first_tokens(sampling_config(sampling_topk=3))
    assert set(np.flatnonzero(frequencies)) == set(kept)
    np.testing.assert_allclose(frequencies[kept], p[kept] / p[kept].sum(), atol=0.03)


@pytest.mark.parametrize("topp", [0.3, 0.6, 0.85])
def test_topp_draws_from_the_smallest_set_that_holds_the_mass(topp):
    p = first_distribution()
    order = np.argsort(-p)
    size = int(np.argmax(np.cumsum(p[order]) >= topp)) + 1
    frequencies, _ = first_tokens(sampling_config(sampling_topp=topp))
    assert set(np.flatnonzero(frequencies)) == set(order[:size])
    np.testing.assert_allclose(
        frequencies[order[:size]], p[order[:size]] / p[order[:size]].sum(), atol=0.03)


def test_scores_are_log_probabilities_of_the_whole_distribution():
    config = sampling_config(beam=4, nbest=4, max_len_b=6, sampling_topk=4)
    for hypotheses in Decoder(MODEL, config).decode(PARAMS, [SOURCE, SOURCE[1:]]):
        scores = [h.score for h in hypotheses]
        assert scores == sorted(scores, reverse=True) and len(hypotheses) == 4
    found = Decoder(MODEL, config).decode(PARAMS, [SOURCE])[0]
    for h in found:
        assert h.tokens[-1] == 2 and 2 <= len(h.tokens) <= 7 and 2 not in h.tokens[:-1]
        want = [log_softmax(MODEL.numpy_logits(PARAMS, SOURCE, h.tokens[:i]))[t]
                for i, t in enumerate(h.tokens)]
        np.testing.assert_allclose(h.positional_scores, want, atol=2e-5)


def test_samples_depend_on_seed_and_number_only():
    rng = np.random.default_rng(0)
    sources = [np.append(rng.integers(4, 12, rng.integers(1, 20)), 2) for _ in range(9)]
    config = sampling_config(beam=3, nbest=3, max_len_b=8)

    def tokens(config, sources=sources, **more):
        out = {}
        for part in Decoder(MODEL, config).stream(PARAMS, sources, **more):
            for i, found in zip(part.indices, part.hypotheses, strict=True):
                out[i] = sorted(h.tokens.tolist() for h in found)
        return [out[i] for i in range(len(sources))]

    whole = tokens(config)
    assert tokens(dataclasses.replace(config, batch_size=2)) == whole
    assert tokens(dataclasses.replace(config, seed=2)) != whole
    assert tokens(config, sources[4:], numbers=range(4, 9)) == whole[4:]


def test_prefixes_are_forced_in_every_sample():
    config = sampling_config(beam=5, nbest=5, max_len_b=6)
    found = Decoder(MODEL, config).decode(PARAMS, [SOURCE, SOURCE], prefixes=[[9, 4], []])
    assert all(h.tokens[:2].tolist() == [9, 4] for h in found[0])
    assert any(h.tokens[0] != 9 for h in found[1])


def test_two_stage_draw_is_right_for_a_large_vocabulary():
    rng = np.random.default_rng(1)
    logits = rng.standard_normal(1000).astype(np.float32) * 2
    logits[::3] = -np.inf
    log_p = logits - np.log(np.exp(logits).sum())
    numbers = jnp.asarray((np.arange(20000) + 0.5) / 20000, jnp.float32)[None]
    drawn = sampling.draw(jnp.broadcast_to(log_p, (1, 20000, 1000)), numbers)
    frequencies = np.bincount(np.asarray(drawn[0]), minlength=1000) / 20000
    np.testing.assert_allclose(frequencies, np.exp(log_p), atol=1.1e-4)
    assert not frequencies[::3].any()


@pytest.mark.parametrize("number", [0.0, 1 - 2.0**-24])
def test_the_ends_of_the_interval_draw_possible_tokens(number):
    log_p = np.full((1, 1, 600), -np.inf, np.float32)
    log_p[..., [7, 300, 431]] = np.log([0.2, 0.5, 0.3])
    numbers = jnp.full((1, 1), number, jnp.float32)
    want = 7 if number == 0 else 431
    assert sampling.draw(jnp.asarray(log_p), numbers).item() == want
    assert sampling.draw_few(jnp.asarray(log_p), numbers).item() == want


@pytest.mark.parametrize("flat", [False, True])
def test_nucleus_of_a_large_vocabulary_with_and_without_sorting_it_all(flat):
    rng = np.random.default_rng(2)
    logits = rng.standard_normal(2000).astype(np.float32) * (0.01 if flat else 4)
    log_p = logits - np.log(np.exp(logits).sum())
    numbers = jnp.asarray((np.arange(1000) + 0.5) / 1000, jnp.float32)[None]
    drawn = np.asarray(sampling.draw_nucleus(
        jnp.broadcast_to(log_p, (1, 1000, 2000)), numbers, 0.9))
    order = np.argsort(-log_p, kind="stable")
    size = int(np.argmax(np.cumsum(np.exp(log_p[order]).astype(np.float64)) >= 0.9)) + 1
    assert (size > sampling.NUCLEUS) == flat
    assert set(drawn[0]) <= set(order[:size + 1]) and len(set(drawn[0])) > min(size, 600) * 0.5
