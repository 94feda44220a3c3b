"""A side for tests of the benchmark harness; imports nothing that takes time."""

from __future__ import annotations

from typing import Any


class Side:
    """Does `rate` units of work a call."""

    def __init__(self, *, rate: int):
        self.rate = rate

    def go(self, *, times: int) -> dict[str, Any]:
        print("this goes to standard error")
        return {"work": self.rate * times}

    def fail(self) -> None:
        raise ValueError("deliberate")
