"""Draws which frames of a batch are masked, and what each is told apart from.

Numbers of frames and a generator of random numbers come in, numpy arrays go out; everything a
model is given is drawn here, on the host. fairseq's rules (`compute_mask_indices`,
`sample_negatives`), without its order of random numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from seqjax.models.parts.audio_config import MaskConfig, MaskSelection


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spans:
    """How spans are drawn over positions, frames or channels."""

    prob: float
    """Share that would be masked if none overlapped."""
    length: int
    """Of a span; see `MaskSelection` for both."""
    selection: MaskSelection
    other: float
    no_overlap: bool
    min_space: int
    """Between spans that do not overlap."""
    least: int
    """Spans of a row, at least."""


def frame_spans(config: MaskConfig) -> Spans:
    """Of frames: two of a row at least, as fairseq's models have it."""
    return Spans(
        prob=config.mask_prob, length=config.mask_length, selection=config.mask_selection,
        other=config.mask_other, no_overlap=config.no_mask_overlap,
        min_space=config.mask_min_space, least=2)


def channel_spans(config: MaskConfig) -> Spans:
    """Of channels."""
    return Spans(
        prob=config.mask_channel_prob, length=config.mask_channel_length,
        selection=config.mask_channel_selection, other=config.mask_channel_other,
        no_overlap=config.no_mask_channel_overlap, min_space=config.mask_channel_min_space,
        least=0)


def draw_mask(
    spans: Spans, sizes: Sequence[int] | np.ndarray, width: int, rng: np.random.Generator, *,
    same: bool = True, share_kept: float = 0.0,
) -> np.ndarray:
    """Masked positions.

    Args:
      sizes: real positions of each row; a row without any has no mask.
      width: of the mask.
      same: as many in each row as in that which has fewest, others being unmasked at random.
      share_kept: share of the masked positions that are left as they are after all.

    Returns:
      [rows, width] bool.

    Raises:
      ValueError: a row is so short that all of it would be masked.
    """
    chosen = [_draw_row(spans, size, rng) if size else np.zeros(0, np.int64) for size in sizes]
    fewest = min((len(row) for row in chosen if len(row)), default=0)
    mask = np.zeros((len(chosen), width), bool)
    for i, row in enumerate(chosen):
        if same and len(row) > fewest:
            row = rng.choice(row, fewest, replace=False)
        if share_kept:
            kept = len(row) - int(np.rint(len(row) * share_kept))
            row = rng.choice(row, kept, replace=False)
        mask[i, row] = True
    return mask


def thin_out(mask: np.ndarray, count: int, rng: np.random.Generator) -> None:
    """Unmasks some of the positions of rows [rows, width] that have more than `count`, in
    place."""
    for row in mask:
        at = np.flatnonzero(row)
        if len(at) > count:
            row[rng.choice(at, len(at) - count, replace=False)] = False


def _draw_row(spans: Spans, size: int, rng: np.random.Generator) -> np.ndarray:
    """Masked positions of one row of `size`, in order."""
    count = max(spans.least, int(spans.prob * size / spans.length + rng.random()))
    lengths = _lengths(spans, count, rng)
    if count and not lengths.any():
        lengths[0] = min(spans.length, size - 1)
    if spans.no_overlap:
        positions = _apart(lengths, size, spans.min_space, rng)
    elif count:
        free = int(lengths.min())
        if size - free <= count:  # starts enough for all
            free = size - count - 1
        starts = rng.choice(size - free, count, replace=False)
        positions = np.concatenate([
            np.arange(start, start + n) for start, n in zip(starts, lengths, strict=True)])
    else:
        positions = np.zeros(0, np.int64)
    positions = np.unique(positions[positions < size]).astype(np.int64)
    if len(positions) >= size:
        raise ValueError(
            f"a row of {size} positions is too short to be masked by {count} spans of "
            f"{spans.length}: nothing would be left of it")
    return positions


def _lengths(spans: Spans, count: int, rng: np.random.Generator) -> np.ndarray:
    """Of each span."""
    if spans.selection == "static":
        return np.full(count, spans.length)
    if spans.selection == "uniform":
        return rng.integers(int(spans.other), spans.length * 2 + 1, size=count)
    if spans.selection == "normal":
        drawn = rng.normal(spans.length, spans.other, size=count)
        return np.maximum(1, np.rint(drawn).astype(np.int64))
    return rng.poisson(spans.length, size=count)


def _apart(
    lengths: np.ndarray, size: int, space: int, rng: np.random.Generator
) -> np.ndarray:
    """Positions of spans that do not overlap: the longest first, each somewhere in a gap
    that has room for it, chosen by its size; those that find none are left out."""
    gaps, result = [(0, size)], []
    shortest = int(lengths.min()) if len(lengths) else 0
    for length in sorted((int(n) for n in lengths), reverse=True):
        room = np.array([end - start if end - start >= length + space else 0
                         for start, end in gaps], float)
        if not room.sum():
            break
        start, end = gaps.pop(int(rng.choice(len(gaps), p=room / room.sum())))
        at = int(rng.integers(start, end - length))
        result.append(np.arange(at, at + length))
        if at - start - space >= shortest:
            gaps.append((start, at - space + 1))
        if end - at - length - space > shortest:
            gaps.append((at + length + space, end))
    return np.concatenate(result) if result else np.zeros(0, np.int64)


def draw_negatives(
    candidates: Sequence[np.ndarray], own: Sequence[np.ndarray], count: int,
    rng: np.random.Generator, *, same_row: int, any_row: int,
) -> np.ndarray:
    """For each target other candidates, never the target itself.

    Args:
      candidates: of each row, numbers of what may be drawn, over all rows.
      own: of each row, the numbers of its targets, which are among its candidates; `count` of
        them at most.
      same_row, any_row: how many of each target are drawn from its row, and from all.

    Returns:
      [rows, count * (same_row + any_row)] int32; 0 behind a row's last target.

    Raises:
      ValueError: a row with targets has no other candidate.
    """
    everyone = np.concatenate(list(candidates)) if len(candidates) else np.zeros(0, np.int64)
    result = np.zeros((len(candidates), count, same_row + any_row), np.int32)
    for row, (others, targets) in enumerate(zip(candidates, own, strict=True)):
        for pool, part in ((others, slice(0, same_row)), (everyone, slice(same_row, None))):
            wanted = result[row, : len(targets), part].shape
            if not np.prod(wanted):
                continue
            if len(pool) < 2:
                raise ValueError("a masked frame has no other to be told apart from")
            place = np.searchsorted(pool, targets)[:, None]
            drawn = rng.integers(0, len(pool) - 1, size=wanted)
            result[row, : len(targets), part] = pool[drawn + (drawn >= place)]
    return result.reshape(len(candidates), -1)
