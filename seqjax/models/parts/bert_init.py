"""How BERT and what came after it begin: fairseq's `init_bert_params`, over parameters made."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from seqjax.models.protocol import Params

DEVIATION = 0.02


def bert_init(params: Params, rng: jax.Array, *, pad: int) -> Params:
    """Fresh parameters: kernels and embeddings N(0, 0.02), padding's row and biases zero; the
    rest (norms, and what is no layer's of torch's) as in `params`.

    Args:
      params: as a model's modules make them, arrays or shapes; names and shapes count.
      pad: the row of every embedding that is zero.
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(params)

    def drawn(number: int, path: Any, old: jax.Array) -> jax.Array:
        name = path[-1].key
        if name not in ("kernel", "embedding"):
            return jnp.zeros_like(old) if name == "bias" else old
        new = DEVIATION * jax.random.normal(jax.random.fold_in(rng, number), old.shape, old.dtype)
        return new.at[pad].set(0.0) if name == "embedding" else new

    return tree.unflatten([drawn(i, *leaf) for i, leaf in enumerate(leaves)])
