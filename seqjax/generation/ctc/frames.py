"""Log-probabilities of frames to the few numbers that a prefix search looks at.

Most frames of a trained CTC model are blank and nothing else. A run of such frames only moves
every hypothesis' probability to "ends in blank", so it becomes one addition in front of the next
frame that says more; and of those frames only tokens above the threshold are kept. With no
threshold nothing is left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

NO_TOKEN = -1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frames:
    """B rows of at most T frames that say more than blank, each with at most N tokens."""

    tokens: np.ndarray
    """[B, T, N] int32 ids without the blank, `NO_TOKEN` behind the last."""
    log_probs: np.ndarray
    """[B, T, N] float32 natural logarithms, -inf behind the last."""
    blank: np.ndarray
    """[B, T] float32: of the blank."""
    blanks_before: np.ndarray
    """[B, T] float32: the sum over frames of blank alone in front of this one."""
    only_blank_before: np.ndarray
    """[B, T] bool: there is such a frame."""
    used: np.ndarray
    """[B, T] bool."""
    blanks_after: np.ndarray
    """[B] float32: the sum over frames of blank alone behind the last."""
    times: np.ndarray
    """[B, T] int32: which frame of the model's this is."""

    def rows(self, rows: Sequence[int] | np.ndarray) -> Frames:
        """Some of the rows."""
        chosen = np.asarray(rows)
        return Frames(**{field.name: getattr(self, field.name)[chosen]
                         for field in dataclasses.fields(self)})


def select_tokens(
    log_probs: np.ndarray, *, token_min_logp: float, beam_size_token: int | None,
) -> np.ndarray:
    """Which entries of [T, V] a search looks at; always the best of each frame."""
    keep = log_probs >= token_min_logp
    if beam_size_token is not None and beam_size_token < log_probs.shape[1]:
        least = np.partition(log_probs, -beam_size_token, axis=1)[:, -beam_size_token]
        keep &= log_probs >= least[:, None]
    keep &= log_probs > -np.inf
    keep[np.arange(len(keep)), log_probs.argmax(1)] = True
    return keep


def frames(
    rows: Sequence[np.ndarray], *, blank: int, token_min_logp: float = -np.inf,
    beam_size_token: int | None = None,
) -> Frames:
    """The frames of some utterances.

    Args:
      rows: [frames, V] log-probabilities of each (natural logarithm).
      blank: the id of the blank.
      token_min_logp: tokens below are not looked at, unless they are a frame's best.
      beam_size_token: at most so many tokens of a frame are (fairseq's; ties stay).
    """
    kept = [select_tokens(row, token_min_logp=token_min_logp, beam_size_token=beam_size_token)
            if len(row) else row.astype(bool) for row in rows]
    for keep in kept:
        keep[:, blank] = False  # it is there in every frame, by itself
    counts = [keep.sum(1) for keep in kept]
    b = len(rows)
    t = max(1, *(int((count > 0).sum()) for count in counts))
    n = max(1, *(int(count.max(initial=0)) for count in counts))
    out = Frames(
        tokens=np.full((b, t, n), NO_TOKEN, np.int32),
        log_probs=np.full((b, t, n), -np.inf, np.float32), blank=np.zeros((b, t), np.float32),
        blanks_before=np.zeros((b, t), np.float32), only_blank_before=np.zeros((b, t), bool),
        used=np.zeros((b, t), bool), blanks_after=np.zeros(b, np.float32),
        times=np.zeros((b, t), np.int32))
    for i, (row, keep, count) in enumerate(zip(rows, kept, counts, strict=True)):
        _fill(out, i, row, keep=keep, count=count, blank=blank)
    return out


def _fill(
    out: Frames, i: int, row: np.ndarray, *, keep: np.ndarray, count: np.ndarray, blank: int,
) -> None:
    """Row `i` of `out`."""
    says = np.flatnonzero(count > 0)
    alone = np.where(count > 0, 0.0, row[:, blank])
    sums = np.concatenate([[0.0], np.cumsum(alone, dtype=np.float64)])
    before = np.diff(sums[says], prepend=0.0)
    used = len(says)
    at, token = np.nonzero(keep[says])
    slot = np.arange(len(at)) - np.repeat(np.cumsum(count[says]) - count[says], count[says])
    out.tokens[i, at, slot] = token
    out.log_probs[i, at, slot] = row[says[at], token]
    out.blank[i, :used] = row[says, blank]
    out.blanks_before[i, :used] = before
    out.only_blank_before[i, :used] = np.diff(says, prepend=-1) > 1
    out.used[i, :used] = True
    out.blanks_after[i] = sums[-1] - (sums[says[-1]] if used else 0.0)
    out.times[i, :used] = says
