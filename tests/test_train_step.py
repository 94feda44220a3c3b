"""The compiled update on a small softmax classifier: normalisation, clipping, accumulation,
the guard against non-finite gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.config import OptimizerConfig, ScheduleConfig
from seqjax.losses.base import COUNTS, LossOutput, Metric
from seqjax.training.optimizers import make_optimizer
from seqjax.training.schedules import make_schedule
from seqjax.training.state import new_state
from seqjax.training.train_step import (
    global_norm,
    loss_and_gradient,
    make_eval_step,
    make_train_step,
    sentence_average,
)

V, D = 11, 6


def init_params(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "embedding": jnp.asarray(rng.normal(size=(V, D)), jnp.float32),
        "kernel": jnp.asarray(rng.normal(size=(D, V)), jnp.float32),
    }


METRICS = {"loss": Metric(base2=True, like_loss=True), **COUNTS}


def loss_fn(params, extra, batch, rng, update):
    """Predict `target` from `source` at the same place; token 1 is padding."""
    hidden = params["embedding"][batch["source"]]
    if rng is not None:
        hidden = hidden * jax.random.bernoulli(rng, 0.5, hidden.shape) * 2
    lprobs = jax.nn.log_softmax(hidden @ params["kernel"])
    real = batch["target"] != 1
    nll = -jnp.take_along_axis(lprobs, batch["target"][..., None], axis=-1)[..., 0]
    total, count = jnp.sum(nll * real), jnp.sum(real)
    return LossOutput(sum=total, weight=count.astype(jnp.float32),
                      metrics={"loss": (total, count), "ntokens": (count, jnp.ones(())),
                               "nsentences": (jnp.sum(real.any(1)), jnp.ones(()))}), extra


def no_dropout(params, extra, batch, rng, update):
    return loss_fn(params, extra, batch, None, update)


def draw_batch(seed, *, G, B=4, T=5, pad=True):
    rng = np.random.default_rng(seed)
    batch = {k: rng.integers(2, V, (G, B, T)).astype(np.int32) for k in ("source", "target")}
    if pad:
        lengths = rng.integers(1, T + 1, (G, B))
        batch["target"] = np.where(np.arange(T) < lengths[..., None], batch["target"], 1)
    return batch


def flat(batch):
    """The same sentences as one micro-batch."""
    return {k: v.reshape(1, -1, v.shape[-1]) for k, v in batch.items()}


def build(loss=no_dropout, *, clip_norm=0.0, lr=0.1, seed=3, **options):
    optimizer = make_optimizer(OptimizerConfig(**options))
    schedule = make_schedule(ScheduleConfig(name="fixed", warmup_updates=0), lr=(lr,))
    step = make_train_step(loss, optimizer, schedule, seed=seed, clip_norm=clip_norm)
    return jax.jit(step), new_state(init_params(), optimizer)


def test_accumulation_equals_one_big_batch():
    batch, params = draw_batch(0, G=3), init_params()
    many, g_many, _ = jax.jit(lambda p, b: loss_and_gradient(no_dropout, p, {}, b, key=None))(
        params, batch)
    one, g_one, _ = loss_and_gradient(no_dropout, params, {}, flat(batch), key=None)
    np.testing.assert_allclose(many.sum, one.sum, rtol=1e-6)
    assert float(many.weight) == float(one.weight) == (batch["target"] != 1).sum()
    for a, b in zip(jax.tree.leaves(g_many), jax.tree.leaves(g_one), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert float(many.metrics["ntokens"][0]) == float(one.weight)


def test_gradient_is_divided_by_all_tokens_and_clipped_after():
    batch = draw_batch(1, G=2)
    _, summed, _ = loss_and_gradient(no_dropout, init_params(), {}, batch, key=None)
    mean = jax.tree.map(lambda g: g / (batch["target"] != 1).sum(), summed)
    norm = float(global_norm(mean))
    for limit in (0.0, norm / 3, norm * 3):
        step, state = build(name="sgd", clip_norm=limit, lr=1.0)
        new, metrics = step(state, batch, 1)
        factor = min(1.0, limit / (norm + 1e-6)) if limit else 1.0
        moved = jax.tree.map(lambda a, b: a - b, state.params, new.params)
        for a, g in zip(jax.tree.leaves(moved), jax.tree.leaves(mean), strict=True):
            np.testing.assert_allclose(a, factor * g, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(metrics["gnorm"][0], norm, rtol=1e-5)
        assert float(metrics["clip"][0]) == (0 < limit < norm)


def test_micro_batches_of_padding_change_nothing():
    batch = draw_batch(2, G=1)
    padded = {k: np.concatenate([v, np.full_like(v, 1)]) for k, v in batch.items()}
    step, state = build()
    a, _ = step(state, batch, 1)
    b, _ = step(state, padded, 1)
    for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7)


def test_normalised_by_sentences():
    batch = draw_batch(7, G=2)
    batch["target"][1, 0] = 1  # an empty row is no sentence
    tokens, sentences = (batch["target"] != 1).sum(), 7
    step, state = build(name="sgd", lr=1.0)
    by_sentence, _ = build(sentence_average(no_dropout, METRICS), name="sgd", lr=1.0)
    a, _ = step(state, batch, 1)
    b, metrics = by_sentence(state, batch, 1)
    assert float(metrics["loss"][1]) == sentences
    for p, x, y in zip(*map(jax.tree.leaves, (state.params, a.params, b.params)), strict=True):
        np.testing.assert_allclose((y - p) * sentences, (x - p) * tokens, rtol=1e-4, atol=1e-4)


def test_only_padding_is_no_gradient():
    batch = {k: np.full((1, 2, 3), 1, np.int32) for k in ("source", "target")}
    step, state = build()
    new, metrics = step(state, batch, 1)
    assert int(new.step) == 1 and float(metrics["gnorm"][0]) == 0.0
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(new.params))


def test_dropout_depends_on_seed_update_and_micro_batch():
    batch = draw_batch(3, G=1, pad=False)
    step, state = build(loss_fn)

    def loss_of(step, state, batch):
        return float(step(state, batch, 1)[1]["loss"][0])

    first = loss_of(step, state, batch)
    assert loss_of(step, state, batch) == first
    assert loss_of(step, state.replace(step=jnp.int32(1)), batch) != first
    assert loss_of(build(loss_fn, seed=4)[0], state, batch) != first
    twice = {k: np.concatenate([v, v]) for k, v in batch.items()}
    assert loss_of(step, state, twice) != pytest.approx(2 * first, rel=1e-3)


def test_non_finite_gradient_is_skipped_and_counted():
    step, state = build(name="adam", weight_decay=0.1)
    batch = draw_batch(4, G=1)
    state, _ = step(state, batch, 1)
    broken = state.replace(params={**state.params, "kernel": state.params["kernel"] * np.inf})
    new, metrics = step(broken, batch, 1)
    assert not np.isfinite(metrics["gnorm"][0])
    assert int(new.step) == 1 and int(new.skipped) == 1 and float(metrics["skipped"][0]) == 1
    for a, b in zip(jax.tree.leaves(new.opt_state), jax.tree.leaves(broken.opt_state), strict=True):
        np.testing.assert_array_equal(a, b)
    again, metrics = step(new, batch, 1)
    assert int(again.skipped) == 2
    good, _ = step(again.replace(params=state.params), batch, 1)
    assert int(good.step) == 2 and int(good.skipped) == 0


def test_metrics_give_the_rate_of_the_next_update():
    optimizer = make_optimizer(OptimizerConfig())
    schedule = make_schedule(ScheduleConfig(warmup_updates=10), lr=(1.0,))
    step = make_train_step(no_dropout, optimizer, schedule, seed=1)
    new, metrics = jax.jit(step)(new_state(init_params(), optimizer), draw_batch(5, G=1), 1)
    np.testing.assert_allclose(metrics["lr"][0], 0.1, rtol=1e-6)
    assert float(metrics["num_updates"][0]) == 1 == int(new.step)
    # The rate of the first update was 0.
    for a, b in zip(jax.tree.leaves(new.params), jax.tree.leaves(init_params()), strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_learns_and_evaluation_has_no_dropout():
    step, state = build(loss_fn, lr=0.05)
    batch = draw_batch(6, G=2)
    evaluate = jax.jit(make_eval_step(loss_fn))
    micro = {k: v[0] for k, v in batch.items()}
    before = evaluate(state.params, {}, micro, 0)["loss"]
    for _ in range(60):
        state, _ = step(state, batch, 1)
    after = evaluate(state.params, {}, micro, 0)["loss"]
    assert float(after[0]) < 0.6 * float(before[0])
    assert float(after[0]) == float(evaluate(state.params, {}, micro, 0)["loss"][0])
