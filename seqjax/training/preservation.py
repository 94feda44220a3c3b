"""Which checkpoints stay, beside orbax's own policies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class NewestOf:
    """Keeps the newest checkpoints of one kind, as fairseq's `--keep-last-epochs` does.

    A preservation policy of orbax's.
    """

    n: int
    """How many (negative: all)."""
    kind: Callable[[int], bool]
    """Whether the checkpoint of an update is of the kind."""

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """One answer for each checkpoint, oldest first."""
        steps = [c.step for c in checkpoints if self.kind(c.step)]
        kept = set(steps if self.n < 0 else steps[max(len(steps) - self.n, 0):])
        return [c.step in kept for c in checkpoints]
