"""The compiled search against fairseq's rules restated in `reference_search.py`."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
import reference_search
from toy_models import RecurrentToy, ToyLanguageModel, ToyModel

from seqjax.config import ConfigError, GenerationConfig
from seqjax.generation.decoder import Decoder
from seqjax.generation.finite import ScoreError
from seqjax.models.protocol import token_source

MODEL = ToyModel()
PARAMS = MODEL.init(jax.random.key(0))


def make_sources(rng, count, longest=9):
    return [np.append(rng.integers(4, 12, rng.integers(0, longest)), 2) for _ in range(count)]


def reference(source, config, *, prefix=(), suppress=(), models=((MODEL, PARAMS),), max_len=None,
              **more):
    if max_len is None:
        max_len = int(config.max_len_a * len(source) + config.max_len_b)
        max_len = len(source) if config.match_source_len else min(max_len, 99)
    return reference_search.search(
        lambda tokens: [m.numpy_logits(p, source, tokens) for m, p in models],
        beam=config.beam, vocabulary=models[0][0].vocabulary, max_len=max_len,
        source_len=len(source), min_len=config.min_len, unkpen=config.unkpen,
        temperature=config.temperature, lenpen=config.lenpen, unnormalized=config.unnormalized,
        match_source_len=config.match_source_len, ngram=config.no_repeat_ngram_size,
        suppress=suppress, prefix=list(prefix),
        groups=max(config.diverse_beam_groups, 0), strength=config.diverse_beam_strength,
        rate=max(config.diversity_rate, 0.0), **more)


def assert_same(found, wanted, nbest):
    assert len(found) == min(nbest, max(len(wanted), 1))
    for hypothesis, (tokens, score, positional) in zip(found, wanted, strict=False):
        assert hypothesis.tokens.tolist() == tokens
        np.testing.assert_allclose(hypothesis.score, score, rtol=0, atol=2e-5)
        np.testing.assert_allclose(hypothesis.positional_scores, positional, rtol=0, atol=2e-5)


def check(config, *, sources, prefixes=None, suppress=(), model=MODEL, params=PARAMS):
    decoder = Decoder(model, config, suppress=suppress)
    results = decoder.decode(params, sources, prefixes=prefixes)
    for i, (source, found) in enumerate(zip(sources, results, strict=True)):
        wanted = reference(source, config, suppress=suppress, models=((model, params),),
                           prefix=prefixes[i] if prefixes else ())
        assert_same(found, wanted, config.nbest)
    return results


OPTION_SETS = {
    "greedy": dict(beam=1),
    "beam": dict(beam=4, nbest=4),
    "lenpen below one": dict(beam=5, nbest=5, lenpen=0.6),
    "lenpen above one, unk": dict(beam=4, nbest=2, lenpen=2.0, unkpen=1.5),
    "unk wanted": dict(beam=3, nbest=3, unkpen=-2.0),
    "unnormalized": dict(beam=4, nbest=4, unnormalized=True),
    "temperature": dict(beam=4, nbest=2, temperature=0.7),
    "min_len": dict(beam=4, nbest=4, min_len=7),
    "max_len_a": dict(beam=4, nbest=4, max_len_a=1.2, max_len_b=3),
    "short": dict(beam=3, nbest=3, max_len_b=1),
    "match source": dict(beam=4, nbest=4, match_source_len=True),
    "no bigram twice": dict(beam=4, nbest=4, no_repeat_ngram_size=2),
    "no token twice": dict(beam=3, nbest=3, no_repeat_ngram_size=1),
    "no trigram twice": dict(beam=3, nbest=3, no_repeat_ngram_size=3, max_len_b=40),
    "diverse": dict(beam=6, nbest=6, diverse_beam_groups=3, diverse_beam_strength=0.5),
    "diverse, strong": dict(beam=4, nbest=4, diverse_beam_groups=2, diverse_beam_strength=3.0),
    "siblings": dict(beam=4, nbest=4, diversity_rate=0.5),
    "beam as wide as the vocabulary": dict(beam=20, nbest=11),
    "cache grows": dict(beam=3, nbest=3, max_len_b=70, min_len=50),
}


@pytest.mark.parametrize("name", OPTION_SETS)
def test_option_sets(name):
    config = GenerationConfig(**{"max_len_b": 12, **OPTION_SETS[name]})
    check(config, sources=make_sources(np.random.default_rng(1), 6))


def test_random_options_against_the_reference():
    """Many option sets on models of other tastes, with prefixes and suppressed tokens."""
    rng = np.random.default_rng(7)
    for trial in range(12):
        model = ToyModel(eos_bias=float(rng.choice([-2.0, 0.0, 2.0])),
                         sharpness=float(rng.choice([0.5, 2.0, 4.0])))
        params = model.init(jax.random.key(trial))
        beam = int(rng.integers(1, 6))
        min_len = int(rng.integers(0, 5))
        config = GenerationConfig(
            beam=beam, nbest=beam, min_len=min_len, max_len_b=int(rng.integers(min_len, 11)),
            max_len_a=float(rng.choice([0.0, 0.5, 1.5])), lenpen=float(rng.choice([0.0, 0.7, 1.3])),
            unkpen=float(rng.choice([0.0, 1.0, -1.0])), temperature=float(rng.choice([1.0, 1.6])),
            unnormalized=bool(rng.integers(2)), no_repeat_ngram_size=int(rng.integers(0, 4)))
        sources = make_sources(rng, 4)
        prefixes = [rng.integers(3, 12, rng.integers(0, 4)) for _ in sources]
        suppress = tuple(rng.choice(np.arange(4, 12), rng.integers(0, 3), replace=False))
        check(config, sources=sources, prefixes=prefixes, suppress=suppress, model=model,
              params=params)


def test_large_vocabulary_takes_the_two_stage_road():
    model = ToyModel(vocabulary=1037, width=6)
    params = model.init(jax.random.key(3))
    config = GenerationConfig(beam=4, nbest=4, max_len_b=9, unkpen=0.5)
    check(config, sources=make_sources(np.random.default_rng(2), 3), model=model, params=params,
          suppress=(700, 1036))


def test_prefix_with_eos_copies_the_first_hypothesis():
    config = GenerationConfig(beam=3, nbest=3, max_len_b=9)
    sources = make_sources(np.random.default_rng(3), 3)
    results = check(config, sources=sources, prefixes=[[5, 6, 2], [7], [8, 2]])
    assert [h.tokens.tolist() for h in results[0]] == [[5, 6, 2]] * 3
    assert [h.tokens.tolist() for h in results[2]] == [[8, 2]] * 3
    assert results[1][0].tokens[0] == 7 and len(results[1][0].tokens) > 2


def test_recurrent_models_follow_by_reorder():
    config = GenerationConfig(beam=5, nbest=5, max_len_b=12)
    model = RecurrentToy()
    check(config, sources=make_sources(np.random.default_rng(4), 5), model=model, params=PARAMS)


def test_ensembles_average_probabilities():
    other = MODEL.init(jax.random.key(9))
    config = GenerationConfig(beam=4, nbest=4, max_len_b=10)
    sources = make_sources(np.random.default_rng(5), 4)
    results = Decoder([MODEL, MODEL], config).decode([PARAMS, other], sources)
    for source, found in zip(sources, results, strict=True):
        assert_same(found, reference(source, config, models=((MODEL, PARAMS), (MODEL, other))), 4)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("lm_weight", [0.0, 0.7])
def test_a_language_model_adds_its_log_probabilities(lm_weight, count):
    lm, lm_params = ToyLanguageModel(), MODEL.init(jax.random.key(4))
    models = [(MODEL, PARAMS), (MODEL, MODEL.init(jax.random.key(9)))][:count]
    config = GenerationConfig(beam=4, nbest=4, max_len_b=10, temperature=1.3,
                              lm_weight=lm_weight)
    sources = make_sources(np.random.default_rng(5), 4)
    decoder = Decoder([m for m, _ in models], config, language_model=lm)
    results = decoder.decode([*(p for _, p in models), lm_params], sources)
    for source, found in zip(sources, results, strict=True):
        wanted = reference(source, config, models=models, lm_weight=lm_weight,
                           lm=lambda tokens: lm.numpy_logits(lm_params, tokens))
        assert_same(found, wanted, 4)


def test_padded_source_len_uses_the_longest_source_of_the_batch():
    config = GenerationConfig(beam=3, nbest=3, max_len_a=1.0, max_len_b=0, padded_source_len=True,
                              min_len=0)
    sources = [np.array([5, 2]), np.array([5, 6, 7, 8, 9, 10, 2]), np.array([7, 2])]
    results = Decoder(MODEL, config).decode(PARAMS, sources, plan=[[0, 1], [2]])
    for source, found, longest in zip(sources, results, (7, 7, 2), strict=True):
        assert_same(found, reference(source, config, max_len=longest), 3)


@pytest.mark.parametrize("padded", [False, True])
def test_min_len_with_prefixes_of_unequal_length(padded):
    """Each sentence's own rule; with `padded_source_len` fairseq's, whose `min_len` (and
    suppressed tokens) hold for nobody while any prefix of the batch lasts."""
    model = ToyModel(eos_bias=6.0)
    config = GenerationConfig(beam=3, nbest=3, max_len_b=12, min_len=6, padded_source_len=padded)
    sources = make_sources(np.random.default_rng(3), 3)
    prefixes = [[], [5, 6], [7, 8, 9, 4, 10]]
    decoder = Decoder(model, config, suppress=(11,))
    results = decoder.decode(PARAMS, sources, prefixes=prefixes, plan=[range(3)])
    lengths = []
    for source, prefix, found in zip(sources, prefixes, results, strict=True):
        assert_same(found, reference(
            source, config, models=((model, PARAMS),), prefix=prefix, suppress=(11,),
            exempt=5 if padded else 0), 3)
        lengths.append(len(found[0].tokens))
    assert (min(lengths) < 7) == padded


@pytest.mark.parametrize("padded", [False, True])
def test_match_source_len_with_padding(padded):
    config = GenerationConfig(beam=4, nbest=4, match_source_len=True, padded_source_len=padded)
    sources = make_sources(np.random.default_rng(6), 4)
    longest = max(len(s) for s in sources)
    results = Decoder(MODEL, config).decode(PARAMS, sources, plan=[range(4)])
    for source, found in zip(sources, results, strict=True):
        limit = longest if padded else len(source)
        assert_same(found, reference(source, config, max_len=limit), 4)
        assert len(found[0].tokens) == len(source) + 1


def test_results_do_not_depend_on_batches_or_order():
    config = GenerationConfig(beam=4, nbest=4, max_len_b=14)
    sources = make_sources(np.random.default_rng(8), 23, longest=30)
    together = Decoder(MODEL, config).decode(PARAMS, sources)
    small = dataclasses.replace(config, batch_size=3)
    order = np.random.default_rng(0).permutation(23)
    shuffled = Decoder(MODEL, small).decode(PARAMS, [sources[i] for i in order])
    for place, i in enumerate(order):
        for a, b in zip(together[i], shuffled[place], strict=True):
            assert a.tokens.tolist() == b.tokens.tolist()
            np.testing.assert_allclose(a.score, b.score, atol=1e-5)
            np.testing.assert_allclose(a.positional_scores, b.positional_scores, atol=1e-5)


def test_scores_are_log_probabilities_of_the_full_forward_pass():
    config = GenerationConfig(beam=5, nbest=5, max_len_b=20)
    sources = make_sources(np.random.default_rng(10), 5)
    for source, found in zip(sources, Decoder(MODEL, config).decode(PARAMS, sources), strict=True):
        for h in found:
            previous = np.append(2, h.tokens[:-1])[None]
            encoded = MODEL.encode(PARAMS, token_source(source[None], pad=1))
            features = MODEL.features(PARAMS, previous, encoded)
            lp = np.asarray(jax.nn.log_softmax(features.logits()))[0]
            lp = lp[np.arange(len(h.tokens)), h.tokens]
            np.testing.assert_allclose(h.positional_scores, lp, atol=1e-5)
            np.testing.assert_allclose(h.score, lp.sum() / len(lp), atol=1e-5)


def test_a_model_that_says_nan_is_an_error():
    params = {**PARAMS, "embed": PARAMS["embed"].at[5].set(np.nan)}
    config = GenerationConfig(beam=2, nbest=2, max_len_b=6)
    # With a prefix that no output may go on from there is none; the model itself is sound.
    results = Decoder(MODEL, config).decode(params, [np.array([6, 2])], prefixes=[[5]])
    assert [h.tokens.tolist() for h in results[0]] == [[2]] and results[0][0].score == -np.inf
    whole = {**PARAMS, "out": np.full_like(PARAMS["out"], np.nan)}
    with pytest.raises(ScoreError, match="source 0: no output has a finite score"):
        Decoder(MODEL, config).decode(whole, [np.array([6, 2])])


def test_nan_in_one_hypothesis_leaves_the_others():
    params = {**PARAMS, "embed": PARAMS["embed"].at[5].set(np.nan)}
    config = GenerationConfig(beam=4, nbest=4, max_len_b=8)
    check(config, sources=make_sources(np.random.default_rng(11), 4), params=params,
          model=RecurrentToy())


def test_streaming_gives_every_sentence_once_with_its_number():
    config = GenerationConfig(beam=2, max_len_b=8, batch_size=4)
    sources = make_sources(np.random.default_rng(12), 11, longest=30)
    decoder = Decoder(MODEL, config)
    weights = decoder.prepare(PARAMS)
    whole = decoder.decode(weights, sources)
    seen = {}
    for part in decoder.stream(weights, sources):
        for index, found in zip(part.indices, part.hypotheses, strict=True):
            assert index not in seen
            seen[index] = found[0].tokens.tolist()
    assert [seen[i] for i in range(11)] == [h[0].tokens.tolist() for h in whole]
    assert decoder.decode(weights, []) == []


@pytest.mark.parametrize(("options", "message"), [
    (dict(beam=0), "beam: 0"),
    (dict(nbest=6), "nbest: 6"),
    (dict(temperature=0.0), "temperature"),
    (dict(sampling=True), "set nbest=5"),
    (dict(sampling_topk=3), "need sampling=True"),
    (dict(diverse_beam_groups=2), "not divisible"),
    (dict(match_source_len=True, diversity_rate=1.0), "exclude each other"),
])
def test_contradictory_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Decoder(MODEL, GenerationConfig(**options))


@pytest.mark.parametrize(("options", "sources", "message"), [
    ({}, [[5, 2], []], "source 1 has no tokens"),
    ({}, [[5, 2], [5] * 50 + [2]], "source 1 has 51 tokens.*at most 40"),
    (dict(max_len_b=3, min_len=4), [[5, 2]], "source 0: outputs may have at most 3"),
])
def test_bad_sources_are_refused_before_any_work(options, sources, message):
    with pytest.raises(ValueError, match=message):
        Decoder(MODEL, GenerationConfig(**options)).stream(PARAMS, sources)
