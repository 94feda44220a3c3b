"""From names and shapes of parameters to weights of a seed: the same for the script that records
what another library's model does with them and for the test, so that no file holds weights.

Reads nothing but NumPy, whose `RandomState` draws the same numbers in every version.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

POSITIVE = ("running_var", "weight_g", "original0")
"""Ends of names of vectors and lengths that must be positive."""


def seeded_state(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """float32 weights by name, of the shapes given (torch's: [outputs, inputs, ...]).

    Drawn one name after another in sorted order, so that the order of `shapes` does not matter:
    normal with 1/sqrt(inputs) for matrices and kernels, which keeps states near 1 and attention
    and logits far from uniform; the weights of norms near 1, and biases near 0.
    """
    stream = np.random.RandomState(seed)
    return {name: _weights(name, stream.standard_normal(shapes[name]))
            for name in sorted(shapes)}


def _weights(name: str, normal: np.ndarray | float) -> np.ndarray:
    """Standard-normal numbers made into those of a parameter of that name."""
    normal = np.asarray(normal)
    if name.endswith(POSITIVE) or (normal.ndim == 1 and name.endswith("weight")):
        values = np.maximum(1 + 0.1 * normal, 0.1)
    elif normal.ndim < 2:
        values = 0.1 * normal
    else:
        values = normal / math.sqrt(math.prod(normal.shape[1:]))
    return np.asarray(values, np.float32)
