"""Windows over time for convolutions: of whole sequences, and while decoding.

While decoding, the last `width` inputs of every hypothesis live in a ring that is written
in place; beams are never moved, each finds its past through the ancestor table.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def windows(
    x: jax.Array, width: int, left: int, segments: jax.Array | None = None
) -> jax.Array:
    """What each position of a convolution sees.

    Args:
      x: [B, T, C].
      width: taps.
      left: taps in front of the position itself.
      segments: [B, T] when packed: other sentences are zeros.

    Returns:
      [B, T, width, C]; tap k of position t is `x[t - left + k]`, zeros outside.
    """
    length = x.shape[1]
    around = (left, width - 1 - left)
    padded = jnp.pad(x, ((0, 0), around, (0, 0)))
    taps = [padded[:, k : k + length] for k in range(width)]
    if segments is not None:
        ids = jnp.pad(segments, ((0, 0), around))
        same = [ids[:, k : k + length] == segments for k in range(width)]
        taps = [jnp.where(s[..., None], t, 0) for s, t in zip(same, taps, strict=True)]
    return jnp.stack(taps, axis=2)


def empty_ring(
    *, batch: int, width: int, beam: int, channels: int, dtype: jax.typing.DTypeLike
) -> jax.Array:
    """[B, width, W, C]: the last `width` inputs; position p is at p modulo width."""
    return jnp.zeros((batch, width, beam, channels), dtype)


def push(
    ring: jax.Array, x: jax.Array, *, position: jax.Array, ancestors: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Adds an input and looks back.

    Args:
      ring: [B, width, W, C].
      x: [B, W, C], the inputs at `position`.
      ancestors: [B, W, capacity], as `protocol.EncoderDecoder.step` has it.

    Returns:
      The window [B, W, width, C] that ends with `x`, zeros before position 0; the ring.
    """
    batch, width = ring.shape[:2]
    slot = jax.lax.rem(position, jnp.int32(width))
    ring = jax.lax.dynamic_update_slice(ring, x[:, None].astype(ring.dtype), (0, slot, 0, 0))
    if width == 1:
        return x[:, :, None], ring
    at = position - (width - 1) + jnp.arange(width, dtype=jnp.int32)
    held = jnp.take(ancestors, jnp.maximum(at, 0), axis=2)  # [B, W, width]
    rows = jnp.arange(batch)[:, None, None]
    window = ring[rows, jnp.mod(at, width)[None, None], held]
    return jnp.where((at >= 0)[:, None], window, 0), ring
