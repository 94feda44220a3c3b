"""What the sides are asked to do: weights and decoding jobs, made alike in each process.

Everything is a pure function of small JSON arguments, so that nothing but those crosses
between processes. Knows no toolkit.
"""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from benchmarks import synthetic
from benchmarks.sizes import SIZES, Arrays, random_weights

TOY_LONGEST = 60
"""Tokens of the longest toy sentence: what the toy model has learned well."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoding:
    """Sentences to translate, and the limits of the search."""

    sources: list[np.ndarray]
    max_len: list[int]
    """Tokens before a forced eos, per sentence."""
    min_len: int
    """Steps in which eos is not allowed."""
    max_len_a: float
    max_len_b: int
    """`max_len` is `floor(max_len_a * source length + max_len_b)`."""
    beam: int
    batch: int
    """Sentences at once, for the sides that are told."""


def weights(size: str, path: str | None = None) -> Arrays:
    """Random weights, or those in an npz file."""
    if path is None:
        return random_weights(SIZES[size])
    with np.load(pathlib.Path(path)) as file:
        return dict(file)


def decoding(
    *, vocab: int, rows: int, beam: int = 5, batch: int | None = None, source: int | None = None,
    steps: int | None = None, toy: bool = False, seed: int = 11,
) -> Decoding:
    """A decoding job.

    Args:
      source: words and eos of every sentence (None: the synthetic mix of lengths).
      steps: positions that are computed for every sentence, the last a forced eos (None:
        until the model says eos, at most 1.5 times the source and 10).
      toy: sentences of the toy language.
    """
    if source is not None:
        sizes = np.full(rows, source)
    else:
        sizes, _ = synthetic.lengths(rows, seed=seed)
    if toy:
        sources = synthetic.toy_corpus(rows, vocab, seed=seed, longest=TOY_LONGEST).source
    else:
        sources = synthetic.sentences(sizes, vocab, seed=seed + 1)
    a, b, least = (0.0, steps - 1, steps - 1) if steps is not None else (1.5, 10, 1)
    return Decoding(
        sources=sources, max_len=[int(a * len(s) + b) for s in sources], min_len=least,
        max_len_a=a, max_len_b=b, beam=beam, batch=batch or rows,
    )
