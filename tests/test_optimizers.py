"""Optimizers against fairseq's update rules, written out one tensor at a time in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.config import ConfigError, OptimizerConfig
from seqjax.training.optimizers import make_optimizer

STEPS = 8
RATES = [0.1, 0.2, 0.0, 0.15, 0.1, 0.05, 0.02, 0.01]


def shapes():
    return {
        "embed": (5, 4),
        "bias": (6,),
        "layers": {"kernel": (3, 4, 6), "bias": (3, 6)},  # three layers
    }


def draw(rng):
    return jax.tree.map(
        lambda shape: rng.normal(size=shape).astype(np.float32), shapes(),
        is_leaf=lambda x: isinstance(x, tuple),
    )


def tensors(tree):
    """The tensors that fairseq would have: one per layer."""
    return [tree["embed"], tree["bias"], *tree["layers"]["kernel"], *tree["layers"]["bias"]]


def check(options, rule, *, rates=RATES, rtol=2e-5):
    rng = np.random.default_rng(0)
    params = draw(rng)
    optimizer = make_optimizer(OptimizerConfig(**options))
    reference = [(np.float64(p), {}) for p in tensors(params)]
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for t, lr in enumerate(rates, start=1):
        grads = draw(rng)
        params, state = update(grads, state, params, jnp.float32(lr))
        reference = [
            (rule(p, np.float64(g), memory, lr, t), memory)
            for (p, memory), g in zip(reference, tensors(grads), strict=True)
        ]
        for ours, (want, _) in zip(tensors(params), reference, strict=True):
            np.testing.assert_allclose(ours, want, rtol=rtol, atol=2e-6)
    assert int(state["count"]) == len(rates)


@pytest.mark.parametrize("eps", [1e-8, 0.5])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam(eps, decay):
    b1, b2 = 0.9, 0.98

    def rule(p, g, memory, lr, t):
        m = memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * g
        v = memory["v"] = b2 * memory.get("v", 0) + (1 - b2) * g * g
        p = p - lr * decay * p
        return p - lr * np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + eps)

    check(dict(adam_betas=(b1, b2), adam_eps=eps, weight_decay=decay), rule)


def test_adam_bias_correction_is_precise():
    optimizer = make_optimizer(OptimizerConfig(adam_betas=(0.9, 0.9999), adam_eps=0.0))
    params = {"w": jnp.zeros(1)}
    new, _ = optimizer.update({"w": jnp.full(1, 3.0)}, optimizer.init(params), params,
                              jnp.float32(1.0))
    np.testing.assert_allclose(new["w"], -1.0, rtol=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_nag(decay):
    mu = 0.9

    def rule(p, g, memory, lr, t):
        old = memory.get("lr", lr)
        correct = lr / old if old > 0 else lr
        buf = memory.get("buf", 0.0)
        p = p * (1 - lr * decay) + mu * mu * correct * buf - (1 + mu) * lr * g
        memory["buf"], memory["lr"] = mu * correct * buf - lr * g, lr
        return p

    check(dict(name="nag", momentum=mu, weight_decay=decay), rule)


@pytest.mark.parametrize("momentum", [None, 0.9])
def test_sgd(momentum):
    def rule(p, g, memory, lr, t):
        g = g + 0.1 * p
        if momentum:
            g = memory["buf"] = momentum * memory.get("buf", 0.0) + g
        return p - lr * g

    check(dict(name="sgd", momentum=momentum, weight_decay=0.1), rule)


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(beta1=0.9, weight_decay=0.1, clip_threshold=0.5),
        dict(scale_parameter=True),
        dict(relative_step=True, scale_parameter=True),
        dict(relative_step=True, warmup_init=True),
    ],
)
def test_adafactor(options):
    eps1, eps2 = 1e-30, 1e-3
    threshold, decay = options.get("clip_threshold", 1.0), options.get("weight_decay", 0.0)

    def rms(x):
        return np.sqrt(np.mean(x * x))

    def rule(p, g, memory, lr, t):
        if options.get("relative_step"):
            lr = min(1e-6 * t if options.get("warmup_init") else 1e-2, 1 / np.sqrt(t))
        if options.get("scale_parameter"):
            lr = lr * max(eps2, rms(p))
        beta2, square = 1 - t**-0.8, g * g + eps1
        if p.ndim == 2:
            row = memory["r"] = beta2 * memory.get("r", 0) + (1 - beta2) * square.mean(1)
            col = memory["c"] = beta2 * memory.get("c", 0) + (1 - beta2) * square.mean(0)
            step = g / np.sqrt(np.outer(row / row.mean(), col))
        else:
            v = memory["v"] = beta2 * memory.get("v", 0) + (1 - beta2) * square
            step = g / np.sqrt(v)
        step = lr * step / max(1.0, rms(step) / threshold)
        if "beta1" in options:
            b1 = options["beta1"]
            step = memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * step
        return p - lr * decay * p - step

    check(dict(name="adafactor", **options), rule)


@pytest.mark.parametrize("count", [1, 10**4, 10**6, 10**7])
def test_adafactor_weighs_new_squares_rightly_late_in_a_run(count):
    """1 - (1 - t**-0.8) in float32 would be 0.4% off after a million updates."""
    optimizer = make_optimizer(OptimizerConfig(name="adafactor"))
    params = {"w": jnp.ones((3,))}
    state = {**optimizer.init(params), "count": jnp.int32(count - 1)}
    _, state = optimizer.update({"w": jnp.full((3,), 2.0)}, state, params, jnp.float32(0.1))
    np.testing.assert_allclose(
        state["moments"]["w"]["exp_avg_sq"], 4 * float(count) ** -0.8, rtol=2e-6)


@pytest.mark.parametrize(
    ("options", "says"),
    [(dict(weight_decay=-1.0), "weight_decay"), (dict(adam_betas=(0.9, 1.0)), "adam_betas")],
)
def test_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        make_optimizer(OptimizerConfig(**options))
