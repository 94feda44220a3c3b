"""How a model's outputs begin and end: `TargetForm`, which tasks give and searches go by."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetForm:
    """Ids of target tokens with a meaning of their own; of one direction of a task."""

    start: int
    """What the decoder reads before the first token: eos as a rule, a language token, ..."""
    first: tuple[int, ...] = ()
    """Tokens that every output begins with: a language token that is forced."""
    eos: int
    """What ends an output."""
