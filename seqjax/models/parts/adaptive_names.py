"""Names of an adaptive softmax (and a tied adaptive input) in fairseq's files.

Shared by the tables of the families that may have one.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from seqjax.models.parts.keys import CutoffKeys, UsualSoftmaxKeys
from seqjax.models.tables import State

RENAMES: tuple[tuple[str, str], ...] = (
    (r"adaptive_softmax\.tail_(\d+)\.proj\.", r"adaptive_softmax.tail.\1.0."),
    (r"adaptive_softmax\.tail_(\d+)\.out\.", r"adaptive_softmax.tail.\1.2."),
    (r"adaptive_softmax\.class_proj\.", r"adaptive_softmax.head.class_proj."),
    (r"embed_tokens\.embeddings_(\d+)\.embed\.", r"embed_tokens.embeddings.\1.0."),
    (r"embed_tokens\.embeddings_(\d+)\.proj\.", r"embed_tokens.embeddings.\1.1."),
)
"""From names made of our paths."""

IGNORED: tuple[str, ...] = (
    r"decoder\.adaptive_softmax\.(version|head\._float_tensor)",
    r"decoder\.embed_tokens\._float_tensor",
)
"""Entries that hold no parameter."""


def constants(*, softmax: bool, adaptive_input: bool, tied: bool) -> State:
    """Entries that fairseq expects to find beside the weights."""
    state: State = {}
    if softmax:
        state["decoder.adaptive_softmax.version"] = np.array([1], np.int64)
    if tied:
        state["decoder.adaptive_softmax.head._float_tensor"] = np.zeros(1, np.float32)
    if adaptive_input:
        state["decoder.embed_tokens._float_tensor"] = np.zeros(1, np.float32)
    return state


def empty_tails(width: int, factor: float, config: CutoffKeys, vocab_size: int) -> State:
    """`Family.empty` of an adaptive softmax on top of a width: clusters without dimensions."""
    if config.adaptive_softmax_cutoff is None:
        return {}
    # A family in one file names its tables where it registers, which must not wait for JAX.
    from seqjax.models.parts.adaptive import band_ends, band_widths

    ends = band_ends(config.adaptive_softmax_cutoff, vocab_size, key="adaptive_softmax_cutoff")
    widths = band_widths(width, factor, len(ends))
    state: State = {}
    for i, (start, end) in enumerate(itertools.pairwise(ends)):
        if not widths[i + 1]:
            name = f"decoder.adaptive_softmax.tail.{i}"
            state[f"{name}.0.weight"] = np.zeros((0, width), np.float32)
            state[f"{name}.2.weight"] = np.zeros((end - start, 0), np.float32)
    return state


def usual_empty(config: UsualSoftmaxKeys, vocab_size: int) -> State:
    """`Family.empty` where width and factor are keys of the model."""
    return empty_tails(config.output_dim, config.adaptive_softmax_factor, config, vocab_size)


def by_criterion(default: tuple[int, ...] | None) -> Callable[[Any, str], Any]:
    """`Family.as_trained` of the models that have an adaptive softmax exactly where the
    criterion is adaptive_loss; `default` are fairseq's cutoffs where none are given."""

    def as_trained(config: CutoffKeys, criterion: str) -> CutoffKeys:
        cutoffs = config.adaptive_softmax_cutoff or default
        wanted = cutoffs if criterion == "adaptive_loss" else None
        return dataclasses.replace(config, adaptive_softmax_cutoff=wanted)

    return as_trained
