"""Whether two sides did the same work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.harness import BenchmarkError


def same_hypotheses(
    ours: dict[str, Any], theirs: dict[str, Any], *, name: str, least: float,
    skip_last: bool = False,
) -> str:
    """Compares best hypotheses token for token.

    Args:
      ours, theirs: results of `search(full=True)`.
      least: share that must be identical.
      skip_last: leave the last token out (a forced eos here, a word there).

    Raises:
      BenchmarkError: fewer agree.
    """
    pairs = list(zip(ours["best"], theirs["best"], strict=True))
    same = sum(_cut(a, skip_last) == _cut(b, skip_last) for a, b in pairs)
    text = f"{same} of {len(pairs)} best hypotheses token-identical to {name}'s"
    if same < least * len(pairs):
        first = next((a, b) for a, b in pairs if _cut(a, skip_last) != _cut(b, skip_last))
        raise BenchmarkError(f"only {text}; the first that differs: {first}")
    return text


def _cut(tokens: Sequence[int], skip_last: bool) -> list[int]:
    return list(tokens[:-1]) if skip_last else list(tokens)
