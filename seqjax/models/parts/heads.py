"""Classification heads: one state of a sentence in, logits of its classes out.

fairseq's `RobertaClassificationHead` and `BARTClassificationHead`: dropout, a matrix, an
activation, dropout, a matrix. Which state they are given is the family's matter. Parameters
stand under `classification_heads/NAME/{dense,out_proj}`, beside the rest of the model's.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from seqjax.models.parts.heads_config import HEADS, ClassificationHeadsConfig
from seqjax.models.parts.layers import Linear, activation, dropout, dropout_key
from seqjax.models.protocol import Params


class ClassificationHead(nn.Module):
    """One head: parameters, and logits from states."""

    config: ClassificationHeadsConfig
    width: int
    """Of the states that it reads."""
    inner: int
    classes: int
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        self.dense = Linear(self.width, self.inner, dtype=self.dtype)
        self.out_proj = Linear(self.inner, self.classes, dtype=self.dtype)

    def __call__(self, states: jax.Array) -> jax.Array:
        """Float32 logits [B, C] from states [B, D]."""
        rate = self.config.pooler_dropout
        x = self.dense(dropout(states, rate, dropout_key(self)))
        x = activation(self.config.pooler_activation_fn)(x)
        return self.out_proj(dropout(x, rate, dropout_key(self))).astype(jnp.float32)


def _head(
    config: ClassificationHeadsConfig, name: str, *, width: int, dtype: DTypeLike = jnp.float32
) -> ClassificationHead:
    return ClassificationHead(
        config=config, width=width, inner=config.inner_dim(name, width=width),
        classes=config.classification_heads[name], dtype=dtype)


def with_fresh_heads(
    params: Params, config: ClassificationHeadsConfig, rng: jax.Array, *, width: int
) -> Params:
    """A model's parameters and those of new heads: begun as torch begins a linear layer, since
    fairseq registers heads behind what `init_bert_params` goes over.

    Args:
      width: of the states that they read.
    """
    heads = {}
    # By its own key each, so that a head begins alike whatever others there are.
    for name in config.classification_heads:
        key = rng
        for letter in name.encode():
            key = jax.random.fold_in(key, letter)
        module = _head(config, name, width=width)
        heads[name] = module.init({"params": key}, jnp.zeros((1, width)))["params"]
    return {**params, HEADS: heads} if heads else params


def logits(
    config: ClassificationHeadsConfig, params: Params, name: str, states: jax.Array,
    rng: jax.Array | None,
) -> jax.Array:
    """Float32 logits [B, C] of the head `name` from states [B, D], in the type of the states.

    Args:
      rng: key of dropout (None: none).

    Raises:
      ValueError: there is no such head.
    """
    if name not in config.classification_heads:
        raise ValueError(missing(name, config))
    module = _head(config, name, width=states.shape[-1], dtype=states.dtype)
    rngs = None if rng is None else {"dropout": rng}
    found: jax.Array = module.apply({"params": params[HEADS][name]}, states, rngs=rngs)  # type: ignore[assignment]
    return found


def missing(name: str, config: ClassificationHeadsConfig) -> str:
    """What is said where there is no head of that name."""
    there = ", ".join(config.classification_heads) or "none"
    return f"there is no classification head {name!r}; the model has: {there}"


def carried(params: Params, fresh: Mapping[str, Params]) -> tuple[Params, list[str]]:
    """Weights to start from, with the heads of this run: those of the same name and size stay,
    others are new, and what the run has no head for is left out, as in fairseq.

    Args:
      params: of another run.
      fresh: new heads of this run, by name; arrays.

    Returns:
      Parameters, and a line on what was done (none where there was nothing to do).
    """
    there: Mapping[str, Params] = params.get(HEADS, {})
    rest = {key: value for key, value in params.items() if key != HEADS}
    same = {name for name, head in fresh.items() if name in there
            and jax.tree.map(jnp.shape, there[name]) == jax.tree.map(jnp.shape, head)}
    said = {
        "new": [name for name in fresh if name not in there],
        "begun anew, as their sizes differ": [
            f"{name} ({_size(there[name])} there, {_size(fresh[name])} here)"
            for name in fresh if name in there and name not in same],
        "left out": [name for name in there if name not in fresh]}
    parts = [f"{what}: {', '.join(names)}" for what, names in said.items() if names]
    if fresh:
        rest[HEADS] = {name: there[name] if name in same else head
                       for name, head in fresh.items()}
    return rest, ["classification heads " + "; ".join(parts)] if parts else []


def _size(head: Params) -> str:
    inner, classes = jnp.shape(head["out_proj"]["kernel"])
    return f"{classes} classes of {inner}"
