"""Heads of recorded models with heads: everything that holds of any parameter holds of theirs."""

from __future__ import annotations

import dataclasses
import functools

import conformance_weights
import family_goldens
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.interop.fairseq import optimizer_state
from seqjax.models.parts import heads
from seqjax.models.protocol import SentenceClassifier, token_source
from seqjax.tasks.protocol import members

FOLDER = family_goldens.FOLDER / "sentence_prediction"
HEAD = "sentence_classification_head"


@functools.cache
def load(name: str) -> family_goldens.Golden:
    about, arrays, state = family_goldens.recorded(FOLDER / f"{name}.npz")
    tree = {"args": {"arch": about["arch"], "task": "sentence_prediction", **about["args"]},
            "model": state}
    return family_goldens.of(tree, name=f"{name}/heads", arrays=arrays, gradients={},
                             teacher_forced={})


@pytest.fixture(params=["roberta", "bart"])
def golden(request):
    return load(request.param)


@pytest.mark.parametrize("check", [
    conformance_weights.check_shapes, conformance_weights.check_init,
    conformance_weights.check_round_trip, conformance_weights.check_order,
    conformance_weights.check_moments, conformance_weights.check_split],
    ids=lambda check: check.__name__)
def test_what_holds_of_every_parameter(golden, check):
    check(golden)


def test_moments_of_what_no_gradient_reached_may_be_missing_or_older():
    """torch has none of the head for masked words while sentences are classified."""
    golden = load("roberta")
    names, _ = conformance_weights.numbered(golden)
    aside = [i for i, name in enumerate(names) if ".lm_head." in name]
    assert len(aside) == 5

    def read(**other):
        moments = {i: {"step": 7, "exp_avg": np.ones(golden.state[name].shape, np.float32),
                       "exp_avg_sq": np.ones(golden.state[name].shape, np.float32)}
                   for i, name in enumerate(names)}
        for i, one in moments.items():
            one.update(other if i in aside[:3] else {})
        kept = {i: one for i, one in moments.items() if other or i not in aside}
        saved = {"state": kept, "param_groups": [{"lr": 0.5, "params": [*range(len(names))]}]}
        return optimizer_state.read_state(
            {**golden.tree, "optimizer_history": [], "last_optimizer_state": saved}, name="adam")

    older, missing = read(step=3), read()
    assert older["count"] == missing["count"] == 7
    assert np.all(older["exp_avg"]["encoder"]["lm_head"]["dense"]["kernel"] == 1)
    assert np.all(missing["exp_avg"]["encoder"]["lm_head"]["dense"]["kernel"] == 0)
    assert np.all(missing["exp_avg"]["classification_heads"][HEAD]["dense"]["kernel"] == 1)


def test_it_is_what_its_protocol_says(golden):
    assert all(hasattr(golden.model, name) for name in members(SentenceClassifier))


def test_dropout_of_the_head_needs_a_key_and_a_rate(golden):
    source = token_source(jnp.asarray(golden.arrays["source"], jnp.int32), pad=1)
    still = golden.changed(dropout=0.0, attention_dropout=0.0, pooler_dropout=0.5)
    params = golden.params

    def logits(model, key):
        return model.class_logits(params, HEAD, source, rng=key)

    quiet = logits(golden.model, None)
    np.testing.assert_allclose(logits(still.model, None), quiet, atol=1e-5)
    one, same, other = (logits(still.model, jax.random.key(k)) for k in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - quiet).max() > 1e-3 and np.abs(one - other).max() > 1e-3


def test_half_precision_stays_close(golden):
    source = token_source(jnp.asarray(golden.arrays["source"], jnp.int32), pad=1)
    whole = golden.model.class_logits(golden.params, HEAD, source)
    half = dataclasses.replace(golden.model, compute_dtype=jnp.bfloat16)
    found = half.class_logits(golden.params, HEAD, source)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, whole, atol=0.1)


def test_a_head_that_is_not_there(golden):
    with pytest.raises(ValueError, match=f"no classification head 'mnli'; the model has: {HEAD}"):
        golden.model.class_logits(
            golden.params, "mnli", token_source(jnp.ones((1, 2), jnp.int32), pad=1))


def test_weights_are_carried_by_name_and_size():
    def head(classes, value):
        return {"dense": {"kernel": np.full((4, 4), value), "bias": np.full(4, value)},
                "out_proj": {"kernel": np.full((4, classes), value),
                             "bias": np.full(classes, value)}}

    there = {"encoder": 1, "classification_heads": {"a": head(2, 1), "b": head(3, 1),
                                                    "c": head(2, 1)}}
    fresh = {"a": head(2, 0), "b": head(2, 0), "d": head(2, 0)}
    params, lines = heads.carried(there, fresh)
    assert params["encoder"] == 1 and list(params["classification_heads"]) == ["a", "b", "d"]
    values = {n: int(h["dense"]["bias"][0]) for n, h in params["classification_heads"].items()}
    assert values == {"a": 1, "b": 0, "d": 0}
    assert lines == ["classification heads new: d; begun anew, as their sizes differ: b (3 classes "
                     "of 4 there, 2 classes of 4 here); left out: c"]
    assert heads.carried({"x": 1}, {}) == ({"x": 1}, [])
    assert heads.carried(there, {})[0] == {"encoder": 1}
