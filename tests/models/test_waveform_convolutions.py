"""Convolutions of models of waveforms as a CPU does them: values and gradients of what they are
defined as."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.models.parts import attention, audio_config, convolutions, extractor, first_block
from seqjax.models.parts.gelu import gelu

RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.standard_normal(shape), jnp.float32)


def same(found, wanted, tolerance=1e-5):
    """Every array, by the largest value in it, or a hundredth of that in all."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    least = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(wanted)) / 100
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert a.shape == b.shape
        largest = max(float(jnp.abs(b).max()), least)
        np.testing.assert_allclose(a, b, atol=tolerance * largest, rtol=0)


def with_gradients(function, *inputs):
    """Its result, and the gradients of a weighted sum of it."""
    y, pull = jax.vjp(function, *inputs)
    weights = jnp.sin(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
    return y, pull(weights)


def test_gelu_is_the_exact_one():
    x = jnp.concatenate([jnp.linspace(-9, 9, 4001), jnp.array([-1e4, 1e4])])

    def plain(x):
        return jax.nn.gelu(x, approximate=False)

    @jax.jit
    def both(x):
        return with_gradients(gelu, x), with_gradients(plain, x)

    found, wanted = both(x)
    np.testing.assert_allclose(found[0], wanted[0], atol=2e-6)
    np.testing.assert_allclose(found[1][0], wanted[1][0], atol=2e-6)
    low = gelu(x.astype(jnp.bfloat16))
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        low.astype(jnp.float32), plain(x.astype(jnp.bfloat16).astype(jnp.float32)), rtol=1e-2,
        atol=1e-6)


def test_gradients_of_groups_are_xlas():
    """Widths below, at and above the taps that are put side by side, odd and even; paddings."""
    cases = [(1, 0, 4, 2), (3, 1, 5, 3), (8, 4, 11, 2), (9, 0, 12, 4), (19, 9, 7, 2), (16, 8, 3, 3)]
    inputs = [(normal(2, frames, 2 * groups), normal(width, 2, 3 * groups))
              for width, _, frames, groups in cases]

    def both(inputs):
        for (x, kernel), (_, padding, _, groups) in zip(inputs, cases, strict=True):
            def plain(x, kernel, padding=padding, groups=groups):
                return convolutions._convolve(x, kernel, 1, padding, groups)

            y, wanted = with_gradients(plain, x, kernel)
            weights = jnp.sin(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
            yield convolutions.by_products(
                x, kernel, weights, padding=padding, groups=groups), wanted

    for found, wanted in jax.jit(lambda inputs: list(both(inputs)))(inputs):
        same(found, wanted)


def test_folded_convolutions_are_xlas():
    cases = [(3, 2, 5), (2, 2, 4), (4, 2, 3), (10, 5, 4), (7, 5, 3), (1, 1, 4), (2, 1, 4)]
    assert all(convolutions.folds(width, stride) for width, stride, _ in cases)
    assert not convolutions.folds(3, 1) and not convolutions.folds(2, 3)
    inputs = [(normal(2, frames * stride, 3), normal(width, 3, 4))
              for width, stride, frames in cases]

    def both(inputs):
        for (x, kernel), (width, stride, frames) in zip(inputs, cases, strict=True):
            def plain(x, kernel, width=width, stride=stride):
                return convolutions._convolve(x, kernel, stride, (0, width - stride), 1)

            found = with_gradients(lambda x, k, s=stride: convolutions.fold(x, k, s), x, kernel)
            assert found[0].shape == (2, frames, 4)
            yield found, with_gradients(plain, x, kernel)

    for found, wanted in jax.jit(lambda inputs: list(both(inputs)))(inputs):
        same(found, wanted)


def test_the_first_block_in_pieces_is_the_block():
    """Gradients too, those of the samples as well; statistics of the first frames of a row, of
    none, and of all; samples with a mean far from 0."""
    frames = first_block._AT_ONCE // 3 // 4 * 8  # two pieces
    samples = normal(3, (frames - 1) * 5 + 10) + jnp.array([[0.0], [3.0], [0.1]])
    weights = {"kernel": normal(10, 1, 4), "scale": normal(4), "bias": normal(4)}
    counted = jnp.array([frames, frames // 2 + 3, 0])

    @jax.jit
    def both(samples, weights):
        return (with_gradients(lambda s, w: first_block.in_pieces(s, w, counted, 5),
                               samples, weights),
                with_gradients(lambda s, w: first_block.plain(s, **w, counted=counted, stride=5),
                               samples, weights))

    same(*both(samples, weights), tolerance=2e-5)


@pytest.mark.parametrize("mode, bias, layers", [
    ("default", False, [(4, 10, 5), (6, 3, 2), (6, 3, 2), (5, 2, 2)]),
    ("default", True, [(4, 10, 5), (6, 3, 2)]),
    ("layer_norm", True, [(4, 10, 5), (6, 3, 2), (5, 2, 2)]),
    ("default", False, [(4, 10, 5), (6, 5, 2)])])
def test_an_extractor_is_the_same_on_every_device(monkeypatch, mode, bias, layers):
    """Whatever is left over of rows by their strides."""
    made = tuple(audio_config.ConvLayer(*layer) for layer in layers)
    module = extractor.FeatureExtractor(made, mode, bias)
    field = audio_config.receptive_field(made)
    rows = [normal(2, field * 3 + extra) for extra in (0, 13, 40)]
    params = module.init(jax.random.key(1), rows[0])["params"]
    params = jax.tree.map(lambda x: x + 0.1 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), params)

    def every(params):
        lengths = [None, *(jnp.array([row.shape[1], field + 9]) for row in rows[1:])]
        return [with_gradients(
            lambda p, row=row, given=given: module.apply({"params": p}, row, given), params)
            for row, given in zip(rows, lengths, strict=True)]

    found = jax.jit(every)(params)
    monkeypatch.setattr(extractor, "on_cpu", lambda: False)
    jax.clear_caches()
    for a, b in zip(found, jax.jit(lambda p: every(p))(params), strict=True):
        same(a, b, tolerance=2e-5)


def test_heads_attend_one_by_one_as_together():
    """Rows so long that they do; masked, and with gradients."""
    module = attention.MultiheadAttention(8, 2)
    frames = int(attention._LONG**0.5) + 1
    x, real = normal(1, frames, 8), jnp.arange(frames)[None] < frames - 9
    params = module.init(jax.random.key(2), x, None, None)["params"]

    @jax.jit
    def both(params, x):
        mask = real[:, None, None, :]
        return (with_gradients(lambda p, x: module.apply(
                    {"params": p}, x, mask, method="without_probabilities"), params, x),
                with_gradients(lambda p, x: module.apply({"params": p}, x, None, mask)[0],
                               params, x))

    assert "while" in both.lower(params, x).as_text()
    same(*both(params, x))
