"""Which parameters are trained: keys and a tree of parameters in, a tree of marks out, and trees
of parameters by these.

fairseq's keys name parameters by pieces of its own names for them, layers with their numbers; ours
are stacked, so that a mark may be different for each layer of a stack.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.models.parts import audio_names
from seqjax.models.protocol import Params
from seqjax.models.xm_transformer.config import XMTransformerConfig

Marks = Any
"""True, False, or an array [L] or scalar of bool for each parameter."""
_SUFFIXES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}


def trained(
    config: XMTransformerConfig, params: Params, update: jax.Array | int
) -> Marks:
    """Marks of all parameters; `update` is the number of updates done before."""
    encoder, decoder = params["encoder"], params["decoder"]
    own = _marks(encoder["w2v_encoder"]["w2v_model"], config.finetune_w2v_params)
    after = config.w2v_freezing_updates
    if after is not None:
        own = jax.tree.map(lambda mark: mark if mark is True else mark | (update > after), own)
    rest: Any = jax.tree.map(lambda _: True, encoder)
    rest["w2v_encoder"]["w2v_model"] = own
    return {"encoder": rest, "decoder": _marks(decoder, config.finetune_decoder_params)}


def gated(params: Params, marks: Marks) -> Params:
    """The same values, without gradients of what is not trained."""
    return jax.tree.map(
        lambda p, mark: p if mark is True else _chosen(mark, p, jax.lax.stop_gradient(p)),
        params, marks)


def kept(params: Params, before: Params, marks: Marks) -> Params:
    """New values of what is trained, those from before of the rest."""
    return jax.tree.map(
        lambda new, old, mark: new if mark is True else _chosen(mark, new, old),
        params, before, marks)


def _chosen(mark: Any, yes: jax.Array, no: jax.Array) -> jax.Array:
    if mark is False:
        return no
    mark = jnp.asarray(mark)
    return jnp.where(mark.reshape(mark.shape + (1,) * (yes.ndim - mark.ndim)), yes, no)


def _marks(params: Params, pieces: str) -> Marks:
    """Of parameters whose names have one of the pieces."""
    wanted = None if pieces == "all" else pieces.split(",")

    def mark(path: Any, leaf: Any) -> Any:
        if wanted is None:
            return True
        parts = [key.key for key in path]
        layers = leaf.shape[0] if "layers" in parts else 1
        found = np.array([any(piece in _name(parts, layer) for piece in wanted)
                          for layer in range(layers)])
        if found.all() or not found.any():
            return bool(found[0])
        return found

    return jax.tree_util.tree_map_with_path(mark, params)


def _name(parts: list[str], layer: int) -> str:
    """fairseq's name of a parameter."""
    *modules, leaf = (f"layers.{layer}" if part == "layers" else part for part in parts)
    name = ".".join([*modules, _SUFFIXES.get(leaf, leaf)])
    for pattern, replacement in audio_names.RENAMES:
        name = re.sub(pattern, replacement, name)
    return name
