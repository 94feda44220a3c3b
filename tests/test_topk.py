"""The two-stage top-k against `lax.top_k`: values, indices, ties."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from seqjax.generation import topk


def rows_with_ties(rng, shape, kind):
    if kind == "normal":
        return rng.standard_normal(shape).astype(np.float32)
    if kind == "few values":
        return rng.integers(0, 4, shape).astype(np.float32)
    if kind == "mostly -inf":
        x = np.full(shape, -np.inf, np.float32)
        x[..., rng.integers(0, shape[-1], 3)] = 1.0
        return x
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize("kind", ["normal", "few values", "mostly -inf", "constant"])
@pytest.mark.parametrize(("n", "k", "block"), [
    (4096, 10, 128), (4096, 1, 128), (4099, 10, 128), (1000, 7, 16), (1023, 16, 16), (50, 9, 16),
    (64, 64, 16),
])
def test_top_k_is_lax_top_k_bit_for_bit(kind, n, k, block):
    rng = np.random.default_rng(n + k)
    x = rows_with_ties(rng, (3, 2, n), kind)
    got = jax.jit(lambda x: topk.top_k(x, k, block=block))(x)
    want = lax.top_k(x, k)
    np.testing.assert_array_equal(got.values, want[0])
    np.testing.assert_array_equal(got.indices, want[1])


def test_two_stages_are_taken_where_they_pay():
    assert topk.worthwhile(32768, 1, 10) and topk.worthwhile(32768, 5, 10)
    assert not topk.worthwhile(200, 5, 10) and not topk.worthwhile(40, 1000, 1)


@pytest.mark.parametrize("kind", ["normal", "few values", "mostly -inf"])
@pytest.mark.parametrize("v", [300, 2048, 2051])
def test_top_k_of_rows_with_offsets_and_special_columns(kind, v):
    rng = np.random.default_rng(v)
    b, w, k, special = 4, 3, 6, (1, 2, 700 % v)
    x = rows_with_ties(rng, (b, w, v), kind)
    x[1, 2] = np.nan
    minus = rng.integers(0, 3, (b, w)).astype(np.float32)
    plus = rng.integers(-2, 3, (b, w)).astype(np.float32)
    plus[1, 2] = plus[3, 0] = -np.inf

    def adjust(values, columns):
        values = jnp.where(columns == 1, -jnp.inf, values)
        values = jnp.where(columns == 2, 3.0, values)
        return jnp.where(columns == special[2], values - 1, values)

    got = jax.jit(lambda x: topk.top_k_of_rows(
        x, k, maxima=topk.block_maxima(x, block=16), minus=minus, plus=plus, adjust=adjust,
        special=special, block=16))(x)
    full = x - minus[..., None]
    full[..., 1] = -np.inf
    full[..., 2] = 3.0
    full[..., special[2]] -= 1
    full = np.where(plus[..., None] > -np.inf, full + plus[..., None], -np.inf)
    want = lax.top_k(full.reshape(b, w * v).astype(np.float32), k)
    np.testing.assert_array_equal(got.values, want[0])
    np.testing.assert_array_equal(got.indices, want[1])


def test_k_out_of_range_is_refused():
    with pytest.raises(ValueError, match="k is 11, but rows have 10"):
        topk.top_k(jnp.zeros((2, 10)), 11)
