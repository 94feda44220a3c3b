"""Masks and negatives of a batch, each row's by itself: lengths and a seed of each row in, arrays
that go with the batch out; and what a model is given of these.

What is drawn of a row depends on its seed and the width of its batch alone, not on the rows beside
it, so that it is the same on any number of hosts and in any grouping of micro-batches. (fairseq
draws a batch's from one random state, and with `require_same_masks` masks no more frames of any
row than of that with fewest; here every row has as many as were drawn, up to `masked_count`.)
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.models.parts.audio import Drawn

TRIALS = 32
"""Draws of a row by which it is found how many frames are masked."""
_MULTIPLE = 8
PREFIX = "drawn_"
"""In front of the arrays' names in a batch."""


class Draws(Protocol):
    """A model that draws."""

    @property
    def config(self) -> Any:
        """Its section."""
        ...

    def draw(self, lengths: np.ndarray, rng: np.random.Generator, **options: Any) -> Drawn:
        """What is drawn of rows of so many samples."""
        ...

    def frames(self, samples: int) -> int:
        """Frames of a row."""
        ...

    def real_frames(self, lengths: np.ndarray, *, samples: int) -> np.ndarray:
        """Real frames of rows."""
        ...


def masked_count(model: Draws, samples: int) -> int:
    """How many masked frames of a row of `samples` are compared: as many as are masked in the one
    of some draws that has most, rounded up. Of a row that has more, some are left as they are."""
    return _masked_count(_of_own_row(model), samples)


@functools.lru_cache(maxsize=256)
def _masked_count(model: Draws, samples: int) -> int:
    rng = np.random.default_rng(samples)
    drawn = [model.draw(np.array([samples]), rng, samples=samples) for _ in range(TRIALS)]
    most = max(int(np.sum(row.mask)) for row in drawn if row.mask is not None)
    return max(1, min(-(-most // _MULTIPLE) * _MULTIPLE, model.frames(samples)))


def _of_own_row(model: Draws) -> Draws:
    """The model without negatives of other rows, which no row can draw by itself."""
    if not getattr(model.config, "cross_sample_negatives", 0):
        return model
    whole: Any = model
    return dataclasses.replace(
        whole, config=dataclasses.replace(model.config, cross_sample_negatives=0))


def draw_rows(
    model: Draws, lengths: np.ndarray, seeds: np.ndarray, *, samples: int,
    labels: Sequence[int] = (),
) -> dict[str, np.ndarray]:
    """What is drawn for a batch; on the host.

    Args:
      lengths: [B] samples of each row; of 0 there is nothing to draw.
      seeds: [B, n] whole numbers, what a row's draws depend on.
      samples: N, of the batch.
      labels: L, of the batch, of each list of labels of frames.

    Returns:
      Arrays [B, ...] with names of `Drawn` behind `PREFIX`, negatives numbered from the beginning
      of their own row; without what the model does not draw.

    Raises:
      ValueError: a row so short that nothing would be left of it.
    """
    own = _of_own_row(model)
    options: dict[str, Any] = {"samples": samples}
    if labels:
        options["labels"] = list(labels)
    compared = hasattr(model.config, "num_negatives")
    if compared:
        options["count"] = masked_count(model, samples)
    found = [own.draw(lengths[i:i + 1], np.random.default_rng(seeds[i]), **options)
             for i in range(len(lengths))]
    arrays: dict[str, np.ndarray] = {}
    for field in dataclasses.fields(Drawn):
        parts = [getattr(row, field.name) for row in found]
        if parts and parts[0] is not None:
            arrays[PREFIX + field.name] = np.concatenate(parts)
    if compared and own is not model:
        whole = np.array([model.real_frames(lengths[i:i + 1], samples=samples)[0]
                          for i in range(len(lengths))], np.int32)
        arrays[PREFIX + "frames"] = whole
        arrays[PREFIX + "seed"] = np.array(
            [np.random.SeedSequence(seed).generate_state(1)[0] >> 1 for seed in seeds], np.int32)
    return arrays


def drawn_of(model: Draws, batch: Mapping[str, jax.Array]) -> Drawn:
    """What a model is given of a batch that has the arrays of `draw_rows`."""
    said = {field.name: batch.get(PREFIX + field.name) for field in dataclasses.fields(Drawn)}
    negatives = said["negatives"]
    if negatives is None:
        return Drawn(**said)
    cfg, samples = model.config, batch["source"].shape[1]
    rows, count = negatives.shape[0], masked_count(model, samples)
    width = model.frames(samples) if cfg.negatives_from_everywhere else count
    negatives = negatives + jnp.arange(rows, dtype=jnp.int32)[:, None] * width
    if cfg.cross_sample_negatives:
        others = _of_any_row(batch, (count, cfg.cross_sample_negatives), width,
                             everywhere=cfg.negatives_from_everywhere)
        parts = negatives.reshape(rows, count, -1), others
        negatives = jnp.concatenate(parts, axis=2).reshape(rows, -1)
    return Drawn(**{**said, "negatives": negatives})


def _of_any_row(
    batch: Mapping[str, jax.Array], wanted: tuple[int, int], width: int, *, everywhere: bool
) -> jax.Array:
    """[B, M, n] further negatives of each masked frame, of any row, none the frame itself; M, n
    are `wanted`, of rows that have `width` numbers each. `everywhere`: of frames that are not
    masked too."""
    count, _ = wanted
    mask, seeds = batch[PREFIX + "mask"], batch[PREFIX + "seed"]
    masked = jnp.minimum(mask.sum(axis=1), count)
    if everywhere:
        real = jnp.arange(width) < batch[PREFIX + "frames"][:, None]
        at = jnp.argsort(~mask, axis=1, stable=True)[:, :count]
    else:
        real = jnp.arange(width) < masked[:, None]
        at = jnp.broadcast_to(jnp.arange(count), (len(mask), count))
    flat = real.ravel()
    total = flat.sum()
    ranks = (jnp.cumsum(flat) - 1).reshape(real.shape)
    places = jnp.nonzero(flat, size=flat.size)[0].astype(jnp.int32)
    own = jnp.take_along_axis(ranks, at, axis=1)[..., None]  # [B, M, 1]
    key = jax.random.fold_in(jax.random.key(0), seeds.sum().astype(jnp.uint32))
    drawn = jax.random.randint(key, (len(mask), *wanted), 0, jnp.maximum(total - 1, 1))
    return places[drawn + (drawn >= own)]
