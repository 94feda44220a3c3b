"""Bricks that every family is built of, by themselves."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.models.parts.layers import activation, dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean(rate):
    """A share `rate` of the elements is zero, the rest are larger by as much; none is without a
    key or at rate 0."""
    x = jnp.ones((200, 300))
    found = np.asarray(dropout(x, rate, jax.random.key(5)))
    assert set(np.unique(found).tolist()) == {0.0, float(np.float32(1 / (1 - rate)))}
    assert abs((found == 0).mean() - rate) < 0.01
    assert found.mean() == pytest.approx(1, abs=0.02 / (1 - rate))
    for axis in (0, 1):  # neither whole rows nor whole columns
        assert abs((found == 0).mean(axis) - rate).max() < 0.2
    np.testing.assert_array_equal(dropout(x, rate, None), x)
    np.testing.assert_array_equal(dropout(x, 0.0, jax.random.key(5)), x)


@pytest.mark.parametrize(("name", "values"), [
    ("relu", (0, 0, 2)), ("gelu", (-0.158655, 0, 1.954500)),
    ("gelu_fast", (-0.158808, 0, 1.954598)),
    ("gelu_accurate", (-0.158808, 0, 1.954598)), ("tanh", (-0.761594, 0, 0.964028)),
    ("linear", (-1, 0, 2)), ("swish", (-0.268941, 0, 1.761594))])
def test_activations(name, values):
    found = activation(name)(jnp.array([-1.0, 0.0, 2.0]))
    np.testing.assert_allclose(found, values, atol=1e-5)
