"""wav2vec 2.0 against what fairseq computes, and by itself."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import wav2vec2_goldens as goldens
from wav2vec2_goldens import CASES

from seqjax.interop import fairseq_weights
from seqjax.models.parts import audio
from seqjax.models.protocol import Source
from seqjax.models.wav2vec2.modules import Drawn


@pytest.fixture(scope="module", params=CASES)
def golden(request):
    return goldens.load(request.param)


def test_states_and_their_mask_are_fairseqs(golden):
    encoded = jax.jit(golden.model.encode)(golden.params, golden.source)
    np.testing.assert_array_equal(encoded.mask, golden.arrays["real"])
    np.testing.assert_allclose(encoded.out, golden.arrays["features"], atol=1e-5)


def test_scores_of_candidates_are_fairseqs(golden):
    found = jax.jit(golden.model.pretrain)(golden.params, golden.source, golden.drawn)
    logits, theirs = found["logits"].transpose(2, 0, 1), golden.arrays["logits"]
    assert found["masked"].all()
    np.testing.assert_array_equal(np.isinf(logits), np.isinf(theirs))
    finite = np.isfinite(theirs)
    np.testing.assert_allclose(logits[finite], theirs[finite], atol=2e-5)


def test_the_loss_its_terms_and_gradients_are_fairseqs(golden):
    goldens.check_pass(golden, "eval")


def test_training_with_given_noise_is_fairseqs(golden, monkeypatch):
    """Straight through the hard choice, at the temperature of the update."""
    flat, shapes, calls = golden.arrays["noise"], golden.about["noise"], []

    def recorded(key, shape):
        at = sum(int(np.prod(s)) for s in shapes[: len(calls)])
        calls.append(shape)
        size = int(np.prod(shapes[len(calls) - 1]))
        return jnp.asarray(flat[at : at + size]).reshape(shape)

    monkeypatch.setattr(jax.random, "gumbel", recorded)
    goldens.check_pass(golden, "train", rng=jax.random.key(0), update=golden.about["update"])
    assert len(calls) == len(shapes)


def test_the_round_trip_keeps_every_tensor(golden):
    state = fairseq_weights.to_state(
        golden.checkpoint.params, golden.checkpoint.config, kept=golden.checkpoint.kept,
        source_vocab_size=0, target_vocab_size=0)
    assert state.keys() == golden.state.keys()
    for name, value in golden.state.items():
        np.testing.assert_array_equal(state[name], value, err_msg=name)
