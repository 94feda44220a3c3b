"""Being asked to stop: SIGTERM and Ctrl-C become a flag that the loop reads between updates."""

from __future__ import annotations

import contextvars
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

import jax

from seqjax import signals

Result = TypeVar("Result")


class StopRequest:
    """While this context is active, SIGTERM and the first SIGINT set a flag.

    A second SIGINT interrupts at once. With several processes, SIGTERM is left to JAX,
    whose processes agree on the update at which they stop.
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        self._before: dict[int, Any] = {}
        self._asked_for = threading.Event()
        self._postponed = signals.postponed()

    def __enter__(self) -> StopRequest:
        self._postponed.__enter__()
        if threading.current_thread() is threading.main_thread():
            numbers = [signal.SIGINT]
            if jax.process_count() == 1:
                numbers.append(signal.SIGTERM)
            self._before = {n: signal.signal(n, self._asked) for n in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._postponed.__exit__(None, None, None)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number).name
        self._asked_for.set()

    @property
    def number(self) -> int | None:
        """Of the signal that was received."""
        return None if self.signal is None else signal.Signals[self.signal].value

    def unless_asked(self, function: Callable[[], Result]) -> Result | None:
        """What `function` returns; None as soon as a signal comes in before it does.

        It works in a thread of its own, which a signal leaves alone with what it does: an
        XLA compilation cannot be cut off, and must not keep the state from being saved.
        Several processes finish it together in any case.
        """
        if jax.process_count() > 1 or not self._before:
            return function()
        found: list[Result] = []
        error: list[BaseException] = []

        def work() -> None:
            try:
                found.append(context.run(function))
            except BaseException as e:
                error.append(e)
            finally:
                ended.set()

        ended, context = threading.Event(), contextvars.copy_context()
        threading.Thread(target=work, name="validation").start()
        while not (ended.wait(0.05) or self._asked_for.is_set()):
            pass
        if error:
            raise error[0]
        return found[0] if found else None

    def reached(self, step: int) -> bool:
        """Whether to stop before update `step` + 1; the same answer in all processes."""
        if jax.process_count() == 1:
            return self.signal is not None
        from jax.experimental import multihost_utils

        if multihost_utils.reached_preemption_sync_point(step):
            self.signal = "SIGTERM"
            return True
        return False
