"""HuBERT's rule for which frames of a padded batch are real, for its encoder's module and for who
draws masks on the host."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.models.parts.audio_config import ConvLayer, frame_count


def block_mask(real: jax.Array, frames: int, layers: tuple[ConvLayer, ...]) -> jax.Array:
    """[B, frames] bool: frames of which some sample is real, where the samples of the longest row
    are cut into as many equal blocks as it has frames, whatever a frame sees of them.

    Args:
      real: [B, N] bool, the real samples, padding behind them.
      frames: of the array; more than the longest row has are padding.
    """
    lengths = real.sum(axis=1, dtype=jnp.int32)
    longest = jnp.minimum(frame_count(lengths.max(), layers), frames)
    block = jnp.maximum(lengths.max() // jnp.maximum(longest, 1), 1)
    at = jnp.arange(frames)
    return (at * block < lengths[:, None]) & (at < longest)


def block_frames(lengths: np.ndarray, frames: int, layers: tuple[ConvLayer, ...]) -> np.ndarray:
    """[B] how many frames of each row that are, for rows of `lengths` [B] samples."""
    most = int(lengths.max(initial=0))
    longest = min(int(frame_count(most, layers)), frames)
    if longest < 1:
        return np.zeros(lengths.shape, int)
    return np.minimum(-(-lengths // (most // longest)), longest)
