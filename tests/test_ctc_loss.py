"""The loss over alignments against torch's, and what fairseq makes of it."""

from __future__ import annotations

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.losses import ctc
from seqjax.losses.base import Forward
from seqjax.losses.ctc_config import CtcConfig
from seqjax.models.protocol import Encoded, Features

FILE = pathlib.Path(__file__).parent / "goldens" / "ctc.npz"


@pytest.fixture(scope="module")
def recorded():
    with np.load(FILE) as found:
        return dict(found)


def test_losses_and_gradients_are_torchs(recorded):
    """Empty targets, rows of one frame, repeated letters, impossible rows, a cost over 1e5."""
    logits = jnp.asarray(recorded["logits"], jnp.float32)
    frames = jnp.arange(logits.shape[1]) < recorded["frames"][:, None]
    symbols = jnp.arange(recorded["target"].shape[1]) < recorded["symbols"][:, None]
    possible = np.isfinite(recorded["loss"])
    assert 3 < (~possible).sum() < 20 and recorded["loss"][possible].max() > 1e5

    @jax.jit
    def run(logits):
        def loss(logits, zero_infinity):
            each = ctc.row_losses(
                logits, frames, recorded["target"], symbols, zero_infinity=zero_infinity)
            return each.sum(), each
        return [jax.grad(loss, has_aux=True)(logits, zero) for zero in (True, False)]

    (gradient, zeroed), (wild, infinite) = run(logits)
    np.testing.assert_allclose(
        zeroed, np.where(possible, recorded["loss"], 0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(infinite, recorded["loss"], rtol=1e-5, atol=1e-5)
    # A float32 of 480,000 is exact to 0.03, and so are probabilities made of it.
    dear = recorded["loss"] > 1e5
    np.testing.assert_allclose(gradient[~dear], recorded["gradient"][~dear], atol=2e-5)
    np.testing.assert_allclose(gradient[dear & possible], recorded["gradient"][dear & possible],
                               atol=0.03)
    assert not np.any(gradient[~possible]) and np.isnan(wild[~possible]).all()
    np.testing.assert_array_equal(wild[possible], gradient[possible])


def test_padding_costs_nothing_and_eos_is_no_symbol():
    """Padded frames have no gradient, whatever stands there (fairseq: blank, for certain); a
    batch's weight is its symbols; rows that are all padding count for nothing."""
    rng = np.random.default_rng(1)
    hidden = jnp.asarray(rng.normal(size=(3, 9, 7)), jnp.float32)
    mask = jnp.arange(9) < jnp.array([9, 6, 0])[:, None]
    target = jnp.array([[4, 4, 5, 2], [6, 2, 1, 1], [1, 1, 1, 1]])
    parts = jnp.array([[4, 4, 5], [6, 1, 1], [1, 1, 1]])

    @jax.jit
    def run(hidden):
        def loss(hidden, target):
            features = Features(hidden=hidden, projection=(), project=lambda _, x: x)
            forward = Forward(
                features=features, target=target, encoded=Encoded(out=hidden, mask=mask))
            found = ctc.compute(forward, {}, CtcConfig(), update=jnp.int32(0))
            return found.sum, found
        return [jax.grad(loss, has_aux=True)(hidden, t) for t in (target, parts)]

    (gradient, found), (_, again) = run(hidden)
    assert found.weight == 4 and found.metrics["nsentences"][0] == 2
    assert found.metrics["loss"][1] == found.metrics["ntokens"][0] == 4
    np.testing.assert_allclose(found.sum, again.sum, rtol=1e-6)
    assert np.isfinite(gradient).all() and not np.any(gradient[~mask])
    lprobs = ctc.frame_log_probs(hidden, mask)
    assert not np.any(lprobs[~mask][:, 0]) and np.isneginf(lprobs[~mask][:, 1:]).all()
    np.testing.assert_allclose(np.exp(lprobs).sum(-1), 1, rtol=1e-6)
