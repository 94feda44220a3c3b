"""Output layers: hidden states [..., D] and an output layer's arrays in, float32 logits out.

Those marked by `by_word` can be taken apart by words, a block of the vocabulary at a time.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from seqjax.models.protocol import by_word

ADAPTIVE_FACTOR = 4.0
"""Each cluster of the adaptive softmax of fairseq's recurrent and
convolutional models is this many times narrower."""


@by_word(0)
def project_table(table: jax.Array, hidden: jax.Array) -> jax.Array:
    """Float32 logits [..., V] from a tied embedding [V, D]."""
    return jax.lax.dot_general(
        hidden, table.astype(hidden.dtype), (((hidden.ndim - 1,), (1,)), ((), ())),
        preferred_element_type=jnp.float32,
    )


@by_word(1)
def project_kernel(kernel: jax.Array, hidden: jax.Array) -> jax.Array:
    """Float32 logits [..., V] from an output projection [D, V]."""
    return jax.lax.dot_general(
        hidden, kernel.astype(hidden.dtype), (((hidden.ndim - 1,), (0,)), ((), ())),
        preferred_element_type=jnp.float32,
    )


@by_word(-1)
def project_biased(projection: dict[str, jax.Array], hidden: jax.Array) -> jax.Array:
    """Float32 logits [..., V] from {kernel [D, V], bias [V]}."""
    kernel = projection["kernel"].astype(hidden.dtype)
    logits = jax.lax.dot_general(
        hidden, kernel, (((hidden.ndim - 1,), (0,)), ((), ())),
        preferred_element_type=jnp.float32,
    )
    return logits + projection["bias"].astype(jnp.float32)


@by_word(0)
def project_tied(projection: dict[str, jax.Array], hidden: jax.Array) -> jax.Array:
    """Float32 logits [..., V] from {table [V, D], bias [V]}."""
    logits = jax.lax.dot_general(
        hidden, projection["table"].astype(hidden.dtype), (((hidden.ndim - 1,), (1,)), ((), ())),
        preferred_element_type=jnp.float32,
    )
    return logits + projection["bias"].astype(jnp.float32)
