"""One update: gradients over micro-batches, clipping, the optimizer; and one evaluation.

Pure functions of (state, batch), to be jitted by the caller over whatever mesh it has.
Sums are divided once, over the global batch, as fairseq does. It knows no model or task
beyond a loss function, and no files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from seqjax.losses.base import LossOutput, add
from seqjax.losses.rows import split_rows
from seqjax.models.parts.position_split import positions_split
from seqjax.training import sharding
from seqjax.training.optimizers import Optimizer
from seqjax.training.schedules import Schedule
from seqjax.training.state import TrainState

Arrays = dict[str, Any]
Metrics = dict[str, tuple[jax.Array, jax.Array]]
"""Name -> (sum, weight), float32 scalars."""
LossFn = Callable[[Any, Arrays, jax.Array | None], LossOutput]
"""(params, micro-batch of [B, ...] arrays, rng or None for no dropout) -> LossOutput."""


def sentence_average(loss_fn: LossFn) -> LossFn:
    """`loss_fn` normalised by sentences instead of tokens (fairseq's `--sentence-avg`)."""

    def averaged(params: Any, batch: Arrays, rng: jax.Array | None) -> LossOutput:
        output = loss_fn(params, batch, rng)
        sentences = output.metrics["nsentences"][0]
        metrics = {**output.metrics, **{
            name: (output.metrics[name][0], sentences)
            for name in ("loss", "alignment_loss") if name in output.metrics}}
        return LossOutput(sum=output.sum, weight=sentences, metrics=metrics)

    return averaged


def global_norm(tree: Any) -> jax.Array:
    """L2 norm over all leaves, float32."""
    squares = [jnp.sum(jnp.square(x.astype(jnp.float32))) for x in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares, jnp.zeros((), jnp.float32)))


def loss_and_gradient(
    loss_fn: LossFn, params: Any, batch: Arrays, key: jax.Array | None
) -> tuple[LossOutput, Any]:
    """Loss and gradient of `loss.sum`, added up over the micro-batches of one update.

    Args:
      batch: arrays [G, B, ...]; micro-batch g gets the key `fold_in(key, g)`.
      key: of this update (None: no dropout).
    """

    def micro(arrays: Arrays, index: jax.Array) -> tuple[LossOutput, Any]:
        rng = None if key is None else jax.random.fold_in(key, index)

        def objective(params: Any) -> tuple[jax.Array, LossOutput]:
            output = _on_mesh(loss_fn, params, arrays, rng)
            return output.sum, output

        gradient, output = jax.grad(objective, has_aux=True)(params)
        return output, gradient

    count = jax.tree.leaves(batch)[0].shape[0]
    first = jax.tree.map(lambda x: x[0], batch)
    if count == 1:
        return micro(first, jnp.zeros((), jnp.int32))

    def body(carry: tuple[LossOutput, Any], x: tuple[Arrays, jax.Array]) -> Any:
        output, gradient = micro(*x)
        return (add(carry[0], output), jax.tree.map(jnp.add, carry[1], gradient)), None

    shapes = jax.eval_shape(micro, first, jnp.zeros((), jnp.int32))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    (output, gradient), _ = jax.lax.scan(body, zeros, (batch, jnp.arange(count)))
    return output, gradient


def make_train_step(
    loss_fn: LossFn,
    optimizer: Optimizer,
    schedule: Schedule,
    *,
    seed: int,
    clip_norm: float = 0.0,
) -> Callable[[TrainState, Arrays, Any], tuple[TrainState, Metrics]]:
    """The function (state, batch of [G, B, ...] arrays, epoch) -> (new state, metrics).

    The gradient is the sum over micro-batches of grad(loss.sum), divided once by the sum
    of the weights, then clipped by min(1, clip_norm / (norm + 1e-6)). An update whose
    gradient is not finite leaves the state as it was, but for `skipped`.

    Beside the loss's own metrics there are `gnorm` (before clipping), `clip` (1 if
    clipped), `lr` (of the next update, which is what fairseq logs), `skipped` and
    `num_updates`.
    """

    def train_step(state: TrainState, batch: Arrays, epoch: Any) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), state.step)
        loss, gradient = loss_and_gradient(loss_fn, state.params, batch, key)
        weight = jnp.where(loss.weight > 0, loss.weight, 1).astype(jnp.float32)
        gradient = jax.tree.map(lambda g: g / weight, gradient)
        norm = global_norm(gradient)
        rate = schedule(state.step, epoch)

        def update(gradient: Any, opt_state: Any, params: Any) -> tuple[Any, Any]:
            if clip_norm > 0:
                factor = jnp.minimum(1.0, clip_norm / (norm + 1e-6))
                gradient = jax.tree.map(lambda g: g * factor, gradient)
            return optimizer.update(gradient, opt_state, params, rate)

        # A branch: what it copies of the state is copied then, not kept from the beginning.
        finite = jnp.isfinite(norm)
        params, opt_state = jax.lax.cond(
            finite, update, lambda gradient, opt_state, params: (params, opt_state),
            gradient, state.opt_state, state.params,
        )
        new = TrainState(
            step=state.step + finite,
            skipped=jnp.where(finite, 0, state.skipped + 1),
            params=params,
            opt_state=opt_state,
        )
        one = jnp.ones((), jnp.float32)
        clipped = norm > clip_norm if clip_norm > 0 else jnp.zeros((), bool)
        metrics = {
            **loss.metrics,
            "gnorm": (norm, one),
            "clip": (clipped, one),
            "lr": (schedule(new.step, epoch), one),
            "skipped": (new.skipped, one),
            "num_updates": (new.step, one),
        }
        return new, _scalars(metrics)

    return train_step


def make_eval_step(loss_fn: LossFn) -> Callable[[Any, Arrays], Metrics]:
    """The function (params, batch of [B, ...] arrays) -> the loss's metrics, no dropout."""

    def eval_step(params: Any, batch: Arrays) -> Metrics:
        return _scalars(_on_mesh(loss_fn, params, batch, None).metrics)

    return eval_step


def _on_mesh(loss_fn: LossFn, params: Any, batch: Arrays, rng: jax.Array | None) -> LossOutput:
    """The loss, computed where the rows of the batch are (one device included)."""
    mesh = sharding.mesh_of(batch)
    used = sharding.gathered(params, mesh)
    rows, positions = sharding.row_split(mesh, params, used), sharding.position_split(mesh)
    with split_rows(rows), positions_split(positions):
        return loss_fn(used, batch, rng)


def _scalars(metrics: dict[str, Any]) -> Metrics:
    return jax.tree.map(lambda x: jnp.asarray(x).astype(jnp.float32), metrics)
