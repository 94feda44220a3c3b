"""Like layers one after the other: one layer's module in, a stack with its parameters on
axis 0 out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from seqjax.models.parts.configs import RuntimeConfig
from seqjax.models.protocol import Params


class Layer(nn.Module):
    """One layer of a stack: called with its input and what is the same for all layers, it gives
    its output and what else it tells of (or None)."""

    def kept(self, x: jax.Array, *inputs: Any) -> tuple[jax.Array, jax.Array]:
        """Its output twice: for the next layer, and to be kept (`hidden_states`)."""
        out, _ = self(x, *inputs)  # type: ignore[misc]
        return out, out


def hidden_states(layers: Any, x: jax.Array, *inputs: Any) -> jax.Array:
    """States between the layers of a `stack` of `Layer`s.

    Returns:
      [L + 1, B, T, D]: the first layer's input, then the output of every layer.
    """
    _, outputs = layers.kept(x, *inputs)
    return jnp.concatenate([x[None], outputs])


def stack(
    layer: type[nn.Module], runtime: RuntimeConfig, *, length: int, inputs: int, own: int = 0,
    methods: tuple[str, ...] = (),
) -> Any:
    """`layer` repeated `length` times with parameters stacked on axis 0.

    Args:
      runtime: says how much is unrolled and recomputed.
      inputs: number of further inputs, the same for every layer.
      own: number of inputs in front of those of which each layer has its own, on axis 0.
      methods: further ones of `layer` that the stack has.
    """
    if runtime.remat != "none":
        policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
        layer = nn.remat(
            layer, policy=policy if runtime.remat == "dots" else None, prevent_cse=False
        )
    return nn.scan(
        layer, methods=["__call__", *(["kept"] if issubclass(layer, Layer) else []), *methods],
        variable_axes={"params": 0}, split_rngs={"params": True, "dropout": True},
        in_axes=(0,) * own + (nn.broadcast,) * inputs,  # type: ignore[arg-type]
        length=length,
        unroll=runtime.scan_unroll or length,
    )


@struct.dataclass
class _Apart:
    """A stack of arrays, taken apart."""

    arrays: tuple[jax.Array, ...]


def layers_apart(params: Params) -> Params:
    """Parameters with an array for each layer in the place of stacks.

    On a CPU a product copies its slice of a stack before it reads it, at every call. Passes that
    are called often are therefore compiled for these, and stack them (`layers_stacked`): a slice
    of arrays that are stacked where it is compiled is the array itself.
    """
    return _with_layers(params, jax.jit(
        lambda stacked: jax.tree.map(lambda a: _Apart(arrays=tuple(a)), stacked)))


def layers_stacked(params: Params) -> Params:
    """What `layers_apart` took apart, if it did."""
    return _with_layers(params, lambda layers: jax.tree.map(
        lambda x: jnp.stack(x.arrays) if isinstance(x, _Apart) else x, layers,
        is_leaf=lambda x: isinstance(x, _Apart)))


def _with_layers(params: Params, change: Callable[[Params], Params]) -> Params:
    """`change` applied to every `layers` in nested parameters."""
    if not isinstance(params, Mapping):
        return params
    return {name: change(part) if name == "layers" else _with_layers(part, change)
            for name, part in params.items()}
