"""One update: gradients over micro-batches, clipping, the optimizer; and one evaluation.

Pure functions of (state, batch), to be jitted by the caller over whatever mesh it has.
Sums are divided once, over the global batch, as fairseq does. Of models, tasks and losses it
is given one function, a `LossFn`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from seqjax.losses.base import LossOutput, Metric, add
from seqjax.losses.rows import split_rows
from seqjax.models.parts.position_split import positions_split
from seqjax.models.protocol import Extra, Params
from seqjax.training import sharding
from seqjax.training.optimizers import Optimizer, OptState
from seqjax.training.schedules import Schedule
from seqjax.training.state import TrainState

Arrays = Mapping[str, jax.Array]
"""A batch, by name."""
Count = jax.Array | int
"""int32 scalar."""
Metrics = dict[str, tuple[jax.Array, jax.Array]]
"""Name -> (sum, weight), float32 scalars."""
LossFn = Callable[
    [Params, Extra, Arrays, jax.Array | None, jax.Array], tuple[LossOutput, Extra]]
"""(params, extra, micro-batch of [B, ...] arrays, rng, update) -> (LossOutput, new extra).

extra: `TrainState.extra` as it is before this micro-batch.
rng: key of dropout, or None in an evaluation: no dropout, and the new extra is not kept.
update: int32 scalar, fairseq's num_updates: updates applied before this one."""
Settled = Callable[..., Params]
"""`models.protocol.Settling.settled` of a model."""

METRICS: dict[str, Metric] = {
    "gnorm": Metric(),
    "clip": Metric(percent=True, format="{:.1f}"),
    "lr": Metric(format="{:.6g}"),
    "skipped": Metric(),
    "num_updates": Metric(format="{:.0f}"),
}
"""What an update gives beside the metrics of its loss: they are its own, not its tokens'."""


def sentence_average(loss_fn: LossFn, metrics: Mapping[str, Metric]) -> LossFn:
    """`loss_fn` normalised by sentences instead of tokens (fairseq's `--sentence-avg`).

    Args:
      metrics: those of the loss; the ones that are `like_loss` are normalised so, too.
    """

    def averaged(
        params: Params, extra: Extra, batch: Arrays, rng: jax.Array | None, update: jax.Array
    ) -> tuple[LossOutput, Extra]:
        output, extra = loss_fn(params, extra, batch, rng, update)
        sentences = output.metrics["nsentences"][0]
        found = {name: (value[0], sentences) if metrics[name].like_loss else value
                 for name, value in output.metrics.items()}
        return LossOutput(sum=output.sum, weight=sentences, metrics=found), extra

    return averaged


def global_norm(tree: sharding.Tree) -> jax.Array:
    """L2 norm over all leaves, float32."""
    squares = [jnp.sum(jnp.square(x.astype(jnp.float32))) for x in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares, jnp.zeros((), jnp.float32)))


def loss_and_gradient(
    loss_fn: LossFn, params: Params, extra: Extra, batch: Arrays, *, key: jax.Array | None,
    update: Count = 0,
) -> tuple[LossOutput, Params, Extra]:
    """Loss and gradient of `loss.sum`, added up over the micro-batches of one update.

    Args:
      extra: state beside the parameters; each micro-batch gets what the one before it left.
      batch: arrays [G, B, ...]; micro-batch g gets the key `fold_in(key, g)`.
      key: of this update (None: no dropout).
      update: int32 scalar, updates applied before this one.

    Returns:
      The loss, its gradient, and the last micro-batch's extra.
    """
    update = jnp.asarray(update, jnp.int32)

    def micro(extra: Extra, arrays: Arrays, index: jax.Array) -> tuple[LossOutput, Params, Extra]:
        rng = None if key is None else jax.random.fold_in(key, index)

        def objective(params: Params) -> tuple[jax.Array, tuple[LossOutput, Extra]]:
            output, new = _on_mesh(loss_fn, params, extra, arrays, rng=rng, update=update)
            return output.sum, (output, new)

        gradient, (output, new) = jax.grad(objective, has_aux=True)(params)
        return output, gradient, new

    count = jax.tree.leaves(batch)[0].shape[0]
    first = jax.tree.map(lambda x: x[0], batch)
    if count == 1:
        return micro(extra, first, jnp.zeros((), jnp.int32))

    def body(carry: tuple[LossOutput, Params, Extra], x: tuple[Arrays, jax.Array]) -> Any:
        output, gradient, new = micro(carry[2], *x)
        return (add(carry[0], output), jax.tree.map(jnp.add, carry[1], gradient), new), None

    shapes = jax.eval_shape(micro, extra, first, jnp.zeros((), jnp.int32))[:2]
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return jax.lax.scan(body, (*zeros, extra), (batch, jnp.arange(count)))[0]


