"""Being asked to stop: SIGTERM and Ctrl-C become a flag that the loop reads between updates."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import jax


class StopRequest:
    """While this context is active, SIGTERM and the first SIGINT set a flag.

    A second SIGINT interrupts at once. With several processes, SIGTERM is left to JAX,
    whose processes agree on the update at which they stop.
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            numbers = [signal.SIGINT]
            if jax.process_count() == 1:
                numbers.append(signal.SIGTERM)
            self._before = {n: signal.signal(n, self._asked) for n in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number).name

    def reached(self, step: int) -> bool:
        """Whether to stop before update `step` + 1; the same answer in all processes."""
        if jax.process_count() == 1:
            return self.signal is not None
        from jax.experimental import multihost_utils

        if multihost_utils.reached_preemption_sync_point(step):
            self.signal = "SIGTERM"
            return True
        return False
