"""k-means of features of frames: shards in, centres and labels of frames out, with fairseq's
settings of scikit-learn's mini-batches (its simple_kmeans)."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from seqjax.config import ConfigError
from seqjax.data.audio.shards import Shards

_FRAMES = 1 << 14
"""Of a block whose distances are computed together."""


def sample(shards: Shards, *, percent: float, seed: int) -> np.ndarray:
    """[n, D] frames of some recordings of every shard.

    Args:
      percent: share of the recordings, in (0, 1]; below 0: all.
      seed: of the draw.
    """
    rng, found = np.random.RandomState(seed), []
    for shard in range(shards.count):
        frames, starts = shards.read(shard)
        total = len(starts) - 1
        if percent < 0 or percent == 1:
            found.append(np.array(frames))
            continue
        chosen = np.sort(rng.choice(total, math.ceil(total * percent), replace=False))
        found += [np.array(frames[starts[i]:starts[i + 1]]) for i in chosen]
    return np.concatenate(found)


def learn(features: np.ndarray, *, clusters: int, seed: int, restarts: int = 20) -> np.ndarray:
    """Centres [K, D] float32 of frames [n, D].

    Raises:
      ConfigError: fewer frames than clusters.
    """
    from sklearn.cluster import MiniBatchKMeans

    if len(features) < clusters:
        raise ConfigError(f"--clusters {clusters}: there are {len(features)} frames only; take "
                          "fewer clusters or more recordings (--percent)")
    made: Any = MiniBatchKMeans  # its annotations are guessed from its defaults
    model = made(
        n_clusters=clusters, init="k-means++", max_iter=100, batch_size=10_000, tol=0.0,
        max_no_improvement=100, n_init=restarts, reassignment_ratio=0.0, random_state=seed,
        compute_labels=False)
    return model.fit(features).cluster_centers_.astype(np.float32)


def nearest(features: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """[T] int64: the number of the centre [K, D] that is nearest to each frame [T, D]."""
    found, squares = [], (centres**2).sum(1)
    for start in range(0, len(features), _FRAMES):
        block = np.asarray(features[start:start + _FRAMES], np.float32)
        found.append((squares - 2 * block @ centres.T).argmin(1))
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def save_centres(path: str, centres: np.ndarray) -> None:
    """Writes centres [K, D] as `.npy`, whole or not at all."""
    temporary = f"{path}.tmp{os.getpid()}.npy"
    np.save(temporary, centres)
    os.replace(temporary, path)


def load_centres(path: str) -> np.ndarray:
    """Centres [K, D] float32 of a `.npy`.

    Raises:
      ConfigError: there is no such file, or it is another.
    """
    if not os.path.isfile(path):
        raise ConfigError(f"--kmeans {path}: no such file; python -m seqjax.preprocess kmeans "
                          "makes it")
    try:
        centres = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ConfigError(f"--kmeans {path}: cannot be read as centres ({error})") from None
    if centres.ndim != 2 or not np.issubdtype(centres.dtype, np.floating):
        raise ConfigError(f"--kmeans {path}: an array of {centres.dtype} of the shape "
                          f"{list(centres.shape)}, expected floats [clusters, features]")
    return centres.astype(np.float32)
