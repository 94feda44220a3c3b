"""Optimizers with fairseq's arithmetic, as pure functions over pytrees.

State goes in and comes out; the learning rate is an argument of every update. Leaves
under a `layers` key are stacks of like layers on axis 0: what an optimizer computes per
tensor (adafactor) is computed per layer there.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from seqjax.config import ConfigError, OptimizerConfig
from seqjax.models.protocol import Params

OptState = dict[str, Any]
"""`count` int32 updates applied, and trees shaped like the parameters, under fairseq's
names (`exp_avg`, `exp_avg_sq`, `momentum_buffer`, ...)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    """A pair of pure functions."""

    init: Callable[[Params], OptState]
    """Fresh state for float32 parameters."""
    update: Callable[[Params, OptState, Params, jax.Array], tuple[Params, OptState]]
    """(gradients, state, parameters, lr) -> (new parameters, new state)."""


def make_optimizer(config: OptimizerConfig) -> Optimizer:
    """The optimizer that `config` names.

    Raises:
      ConfigError: a value outside its range.
    """
    if config.weight_decay < 0:
        raise ConfigError(f"config.optimizer.weight_decay: {config.weight_decay} is negative")
    makers = {"adam": _adam, "nag": _nag, "adafactor": _adafactor, "sgd": _sgd}
    return makers[config.name](config)


def _zeros(params: Params) -> Params:
    return jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)


def _unzip(tree: Any, like: Params, n: int) -> tuple[Any, ...]:
    """A tree of n-tuples at `like`'s leaves as n trees."""
    leaves = jax.tree.structure(like).flatten_up_to(tree)
    return tuple(jax.tree.unflatten(jax.tree.structure(like), [x[i] for x in leaves])
                 for i in range(n))


def _one_minus_power(beta: float, count: jax.Array) -> jax.Array:
    """1 - beta**count without the cancellation that float32 has near beta = 1."""
    if beta == 0.0:
        return jnp.ones((), jnp.float32)
    return -jnp.expm1(count.astype(jnp.float32) * math.log(beta))


def _adam(config: OptimizerConfig) -> Optimizer:
    """Adam (Kingma and Ba 2015) as fairseq has it: epsilon joins sqrt(v) before the bias
    correction, and weight decay is decoupled: p -= lr * wd * p."""
    beta1, beta2 = config.adam_betas
    eps, decay = config.adam_eps, config.weight_decay
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1):
        raise ConfigError(f"config.optimizer.adam_betas: {config.adam_betas}; both lie in [0, 1)")

    def init(params: Params) -> OptState:
        return {"count": jnp.zeros((), jnp.int32),
                "exp_avg": _zeros(params), "exp_avg_sq": _zeros(params)}

    def update(grads, state, params, lr):
        count = state["count"] + 1
        size = lr * jnp.sqrt(_one_minus_power(beta2, count)) / _one_minus_power(beta1, count)

        def leaf(g, m, v, p):
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * jnp.square(g)
            kept = p - (lr * decay) * p if decay else p
            return kept - size * (m / (jnp.sqrt(v) + eps)), m, v

        new = jax.tree.map(leaf, grads, state["exp_avg"], state["exp_avg_sq"], params)
        params, m, v = _unzip(new, params, 3)
        return params, {"count": count, "exp_avg": m, "exp_avg_sq": v}

    return Optimizer(init=init, update=update)


def _nag(config: OptimizerConfig) -> Optimizer:
    """Nesterov's momentum in fairseq's form: the velocity holds the rate and is rescaled
    by lr / lr_old when the rate changes; decoupled weight decay."""
    momentum = 0.99 if config.momentum is None else config.momentum
    decay = config.weight_decay

    def init(params: Params) -> OptState:
        return {"count": jnp.zeros((), jnp.int32), "lr_old": jnp.zeros((), jnp.float32),
                "momentum_buffer": _zeros(params)}

    def update(grads, state, params, lr):
        lr = jnp.asarray(lr, jnp.float32)
        old = jnp.where(state["count"] == 0, lr, state["lr_old"])
        # fairseq's fallback after a rate of 0 is the rate itself, not 1.
        correct = jnp.where(old > 0, lr / jnp.where(old > 0, old, 1.0), lr)

        def leaf(g, velocity, p):
            kept = p * (1 - lr * decay) if decay else p
            moved = kept + (momentum * momentum * correct) * velocity - ((1 + momentum) * lr) * g
            return moved, (momentum * correct) * velocity - lr * g

        new = jax.tree.map(leaf, grads, state["momentum_buffer"], params)
        params, velocity = _unzip(new, params, 2)
        return params, {"count": state["count"] + 1, "lr_old": lr, "momentum_buffer": velocity}

    return Optimizer(init=init, update=update)


