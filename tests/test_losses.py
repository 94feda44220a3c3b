"""Cross entropy against its definition, in one piece and in chunks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.losses.cross_entropy import (
    CrossEntropyConfig,
    LabelSmoothedCrossEntropyConfig,
    cross_entropy,
)
from seqjax.models.parts.outputs import project_table

PAD = 1


def project(kernel, hidden):
    return hidden @ kernel


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.normal(size=(3, 5, 8)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(8, 11)), jnp.float32)
    target = rng.integers(4, 11, (3, 5))
    target[1, 3:] = PAD
    target[2] = PAD
    return hidden, kernel, jnp.asarray(target)


def definition(hidden, kernel, target, smoothing, ignored=0):
    logits = np.asarray(hidden, np.float64) @ np.asarray(kernel, np.float64)
    lprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    loss = nll = 0.0
    each = smoothing / (logits.shape[-1] - 1)
    for b in range(target.shape[0]):
        for t in range(ignored, target.shape[1]):
            if target[b, t] != PAD:
                one = -lprobs[b, t, target[b, t]]
                nll += one
                loss += (1 - smoothing - each) * one - each * lprobs[b, t].sum()
    return loss, nll


@pytest.mark.parametrize("budget", [2**26, 40, 11])
@pytest.mark.parametrize("smoothing, ignored", [(0.0, 0), (0.1, 0), (0.3, 2)])
def test_equals_definition_whole_and_in_chunks(case, smoothing, ignored, budget):
    hidden, kernel, target = case
    config = LabelSmoothedCrossEntropyConfig(
        label_smoothing=smoothing, ignore_prefix_size=ignored, report_accuracy=True,
        logits_budget=budget,
    )
    out = cross_entropy(hidden, kernel, project, target, config=config, pad=PAD)
    loss, nll = definition(hidden, kernel, target, smoothing, ignored)
    np.testing.assert_allclose(out.sum, loss, rtol=1e-5)
    np.testing.assert_allclose(out.metrics["nll_loss"][0], nll, rtol=1e-5)
    assert out.weight == 8 and out.metrics["nsentences"][0] == 2
    best = np.asarray(hidden @ kernel).argmax(-1)
    scored = (np.asarray(target) != PAD) & (np.arange(5) >= ignored)
    assert out.metrics["accuracy"][0] == (scored & (best == np.asarray(target))).sum()
    assert out.metrics["accuracy"][1] == scored.sum()


def test_chunks_change_no_gradient(case):
    hidden, kernel, target = case

    def gradient(budget):
        config = LabelSmoothedCrossEntropyConfig(logits_budget=budget)
        def loss(h, k):
            return cross_entropy(h, k, project, target, config=config, pad=PAD).sum
        return jax.grad(loss, argnums=(0, 1))(hidden, kernel)

    for a, b in zip(gradient(2**26), gradient(30), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def words_of(v: int, d: int, n: int):
    """An output layer whose words can be taken apart, states and targets, some of them padding."""
    rng = np.random.default_rng(v)
    table = jnp.asarray(rng.normal(size=(v, d)) / d**0.5, jnp.float32)
    hidden = jnp.asarray(rng.normal(size=(2, n, d)), jnp.float32)
    target = rng.integers(2, v, (2, n))
    target[1, n // 2:] = PAD
    return table, hidden, jnp.asarray(target)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("v, d, n, tokens", [(300, 16, 7, 3), (256, 4096, 4, 5), (130, 8, 5, 1)])
def test_chunks_of_tokens_are_exact(v, d, n, tokens, smoothing):
    """Several blocks of words, the last overlapping; a chunk that is not full; one token."""
    table, hidden, target = words_of(v, d, n)

    def found(budget):
        config = LabelSmoothedCrossEntropyConfig(
            label_smoothing=smoothing, logits_budget=budget, report_accuracy=True)

        def loss(table, hidden):
            out = cross_entropy(hidden, table, project_table, target, config=config, pad=PAD)
            return 3 * out.sum, out.metrics

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(table, hidden)

    whole, chunks = found(1 << 40), found(tokens * v)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), whole, chunks)


def test_chunks_of_tokens_in_bfloat16():
    table, hidden, target = words_of(300, 16, 8)

    def gradient(budget):
        config = CrossEntropyConfig(logits_budget=budget)

        def loss(table, hidden):
            return cross_entropy(hidden.astype(jnp.bfloat16), table.astype(jnp.bfloat16),
                                 project_table, target, config=config, pad=PAD).sum

        return jax.grad(loss, argnums=(0, 1))(table, hidden)

    for a, b in zip(gradient(1 << 40), gradient(900), strict=True):
        np.testing.assert_allclose(a, b, atol=0.02 * float(jnp.abs(a).max()))


def test_a_large_vocabulary_needs_little_memory():
    """Of logits there is a chunk's at a time."""
    table, hidden, target = words_of(20_000, 16, 64)

    def temporary(budget):
        config = CrossEntropyConfig(logits_budget=budget)

        def loss(table, hidden):
            return cross_entropy(
                hidden, table, project_table, target, config=config, pad=PAD).sum

        gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
        analysis = gradient.lower(table, hidden).compile().memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    logits = 2 * 64 * 20_000 * 4
    assert temporary(1 << 40) > logits
    assert temporary(8 * 20_000) < 0.25 * logits


def test_plain_cross_entropy(case):
    hidden, kernel, target = case
    out = cross_entropy(hidden, kernel, project, target, config=CrossEntropyConfig(), pad=PAD)
    np.testing.assert_allclose(out.sum, definition(hidden, kernel, target, 0.0)[0], rtol=1e-5)
    assert out.sum == out.metrics["nll_loss"][0]


def test_log_probabilities_are_never_built(case):
    hidden, kernel, target = case
    def loss(h, k):
        config = LabelSmoothedCrossEntropyConfig(logits_budget=2 * 11)
        return cross_entropy(h, k, project, target, config=config, pad=PAD).sum
    text = jax.jit(jax.value_and_grad(loss)).lower(hidden, kernel).as_text()
    assert "15x11x" not in text and "3x5x11x" not in text


def test_bad_smoothing_is_refused():
    with pytest.raises(ValueError, match="label_smoothing"):
        LabelSmoothedCrossEntropyConfig(label_smoothing=1.0)
