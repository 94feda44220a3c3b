"""Models that transformers have too: its numbers and its hypotheses, of tiny models of each kind.

How a recorded case becomes a model is in `huggingface_goldens.py`.
"""

from __future__ import annotations

import huggingface_goldens as goldens
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.config import GenerationConfig
from seqjax.generation.decoder import Decoder

CASES = goldens.names()
NEW_TOKENS = 14
"""As scripts/record_huggingface_families.py."""


def cases(names):
    return pytest.mark.parametrize("name", names)


def prev_of(case):
    return jnp.asarray(case.arrays["prev"], jnp.int32)


@cases(CASES)
def test_logits_are_those_of_transformers(name):
    case = goldens.load(name)
    found = jax.jit(lambda p: case.features(p, prev_of(case)).logits())(case.params)
    real = case.real("prev")
    np.testing.assert_allclose(found[real], case.arrays["logits"][real], atol=2e-5, rtol=2e-5)


@cases(CASES)
def test_every_tensor_comes_back_bit_for_bit(name):
    case = goldens.load(name)
    kept = {k: v for k, v in case.state.items() if case.plan.ignored.fullmatch(k)}
    state = goldens.written(case, kept)
    assert state.keys() == case.state.keys()
    for key, value in case.state.items():
        np.testing.assert_array_equal(state[key], value, err_msg=key)
    fresh = goldens.written(case, {})  # as of a model that was trained here
    missing = case.state.keys() - fresh.keys()
    assert fresh.keys() <= case.state.keys()
    assert all("embed_positions" in key for key in missing), missing  # transformers makes them


@cases(CASES)
def test_its_configuration_comes_back(name):
    case = goldens.load(name)
    found = case.table.config_to(case.config)
    assert {k: v for k, v in found.items() if case.hf.get(k) not in (None, v)} == {}
    assert case.table.config_from(case.hf) == case.table.config_from({**case.hf, **found})


def hypotheses(case, *, beam):
    """Tokens of the best hypothesis of each row, and their scores, as `generate` was asked."""
    start, forced = case.search.get("start"), case.search.get("forced")
    lenpen = case.search["lenpen"]
    options = dict(beam=beam, lenpen=lenpen or 1.0, unnormalized=lenpen == 0.0)
    if "source" in case.arrays:
        sources = [row[m] for row, m in zip(
            case.arrays["source"], case.arrays["source"] != case.pad, strict=True)]
        prefixes = [[] if forced is None else [forced] for _ in sources]
        config = GenerationConfig(max_len_b=NEW_TOKENS - 1, **options)
        given = 0
    else:
        sources = [row[m] for row, m in zip(
            case.arrays["prompts"], case.real("prompts"), strict=True)]
        start, prefixes = int(sources[0][0]), [prompt[1:] for prompt in sources]
        config = GenerationConfig(max_len_a=1.0, max_len_b=NEW_TOKENS - 2, **options)
        given = 1
    found = Decoder(case.model, config, bos=start).decode(
        case.params, sources, prefixes=prefixes)
    tokens = [list(map(int, h[0].tokens)) for h in found]
    if given:
        tokens = [row[len(prompt):] for row, prompt in zip(tokens, prefixes, strict=True)]
    return tokens, found


@cases(CASES)
@pytest.mark.parametrize("search", ["greedy", "beam"])
def test_hypotheses_are_those_of_transformers(name, search):
    case = goldens.load(name)
    tokens, found = hypotheses(case, beam=3 if search == "beam" else 1)
    wanted = [[int(t) for t in row if t >= 0] for row in case.arrays[search]]
    assert tokens == wanted
    if search == "beam" and case.search["lenpen"]:
        np.testing.assert_allclose(
            [h[0].score for h in found], case.arrays["beam_scores"], atol=1e-5)