def _sgd(config: OptimizerConfig) -> Optimizer:
    """torch's SGD, which fairseq's `sgd` is: weight decay is added to the gradient."""
    momentum = config.momentum or 0.0
    decay = config.weight_decay

    def init(params: Params) -> OptState:
        state: OptState = {"count": jnp.zeros((), jnp.int32)}
        if momentum:
            state["momentum_buffer"] = _zeros(params)
        return state

    def update(grads, state, params, lr):
        count = state["count"] + 1
        if decay:
            grads = jax.tree.map(lambda g, p: g + decay * p, grads, params)
        if not momentum:
            return jax.tree.map(lambda p, g: p - lr * g, params, grads), {"count": count}
        velocity = jax.tree.map(lambda v, g: momentum * v + g, state["momentum_buffer"], grads)
        params = jax.tree.map(lambda p, v: p - lr * v, params, velocity)
        return params, {"count": count, "momentum_buffer": velocity}

    return Optimizer(init=init, update=update)


def _stacked(path: tuple[Any, ...]) -> bool:
    """Whether a leaf holds one slice per layer on axis 0."""
    return any(getattr(key, "key", None) == "layers" for key in path)


def _rms(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.mean(jnp.square(x)))


def _factored_moments(
    path: tuple[Any, ...], p: jax.Array, *, first: bool
) -> dict[str, jax.Array]:
    """Adafactor's fresh moments of one tensor; `first`: with a first moment."""
    state: dict[str, jax.Array] = {}
    if p.ndim - _stacked(path) >= 2:
        state["exp_avg_sq_row"] = jnp.zeros(p.shape[:-1], jnp.float32)
        state["exp_avg_sq_col"] = jnp.zeros((*p.shape[:-2], p.shape[-1]), jnp.float32)
    else:
        state["exp_avg_sq"] = jnp.zeros(p.shape, jnp.float32)
    if first:
        state["exp_avg"] = jnp.zeros(p.shape, jnp.float32)
    return state


def _adafactor(config: OptimizerConfig) -> Optimizer:
    """Adafactor (Shazeer and Stern 2018) as fairseq has it. The second moment of a tensor
    of two or more axes is kept as row and column means over the last two."""
    eps1, eps2 = config.adafactor_eps
    beta1, decay = config.beta1, config.weight_decay

    def init(params: Params) -> OptState:
        moments = functools.partial(_factored_moments, first=beta1 is not None)
        return {"count": jnp.zeros((), jnp.int32),
                "moments": jax.tree_util.tree_map_with_path(moments, params)}

    def tensor(g, state, p, lr, share):
        beta2 = 1.0 - share
        if config.scale_parameter:
            lr = lr * jnp.maximum(eps2, _rms(p))
        square, new = jnp.square(g) + eps1, {}
        if "exp_avg_sq" in state:
            v = new["exp_avg_sq"] = beta2 * state["exp_avg_sq"] + share * square
            step = g * jax.lax.rsqrt(v)
        else:
            row = beta2 * state["exp_avg_sq_row"] + share * square.mean(-1)
            col = beta2 * state["exp_avg_sq_col"] + share * square.mean(-2)
            new["exp_avg_sq_row"], new["exp_avg_sq_col"] = row, col
            rows = jax.lax.rsqrt(row / row.mean(-1, keepdims=True))
            step = g * rows[..., None] * jax.lax.rsqrt(col)[..., None, :]
        step = lr * step / jnp.maximum(1.0, _rms(step) / config.clip_threshold)
        if beta1 is not None:
            step = new["exp_avg"] = beta1 * state["exp_avg"] + (1 - beta1) * step
        kept = p - (lr * decay) * p if decay else p
        return kept - step, new

    def update(grads, state, params, lr):
        count = state["count"] + 1
        step = count.astype(jnp.float32)
        # What a new square weighs; as 1 - beta2 it would keep few digits late in a run.
        share = step**config.decay_rate
        if config.relative_step:
            least = 1e-6 * step if config.warmup_init else 1e-2
            lr = jnp.minimum(least, jax.lax.rsqrt(step))

        def leaf(path, g, p, moment):
            if _stacked(path):
                return jax.vmap(tensor, in_axes=(0, 0, 0, None, None))(g, moment, p, lr, share)
            return tensor(g, moment, p, lr, share)

        new = jax.tree_util.tree_map_with_path(leaf, grads, params, state["moments"])
        params, new_moments = _unzip(new, params, 2)
        return params, {"count": count, "moments": new_moments}

    return Optimizer(init=init, update=update)
