"""Sources as searches read them: ids or frames of single sources in, padded batches out.

Of text a batch is an array of ids, of audio a `Source`, in which every row comes out as it does
alone, unless asked otherwise: what is found does not depend on what it was batched with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.generation.errors import InputError
from seqjax.models.protocol import (
    FrameReader,
    Model,
    Params,
    Read,
    Source,
    Stepper,
    Weights,
    encode_tokens,
)


def least_sources(model: Model, rows: int) -> Read:
    """The shortest sources that a model can read, without meaning, from which shapes follow."""
    if not isinstance(model, FrameReader):
        return jnp.full((rows, 1), getattr(model, "eos", model.pad), jnp.int32)
    frames = model.least_frames
    return Source(values=jnp.zeros((rows, frames, *model.frame_shape), jnp.float32),
                  mask=jnp.ones((rows, frames), bool), isolated=True)


def sources_for(models: Sequence[Model], sources: Sequence[object]) -> list[np.ndarray]:
    """Sources as arrays: ids [S] int32, or of models that read audio frames [S, ...] float32.

    Raises:
      ValueError: models of both kinds; frames of another shape than the models', by number.
    """
    shapes = {model.frame_shape if isinstance(model, FrameReader) else None for model in models
              if hasattr(model, "encode")}
    if len(shapes) > 1:
        raise ValueError(f"Decoder: models that read different sources: {sorted(map(str, shapes))}")
    shape = next(iter(shapes), None)
    if shape is None:
        return [np.asarray(source, np.int32) for source in sources]
    found = [np.asarray(source, np.float32) for source in sources]
    for index, source in enumerate(found):
        if source.ndim == 0 or source.shape[1:] != shape:
            wanted = ", ".join(["frames", *map(str, shape)])
            raise InputError(index, f"has the shape {list(source.shape)}, but the model reads "
                             f"[{wanted}]")
    return found


def check_lengths(
    lengths: Sequence[int] | np.ndarray, models: Sequence[Model], *, most: int
) -> None:
    """Refuses sources that no model reads, before anything is computed.

    Args:
      lengths: tokens or frames of each.
      most: what the models take.

    Raises:
      ValueError: a source without any, too short or too long, by its number.
    """
    lengths = np.asarray(lengths, np.int64)
    readers = [model for model in models if isinstance(model, FrameReader)]
    least = max((model.least_frames for model in readers), default=1)
    unit, end = ("frames", "") if readers else ("tokens", " (not even eos)")
    for index in np.flatnonzero((lengths < least) | (lengths > most)):
        length = lengths[index]
        raise InputError(
            index, f"has no {unit}{end}" if length == 0
            else f"has {length} {unit}, but the model needs {least}" if length < least
            else f"has {length} {unit}, but the model takes at most {most}: shorten or leave out "
            "that sentence")


def batch_of(
    sources: Sequence[np.ndarray], *, rows: int, width: int, pad: int, isolated: bool = True,
) -> Read:
    """Some of what `sources_for` gave, padded on the right.

    Args:
      rows, width: of the batch, rows without a source included.
      pad: id of padding.
      isolated: see `Source`; of audio.

    Returns:
      numpy arrays.
    """
    first = sources[0]
    if np.issubdtype(first.dtype, np.integer):
        ids = np.full((rows, width), pad, np.int32)
        for row, source in zip(ids, sources, strict=False):
            row[:len(source)] = source
        return ids
    values = np.zeros((rows, width, *first.shape[1:]), np.float32)
    mask = np.zeros((rows, width), bool)
    for row, real, source in zip(values, mask, sources, strict=False):
        row[:len(source)], real[:len(source)] = source, True
    given: Any = {"values": values, "mask": mask}
    return Source(**given, isolated=isolated)


def vocabulary_size(model: Stepper, params: Params, weights: Weights) -> int:
    """Entries of the model's output layer, found without computing anything."""

    def logits(params: Params, weights: Weights) -> jax.Array:
        encoded = encode_tokens(model, params, least_sources(model, 1))
        cache = model.start(weights, encoded, rows=1, beam=1, capacity=1)
        features, _ = model.step(
            weights, jnp.full((1, 1), model.eos, jnp.int32), cache,
            position=jnp.zeros((), jnp.int32), ancestors=jnp.zeros((1, 1, 1), jnp.int32))
        return features.logits()

    return jax.eval_shape(logits, params, weights).shape[-1]
