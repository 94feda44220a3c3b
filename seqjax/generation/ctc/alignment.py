"""Forced alignment: when each token of a known output was spoken.

The best path of a CTC model through the tokens, with blanks between and around them
(Graves et al. 2006, "Connectionist Temporal Classification"; here the maximum for the sum).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def align(log_probs: np.ndarray, tokens: Sequence[int], *, blank: int) -> np.ndarray:
    """First frame and the frame after the last, of each token, [L, 2] int.

    Args:
      log_probs: [T, V] natural logarithms.
      tokens: L ids.
      blank: its id.

    Raises:
      ValueError: the frames are too few for the tokens (and a blank between equal ones).
    """
    ids = np.asarray(tokens, np.int64)
    if not len(ids):
        return np.zeros((0, 2), np.int64)
    least = len(ids) + int((ids[1:] == ids[:-1]).sum())
    if len(log_probs) < least:
        raise ValueError(f"{len(ids)} tokens need {least} frames, but there are {len(log_probs)}")
    path = np.full(2 * len(ids) + 1, blank)
    path[1::2] = ids
    emissions = log_probs[:, path]
    skips = np.zeros(len(path), bool)
    skips[3::2] = ids[1:] != ids[:-1]
    score = np.full(len(path), -np.inf)
    score[:2] = emissions[0, :2]
    came = np.zeros((len(log_probs), len(path)), np.int8)
    for t in range(1, len(log_probs)):
        from_last = np.concatenate([[-np.inf], score[:-1]])
        from_skip = np.where(skips, np.concatenate([[-np.inf, -np.inf], score[:-2]]), -np.inf)
        ways = np.stack([score, from_last, from_skip])
        came[t] = ways.argmax(0)
        score = ways.max(0) + emissions[t]
    at = len(path) - (1 if score[-1] >= score[-2] else 2)
    spans = np.zeros((len(ids), 2), np.int64)
    for t in range(len(log_probs) - 1, -1, -1):
        if at % 2:
            spans[at // 2, 0] = t
            spans[at // 2, 1] = max(spans[at // 2, 1], t + 1)
        at -= int(came[t, at])
    return spans
