"""A `<pad>` within a sentence: positions, masks, shifted targets and losses are fairseq's.

A literal `<pad>` in a text has the id of padding. What fairseq computes of such sentences is
in `goldens/padding_inside.npz` (scripts/record_padding_inside.py).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from family_goldens import FOLDER, PAD, load, loss_of

from seqjax.generation.teacher_forcing import previous_tokens
from seqjax.models.parts.positions import position_ids
from seqjax.models.protocol import token_source

RECORDED = dict(np.load(FOLDER / "padding_inside.npz"))
CASES = sorted({name.rpartition("/")[0] for name in RECORDED})


def batch(case):
    return [jnp.asarray(RECORDED[f"{case}/{k}"], jnp.int32) for k in ("source", "prev", "target")]


@pytest.mark.parametrize("case", CASES)
def test_numbers(case):
    golden = load(case)
    source, prev, target = batch(case)

    @jax.jit
    def run(params):
        features = golden.features(params, source, prev)
        return jax.nn.log_softmax(features.logits()), loss_of(golden, features, target)

    lprobs, loss = run(golden.params)
    written = np.asarray(target) != PAD
    np.testing.assert_allclose(
        np.asarray(lprobs)[written], RECORDED[f"{case}/lprobs"][written], atol=1e-5)
    np.testing.assert_allclose(loss, RECORDED[f"{case}/loss"], rtol=1e-5)


@pytest.mark.parametrize("case", [c for c in CASES if not load(c).is_lm])
def test_packed_is_the_same(case):
    """Two sentences in one row give what each gives alone, with `<pad>` within them."""
    golden = load(case)
    source, prev, target = (np.asarray(x) for x in batch(case))
    ends = [[int(np.flatnonzero(row != PAD)[-1]) + 1 for row in side] for side in (source, target)]
    packed = {}
    for name, side, end in (("source", source, ends[0]), ("prev", prev, ends[1])):
        packed[name] = np.concatenate([side[i, : end[i]] for i in (0, 1)])[None]
        packed[name + "_segments"] = np.repeat([1, 2], [end[0], end[1]])[None]
    model, params = golden.model, golden.params
    encoded = model.encode(params, token_source(
        jnp.asarray(packed["source"]), pad=PAD, segments=jnp.asarray(packed["source_segments"])))
    features = model.features(params, jnp.asarray(packed["prev"]), encoded,
                              segments=jnp.asarray(packed["prev_segments"]))
    lprobs = np.asarray(jax.nn.log_softmax(features.logits()))[0]
    expected = RECORDED[f"{case}/lprobs"]
    expected = np.concatenate([expected[i, : ends[1][i]] for i in (0, 1)])
    written = np.concatenate([target[i, : ends[1][i]] for i in (0, 1)]) != PAD
    np.testing.assert_allclose(lprobs[written], expected[written], atol=1e-5)


def test_positions_skip_padding():
    tokens = jnp.array([[5, 1, 6, 2, 1, 1], [5, 6, 1, 1, 7, 2]])
    assert position_ids(tokens, None, pad=1).tolist() == [[2, 1, 3, 4, 1, 1], [2, 3, 1, 1, 4, 5]]
    segments = jnp.array([[1, 1, 2, 2, 0, 0], [1, 1, 1, 2, 2, 2]])
    assert position_ids(tokens, segments, pad=1).tolist() == [
        [2, 1, 2, 3, 1, 1], [2, 3, 1, 1, 2, 3]]


def test_shifted_targets_keep_the_word_before():
    target = jnp.array([[5, 1, 6, 2, 1, 1]])
    assert previous_tokens(target, pad=1, start=2).tolist() == [[2, 5, 1, 6, 1, 1]]
    segments = jnp.array([[1, 1, 1, 1, 0, 0]])
    assert previous_tokens(target, segments, pad=1, start=2).tolist() == [[2, 5, 1, 6, 1, 1]]
    segments = jnp.array([[1, 1, 2, 2, 0, 0]])
    assert previous_tokens(target, segments, pad=1, start=2).tolist() == [[2, 5, 2, 6, 1, 1]]
