"""Classification heads: one state of a sentence in, logits of its classes out.

fairseq's `RobertaClassificationHead` and `BARTClassificationHead`: dropout, a matrix, an
activation, dropout, a matrix. Which state they are given is the family's matter. Parameters
stand under `classification_heads/NAME/{dense,out_proj}`, beside the rest of the model's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from seqjax.models.parts.heads_config import HEADS, ClassificationHeadsConfig
from seqjax.models.parts.layers import activation, dropout, fan_in_uniform, linear
from seqjax.models.parts.parameters import Param, initialise
from seqjax.models.protocol import Params


def with_fresh_heads(
    params: Mapping[str, Any], config: ClassificationHeadsConfig, rng: jax.Array, *, width: int
) -> Params:
    """A model's parameters and those of new heads: begun as torch begins a linear layer, since
    fairseq registers heads behind what `init_bert_params` goes over.

    Args:
      width: of the states that they read.
    """
    if not config.classification_heads:
        return dict(params)
    heads = {}
    # By its own key each, so that a head begins alike whatever others there are.
    for name, classes in config.classification_heads.items():
        key = rng
        for letter in name.encode():
            key = jax.random.fold_in(key, letter)
        inner = config.inner_dim(name, width=width)
        heads[name] = initialise(key, {"dense": _linear(width, inner),
                                       "out_proj": _linear(inner, classes)})
    return {**params, HEADS: heads}


def _linear(inputs: int, outputs: int) -> dict[str, Param]:
    begin = fan_in_uniform(inputs)
    return {"kernel": Param((inputs, outputs), begin), "bias": Param((outputs,), begin)}


def logits(
    config: ClassificationHeadsConfig, params: Params, name: str, states: jax.Array,
    rng: jax.Array | None,
) -> jax.Array:
    """Float32 logits [B, C] of the head `name` from states [B, D].

    Raises:
      ValueError: there is no such head.
    """
    if name not in config.classification_heads:
        raise ValueError(missing(name, config))
    head, rate = params[HEADS][name], config.pooler_dropout
    keys = (None, None) if rng is None else tuple(jax.random.split(rng))
    x = dropout(states, rate, keys[0])
    x = linear(x, head["dense"]["kernel"], head["dense"]["bias"], dtype=states.dtype)
    x = dropout(activation(config.pooler_activation_fn)(x), rate, keys[1])
    x = linear(x, head["out_proj"]["kernel"], head["out_proj"]["bias"], dtype=states.dtype)
    return x.astype(jnp.float32)


def missing(name: str, config: ClassificationHeadsConfig) -> str:
    """What is said where there is no head of that name."""
    there = ", ".join(config.classification_heads) or "none"
    return f"there is no classification head {name!r}; the model has: {there}"


def carried(
    params: Mapping[str, Any], fresh: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Weights to start from, with the heads of this run: those of the same name and size stay,
    others are new, and what the run has no head for is left out, as in fairseq.

    Args:
      params: of another run.
      fresh: new heads of this run, by name; arrays.

    Returns:
      Parameters, and a line on what was done (none where there was nothing to do).
    """
    there: Mapping[str, Any] = params.get(HEADS, {})
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


def _size(head: Mapping[str, Any]) -> str:
    inner, classes = jnp.shape(head["out_proj"]["kernel"])
    return f"{classes} classes of {inner}"
