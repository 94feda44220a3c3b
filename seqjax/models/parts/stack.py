"""Like layers one after the other: one layer's module in, a stack with its parameters on
axis 0 out."""

from __future__ import annotations

from typing import Any

import jax
from flax import linen as nn

from seqjax.models.parts.configs import RuntimeConfig


def stack(
    layer: type[nn.Module], runtime: RuntimeConfig, *, length: int, inputs: int, own: int = 0
) -> Any:
    """`layer` repeated `length` times with parameters stacked on axis 0.

    Args:
      runtime: says how much is unrolled and recomputed.
      inputs: number of further inputs, the same for every layer.
      own: number of inputs in front of those of which each layer has its own, on axis 0.
    """
    if runtime.remat != "none":
        policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
        layer = nn.remat(
            layer, policy=policy if runtime.remat == "dots" else None, prevent_cse=False
        )
    return nn.scan(
        layer, variable_axes={"params": 0}, split_rngs={"params": True, "dropout": True},
        in_axes=(0,) * own + (nn.broadcast,) * inputs,  # type: ignore[arg-type]
        length=length,
        unroll=runtime.scan_unroll or length,
    )
