"""Synthetic corpora: lengths distributed like WMT's, ids drawn like words.

Lengths: source log-normal(ln 24, 0.6), target = source x 1.05 x log-normal(0, 0.15),
both clipped to 3..250, eos included. Knows no toolkit.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from benchmarks.sizes import EOS, FIRST_WORD

MIN_LENGTH, MAX_LENGTH = 3, 250


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """Sentence pairs as lists of int32 arrays ending in eos."""

    source: list[np.ndarray]
    target: list[np.ndarray]

    @property
    def source_lengths(self) -> np.ndarray:
        return np.array([len(s) for s in self.source])

    @property
    def target_lengths(self) -> np.ndarray:
        return np.array([len(t) for t in self.target])


def lengths(pairs: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Source and target lengths [pairs], eos included."""
    rng = np.random.default_rng(seed)
    source = rng.lognormal(np.log(24), 0.6, pairs)
    target = source * 1.05 * rng.lognormal(0.0, 0.15, pairs)
    return (
        np.clip(np.round(source), MIN_LENGTH, MAX_LENGTH).astype(np.int64),
        np.clip(np.round(target), MIN_LENGTH, MAX_LENGTH).astype(np.int64),
    )


def sentences(sizes: np.ndarray, vocab: int, *, seed: int) -> list[np.ndarray]:
    """One array per length: random words (frequent ids oftener, as in text) and an eos."""
    rng = np.random.default_rng(seed)
    words = vocab - FIRST_WORD
    ids = FIRST_WORD + np.minimum(words * rng.random(int(sizes.sum())) ** 2, words - 1)
    flat = ids.astype(np.int32)
    ends = np.cumsum(sizes)
    flat[ends - 1] = EOS
    return np.split(flat, ends[:-1])


def corpus(pairs: int, vocab: int, *, seed: int = 0) -> Corpus:
    """`pairs` unrelated random sentence pairs."""
    source, target = lengths(pairs, seed=seed)
    return Corpus(
        source=sentences(source, vocab, seed=seed + 1),
        target=sentences(target, vocab, seed=seed + 2),
    )


def toy_corpus(pairs: int, vocab: int, *, seed: int = 0, longest: int = MAX_LENGTH) -> Corpus:
    """A language that can be learned in a minute: every word has one translation."""
    source_lengths, _ = lengths(pairs, seed=seed)
    source = sentences(np.minimum(source_lengths, longest), vocab, seed=seed + 1)
    words = np.random.default_rng(99).permutation(vocab - FIRST_WORD).astype(np.int32)
    table = np.concatenate([np.arange(FIRST_WORD, dtype=np.int32), words + FIRST_WORD])
    return Corpus(source=source, target=[table[s] for s in source])


def pad(rows: list[np.ndarray], *, width: int | None = None, fill: int = 1) -> np.ndarray:
    """Ragged rows as one int32 array padded on the right."""
    width = width or max(len(r) for r in rows)
    out = np.full((len(rows), width), fill, np.int32)
    for index, row in enumerate(rows):
        out[index, : len(row)] = row
    return out


def token_batches(
    source: np.ndarray, target: np.ndarray, *, max_tokens: int, multiple: int = 8
) -> list[np.ndarray]:
    """fairseq's way of batching: sort by length, fill up to `max_tokens` on the longer
    side with padding counted, rows in multiples of 8. Sentence indices per batch."""
    order = np.lexsort((source, target))
    longest = np.maximum(source, target)[order]
    batches, start = [], 0
    while start < len(order):
        stop = start + 1
        widest = longest[start]
        while stop < len(order):
            wider = max(widest, longest[stop])
            if wider * (stop - start + 1) > max_tokens:
                break
            widest, stop = wider, stop + 1
        if stop < len(order) and stop - start > multiple:
            stop = start + (stop - start) // multiple * multiple
        batches.append(order[start:stop])
        start = stop
    return batches
