"""Adaptive input, adaptive softmax and the loss over its clusters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.losses.adaptive import AdaptiveLossConfig, adaptive_loss
from seqjax.models.parts import adaptive

ENDS, D, FACTOR = (7, 12, 20), 8, 2.0


@pytest.fixture(scope="module")
def softmax():
    module = adaptive.AdaptiveSoftmax(D, ENDS, FACTOR, False, False)
    params = module.init(jax.random.key(1))["params"]
    return adaptive.output_projection(params, None, ends=ENDS)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(3, 21, D)).astype(np.float32)
    target = rng.integers(2, 20, (3, 21)).astype(np.int32)
    target[0, :2] = 8, 13  # the second word of each tail
    target[1, 15:] = 1
    target[2] = 1
    return hidden, target


def test_probabilities_sum_to_one_and_are_the_product_of_two_levels(softmax, batch):
    found = np.asarray(adaptive.log_probs(softmax, batch[0]))
    assert found.shape == (3, 21, 20)
    np.testing.assert_allclose(np.exp(found).sum(-1), 1, atol=1e-5)
    x = batch[0][0, 0]
    head = np.exp(np.asarray(softmax.head) @ x)
    head /= head.sum()
    tail = np.exp(np.asarray(softmax.words[1]) @ (np.asarray(softmax.down[1]) @ x))
    np.testing.assert_allclose(
        np.exp(found[0, 0, 12:]), head[8] * tail / tail.sum(), rtol=1e-4)


def test_loss_with_every_word_is_cross_entropy_of_the_probabilities(softmax, batch):
    hidden, target = batch
    found = adaptive_loss(
        hidden, softmax, target, pad=1, config=AdaptiveLossConfig(score_every_tail_word=True))
    lprobs = np.asarray(adaptive.log_probs(softmax, hidden))
    real = target != 1
    expected = -np.take_along_axis(lprobs, target[..., None], -1)[..., 0][real].sum()
    np.testing.assert_allclose(found.sum, expected, rtol=1e-5)
    assert float(found.weight) == real.sum() and float(found.metrics["nsentences"][0]) == 2


def test_fairseq_scores_only_the_class_of_the_second_word_of_a_tail(softmax, batch):
    hidden, target = batch
    assert (target == 8).any() and (target == 13).any()
    found = adaptive_loss(hidden, softmax, target, pad=1, config=AdaptiveLossConfig())
    lprobs = np.asarray(adaptive.log_probs(softmax, hidden))
    head = np.asarray(jax.nn.log_softmax(softmax.head_logits(hidden)))
    expected = 0.0
    for row, column in zip(*np.nonzero(target != 1), strict=True):
        word = target[row, column]
        if word in (8, 13):
            expected -= head[row, column, 7 + (word == 13)]
        else:
            expected -= lprobs[row, column, word]
    np.testing.assert_allclose(found.sum, expected, rtol=1e-5)


def test_chunks_change_no_number(softmax, batch):
    hidden, target = batch

    def run(budget):
        def loss(hidden, projection):
            config = AdaptiveLossConfig(logits_budget=budget)
            return adaptive_loss(hidden, projection, target, pad=1, config=config).sum
        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(hidden, softmax)

    whole, pieces = run(1 << 20), run(40)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), whole, pieces)


def test_a_batch_without_rare_words_costs_no_tail(softmax):
    hidden = jnp.ones((2, 4, D))
    found = adaptive_loss(
        hidden, softmax, jnp.full((2, 4), 5), pad=1, config=AdaptiveLossConfig())
    lprobs = adaptive.log_probs(softmax, hidden)
    np.testing.assert_allclose(found.sum, -lprobs[..., 5].sum(), rtol=1e-5)


def test_tail_dropout_needs_a_key_and_depends_on_it(softmax, batch):
    hidden, target = batch

    def run(key):
        dropped = softmax.replace(key=key, dropout=0.5)
        return float(adaptive_loss(hidden, dropped, target, pad=1, config=AdaptiveLossConfig()).sum)

    assert run(None) == pytest.approx(run(None)) != run(jax.random.key(0))
    assert run(jax.random.key(0)) != run(jax.random.key(1))


def test_adaptive_input_gives_each_band_its_own_rows():
    module = adaptive.AdaptiveInput(ENDS, (8, 4, 2), D)
    ids = jnp.arange(20)[None]
    params = module.init(jax.random.key(0), ids)["params"]
    found = np.asarray(module.apply({"params": params}, ids))[0]
    table = adaptive.input_table(params, ENDS)
    for i, (start, end) in enumerate(zip((0, *ENDS), ENDS, strict=False)):
        np.testing.assert_allclose(
            found[start:end], np.asarray(table.rows[i] @ table.kernels[i]), atol=1e-6)
    np.testing.assert_allclose(adaptive.look_up(table, ids)[0], found, atol=1e-6)


def test_padding_is_not_learned_by_look_up():
    module = adaptive.AdaptiveInput(ENDS, (8, 4, 2), D)
    ids = jnp.array([[1, 3, 8, 13]])
    params = module.init(jax.random.key(0), ids)["params"]
    gradient = jax.grad(lambda p: module.apply({"params": p}, ids).sum())(params)
    assert not np.asarray(gradient["embeddings_0"]["embed"]["embedding"])[1].any()
    # The second word of the other bands is a word like any other.
    assert np.asarray(gradient["embeddings_1"]["embed"]["embedding"])[1].any()


def test_the_same_on_a_mesh(batch):
    """Rows over devices, words and widths over others; nothing changes but rounding."""
    from seqjax.config import MeshConfig
    from seqjax.training import sharding

    module = adaptive.AdaptiveSoftmax(D, (8, 12, 20), FACTOR, False, False)
    params = module.init(jax.random.key(1))["params"]
    hidden = np.concatenate([batch[0], batch[0][:1]])
    target = np.concatenate([batch[1], batch[1][:1]])

    def objective(params, hidden, target):
        projection = adaptive.output_projection(params, None, ends=(8, 12, 20))
        return adaptive_loss(
            hidden, projection, target, pad=1, config=AdaptiveLossConfig(logits_budget=200)).sum

    run = jax.jit(jax.value_and_grad(objective))
    expected = run(params, hidden, target)
    mesh = sharding.make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    placed = jax.device_put(params, sharding.shardings(params, mesh))
    rows = sharding.place({"hidden": hidden, "target": target}, mesh)
    found = run(placed, rows["hidden"], rows["target"])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), expected, found)
