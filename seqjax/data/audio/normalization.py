"""Means and variances of features taken out: [B, T, F] in and out, by utterance or by statistics of
a corpus (fairseq's `utterance_cmvn` and `global_cmvn`).
"""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.config import ConfigError
from seqjax.data.audio.filterbank import keep_frames

LEAST_VARIANCE = 1e-10


def utterance_cmvn(
    features: jax.Array, frames: jax.Array, *, norm_means: bool = True, norm_vars: bool = True
) -> jax.Array:
    """[B, T, F] features of each row less their mean over its frames, divided by their deviation.

    The variance is that of the differences from the mean. (fairseq takes the difference of two
    large numbers in float32, which for channels that hardly change is noise.) Without `norm_means`
    the features themselves are divided, as in fairseq.

    Args:
      frames: [B] of each row; what is behind stays 0.
    """
    count = jnp.maximum(frames, 1)[:, None, None].astype(features.dtype)
    # Around the first frame, so that the sum of what hardly changes stays exact.
    first = features[:, :1]
    mean = first + keep_frames(features - first, frames).sum(1, keepdims=True) / count
    centred = keep_frames(features - mean, frames)
    found = centred if norm_means else features
    if norm_vars:
        variance = (centred**2).sum(1, keepdims=True) / count
        found = found / jnp.sqrt(jnp.maximum(variance, LEAST_VARIANCE))
    return keep_frames(found, frames)


def global_cmvn(
    features: jax.Array, frames: jax.Array, *, mean: np.ndarray, std: np.ndarray
) -> jax.Array:
    """[B, T, F] features less `mean` [F], divided by `std` [F]."""
    return keep_frames((features - mean) / std, frames)


def read_statistics(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation [F] float32 of a `.npz` with `mean` and `std`.

    Raises:
      ConfigError: there is no such file, or it is another; says what is missing.
    """
    if not os.path.isfile(path):
        raise ConfigError(f"global_cmvn.stats_npz_path: {path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as found:
            mean, std = (np.array(found[key], np.float32) for key in ("mean", "std"))
    except (KeyError, ValueError, OSError) as error:
        raise ConfigError(
            f"{path}: expected an .npz with the arrays mean and std ({error})") from None
    if mean.ndim != 1 or mean.shape != std.shape or not (std > 0).all():
        raise ConfigError(f"{path}: mean of the shape {mean.shape} and std of {std.shape}; "
                          "expected two arrays [features], the second positive")
    return mean, std
