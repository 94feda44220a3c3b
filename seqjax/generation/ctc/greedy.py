"""Greedy CTC decoding: the best token of every frame, repetitions and blanks taken out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seqjax.generation.ctc.hypothesis import CTCHypothesis


def collapse(best: np.ndarray, *, blank: int) -> np.ndarray:
    """[T] tokens of frames to the output: one of each run, no blanks (fairseq's viterbi)."""
    first = np.ones(len(best), bool)
    first[1:] = best[1:] != best[:-1]
    return best[first & (best != blank)].astype(np.int32)


def greedy(rows: Sequence[np.ndarray], *, blank: int) -> list[CTCHypothesis]:
    """The best path of each utterance, [frames, V] log-probabilities."""
    found = []
    for row in rows:
        best = row.argmax(1) if len(row) else np.zeros(0, np.int64)
        score = float(row[np.arange(len(row)), best].sum(dtype=np.float64))
        found.append(CTCHypothesis(tokens=collapse(best, blank=blank), words=None, score=score))
    return found
