"""What search and scoring return."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

Ids = Sequence[int] | np.ndarray
"""Of tokens, one after the other."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Hypothesis:
    """One output for one source. Natural logarithms throughout."""

    tokens: np.ndarray
    """[T] int32, without the leading bos, with the final eos."""
    score: float
    """Sum of `positional_scores`, divided by T ** lenpen unless `unnormalized`; -inf for
    the lone eos that stands where search found nothing of finite score."""
    positional_scores: np.ndarray
    """[T] float32: the log-probability (with penalties) that each token added."""
    alignment: list[tuple[int, int]] | None = None
    """Where asked for: (source place, target place) of each target token, eos left out on
    both sides."""
    attention: np.ndarray | None = None
    """Where asked for: [T, S] float32, eos included on both sides."""
