"""Parameters that have a row for every word, found by what a dictionary's size changes.

No family is asked which of its arrays those are: the shapes of a model of a longer
dictionary say it, whether embeddings are shared, tied or apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from seqjax.config import ConfigError, ModelSection
from seqjax.models.protocol import Model, Params

ADAPTIVE = ("adaptive_softmax_cutoff", "adaptive_input_cutoff")
"""Keys that give words rows of a width that depends on their place in the dictionary."""
_MORE = 8

Shapes = dict[str, tuple[int, ...]]
Axes = dict[str, tuple[int, str]]
"""Name of a parameter -> the axis that words are along, and whose words: `source` or
`target` (`source` where both sides have the same)."""


def check_movable(config: ModelSection) -> None:
    """Refuses models whose rows cannot be moved to another place of the dictionary.

    Args:
      config: the model section.

    Raises:
      ConfigError: naming the key.
    """
    for key in ADAPTIVE:
        if getattr(config, key, None) and getattr(config, key.removesuffix("_cutoff"), True):
            raise ConfigError(
                f"config.init_vocabulary=match: config.model.{key} gives each word a row of the "
                "width of its band, which its place in the dictionary decides, so rows cannot be "
                "moved by symbol; preprocess with the dictionaries of the trained model "
                "(--srcdict, --tgtdict)")


def axes(build: Callable[..., Model], *, source_vocab_size: int, target_vocab_size: int) -> Axes:
    """Where words are in each parameter that has any.

    Args:
      build: (source_vocab_size=, target_vocab_size=) -> the model.
    """

    def shapes(source: int, target: int) -> Shapes:
        model = build(source_vocab_size=source, target_vocab_size=target)
        return shapes_of(jax.eval_shape(model.init, jax.random.key(0)))

    base = shapes(source_vocab_size, target_vocab_size)
    try:
        variants = {"source": shapes(source_vocab_size + _MORE, target_vocab_size),
                    "target": shapes(source_vocab_size, target_vocab_size + _MORE)}
    except (ConfigError, ValueError):  # both sides share rows, so their sizes are one
        variants = {"source": shapes(source_vocab_size + _MORE, target_vocab_size + _MORE)}
    found: Axes = {}
    for side, other in variants.items():
        for name, shape in base.items():
            for axis, (a, b) in enumerate(zip(shape, other[name], strict=True)):
                if a != b:
                    found.setdefault(name, (axis, side))
    return found


def shapes_of(tree: Params) -> Shapes:
    """Name -> shape of every leaf."""
    return {name_of(path): tuple(x.shape)
            for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def name_of(path: Any) -> str:
    """`decoder.layers.fc1.kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def move(
    params: Params, model: Model, *, where: Axes, rows: Mapping[str, np.ndarray], rng: jax.Array,
) -> Params:
    """Parameters for another dictionary: rows of known words copied, the others as those of
    a fresh model.

    Args:
      params: of the old dictionary, host arrays.
      model: of the new one.
      where: see `axes`.
      rows: for each side, the old id of each new one or -1.
      rng: of the fresh rows.
    """

    def fresh(rng: jax.Array) -> dict[str, jax.Array]:
        leaves = jax.tree_util.tree_leaves_with_path(model.init(rng))
        return {name_of(path): x for path, x in leaves if name_of(path) in where}

    new = jax.device_get(jax.jit(fresh)(rng))

    def moved(path: Any, old: Any) -> np.ndarray:
        name = name_of(path)
        if name not in where:
            return old
        axis, side = where[name]
        out = np.moveaxis(np.array(new[name]), axis, 0)
        known = rows[side] >= 0
        out[known] = np.moveaxis(np.asarray(old), axis, 0)[rows[side][known]]
        return np.ascontiguousarray(np.moveaxis(out, 0, axis))

    return jax.tree_util.tree_map_with_path(moved, params)
