"""What training carries from update to update, as one pytree."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from seqjax.models.protocol import Extra, Params
from seqjax.training.optimizers import Optimizer, OptState


@struct.dataclass
class TrainState:
    """Everything on the devices that the next update depends on."""

    step: jax.Array
    """int32 []: updates applied (fairseq's num_updates)."""
    skipped: jax.Array
    """int32 []: updates skipped in a row, up to now, for a non-finite gradient."""
    params: Params
    """Float32 parameters."""
    opt_state: OptState
    """The optimizer's own (`seqjax.training.optimizers`)."""
    extra: Extra = struct.field(default_factory=dict)
    """What a model keeps that is neither: an EMA teacher, batch statistics. {} of a model
    without `init_extra` (`models.protocol.Stateful`)."""


def new_state(
    params: Params, optimizer: Optimizer, *, step: int = 0, extra: Extra = None
) -> TrainState:
    """A state with a fresh optimizer. Works under jit and `jax.eval_shape`.

    Args:
      extra: see `TrainState` (None: there is none).
    """
    return TrainState(
        step=jnp.asarray(step, jnp.int32),
        skipped=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        extra={} if extra is None else extra,
    )
