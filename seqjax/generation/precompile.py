"""Compiling what a search is known to need before it starts: several programs at a time.

XLA works outside of Python's lock, so the programs of several shapes are compiled together;
and since they are known, it can be said how many are still to come. jit finds them when it is
called. What a search needs only when outputs get long is compiled when it does.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from seqjax.console import compiling
from seqjax.generation.beam_search import Search
from seqjax.generation.processors import Tables
from seqjax.models.protocol import Params, Weights


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class First:
    """What a batch of some shape starts with."""

    source: Any
    sentences: Any
    capacity: int


def precompile(
    search: Search, firsts: Sequence[First], *, params: Params, weights: Weights, tables: Tables
) -> None:
    """Compiles `begin` and the first `chunk` for each of the shapes.

    Args:
      params, weights, tables: as `begin` and `chunk` take them.
    """
    committed = any(getattr(x, "committed", False) for x in jax.tree.leaves((params, weights)))
    with compiling.planned(2 * len(firsts)) as done:
        jobs: list[Callable[[], None]] = []

        def begin(first: First) -> Any:
            program = search.begin.lower(params, weights, first.source, first.sentences,
                                         capacity=first.capacity).compile()
            done()
            return program.output_shardings if committed else None

        def chunk(first: First, places: Any = None) -> None:
            shapes = jax.eval_shape(
                functools.partial(search.begin, capacity=first.capacity),
                params, weights, first.source, first.sentences)
            if places is not None:  # they lie where `begin` leaves them
                shapes = jax.tree.map(
                    lambda x, place: jax.ShapeDtypeStruct(
                        x.shape, x.dtype, sharding=place, weak_type=x.weak_type),
                    shapes, places)
            search.chunk.lower(
                weights, first.sentences, *shapes, np.int32(0), tables=tables).compile()
            done()

        for first in firsts:
            if committed:
                jobs.append(lambda first=first: chunk(first, begin(first)))
            else:
                jobs += [functools.partial(begin, first), functools.partial(chunk, first)]
        with ThreadPoolExecutor(max(1, os.cpu_count() or 1)) as pool:
            waiting = [pool.submit(job) for job in jobs]
            try:
                for job in waiting:
                    job.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