def make_train_step(
    loss_fn: LossFn, optimizer: Optimizer, schedule: Schedule, *, seed: int,
    clip_norm: float = 0.0, settled: Settled | None = None,
) -> Callable[[TrainState, Arrays, Count], tuple[TrainState, Metrics]]:
    """The function (state, batch of [G, B, ...] arrays, epoch) -> (new state, metrics).

    The gradient is the sum over micro-batches of grad(loss.sum), divided once by the sum
    of the weights, then clipped by min(1, clip_norm / (norm + 1e-6)). An update whose
    gradient is not finite leaves the state as it was, but for `skipped`. `settled` is the model's
    (`models.protocol.Settling`), if it has parameters that are not the optimizer's alone.

    Beside the loss's own metrics there are `METRICS`: `gnorm` (before clipping), `clip` (1 if
    clipped), `lr` (of the next update, which is what fairseq logs), `skipped` and
    `num_updates`.
    """

    def train_step(state: TrainState, batch: Arrays, epoch: Count) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), state.step)
        loss, gradient, extra = loss_and_gradient(
            loss_fn, state.params, state.extra, batch, key=key, update=state.step)
        weight = jnp.where(loss.weight > 0, loss.weight, 1).astype(jnp.float32)
        gradient = jax.tree.map(lambda g: g / weight, gradient)
        norm = global_norm(gradient)
        rate = schedule(state.step, epoch)

        def update(
            gradient: Params, extra: Extra, opt_state: OptState, params: Params, _: Any
        ) -> tuple[Params, OptState, Extra]:
            if clip_norm > 0:
                factor = jnp.minimum(1.0, clip_norm / (norm + 1e-6))
                gradient = jax.tree.map(lambda g: g * factor, gradient)
            new, opt_state = optimizer.update(gradient, opt_state, params, rate)
            if settled is not None:
                new = settled(new, extra, before=params, update=state.step)
            return new, opt_state, extra

        # A branch: what it copies of the state is copied then, not kept from the start.
        finite = jnp.isfinite(norm)
        params, opt_state, extra = jax.lax.cond(
            finite, update, lambda _gradient, _extra, *kept: (kept[1], kept[0], kept[2]),
            gradient, extra, state.opt_state, state.params, state.extra)
        new = TrainState(
            step=state.step + finite, skipped=jnp.where(finite, 0, state.skipped + 1),
            params=params, opt_state=opt_state, extra=extra)
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


def make_eval_step(loss_fn: LossFn) -> Callable[[Params, Extra, Arrays, Count], Metrics]:
    """The function (params, extra, batch of [B, ...] arrays, update) -> the loss's metrics, no
    dropout."""

    def eval_step(params: Params, extra: Extra, batch: Arrays, update: Count) -> Metrics:
        update = jnp.asarray(update, jnp.int32)
        return _scalars(_on_mesh(
            loss_fn, params, extra, batch, rng=None, update=update)[0].metrics)

    return eval_step


def _on_mesh(
    loss_fn: LossFn, params: Params, extra: Extra, batch: Arrays, *, rng: jax.Array | None,
    update: jax.Array,
) -> tuple[LossOutput, Extra]:
    """The loss, computed where the rows of the batch are (one device included)."""
    mesh = sharding.mesh_of(batch)
    used = sharding.gathered(params, mesh)
    rows, positions = sharding.row_split(mesh, params, used), sharding.position_split(mesh)
    with split_rows(rows), positions_split(positions):
        output, new = loss_fn(used, sharding.gathered(extra, mesh), batch, rng, update)
    _check_same(extra, new)
    return output, sharding.stored(new, mesh)


def _check_same(before: Extra, after: Extra) -> None:
    """Refuses a state beside the parameters that changes its form."""

    def form(tree: Extra) -> dict[str, tuple[tuple[int, ...], Any]]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {sharding.path_name(path): (jnp.shape(x), jnp.result_type(x)) for path, x in leaves}

    a, b = form(before), form(after)
    differing = [f"{name}: {a.get(name, 'absent')} before, {b.get(name, 'absent')} after"
                 for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)]
    if differing:
        raise ValueError("the model's forward pass returns another `extra` than it was given: "
                         + "; ".join(differing))


def _scalars(metrics: dict[str, Any]) -> Metrics:
    return jax.tree.map(lambda x: jnp.asarray(x).astype(jnp.float32), metrics)
