"""What XLA compiles, said while it does: how many programs of how many, which, for how long.

One program gives no sign of life while it is compiled, which may be minutes; so a thread
speaks for it, every ten seconds, or many times a second where a terminal's line can change.
JAX tells when it begins and ends (`jax.monitoring`), whoever asked for the program. What
takes less than two seconds is not mentioned.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from seqjax import console

FIRST = 2.0
"""Seconds before anything is said."""
EVERY = 10.0
"""Seconds between two lines where lines do not change."""
_TICK, _GAP = 0.1, 0.4
_PREFIX = "/jax/core/compile/"
_COUNTED = 0.1
"""Seconds; quicker programs (a conversion, a copy) are not counted."""

_NAMES = {
    "begin": "encoder", "chunk": "search", "grow": "search of longer outputs",
    "move": "moving of sentences", "prepare": "layout of the weights",
    "eval step": "loss", "train step": "update", "batch": "scores",
    "initial state": "first weights", "mean log probs": "log-probabilities",
}
"""What functions of ours are to people; others go by their own names."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Display:
    """Where it is said."""

    say: Callable[[str], None] = console.say
    status: Callable[[str], None] = console.status
    clear: Callable[[str], None] = console.clear
    live: Callable[[], bool] = console.live


class _Watch:
    """What is being compiled in this process, in all threads."""

    def __init__(self) -> None:
        self.display: Display | None = None
        self.hidden = False
        self.listening = False
        self._lock = threading.Lock()
        self._own = threading.local()
        self._active: dict[int, str] = {}
        self._busy_since = self._idle_since = 0.0
        self._since = 0.0
        """Start of what is spoken of."""
        self._total = 0.0
        self._planned = self._done = self._counted = self._before = 0
        self._conclude = True
        self._thread: threading.Thread | None = None
        self._leaving = threading.Event()

    def listen(self) -> None:
        """Has JAX tell; once a process."""
        import jax.monitoring

        with self._lock:
            if self.listening:
                return
            self.listening = True
        jax.monitoring.register_scalar_listener(self._begun)
        jax.monitoring.register_event_duration_secs_listener(self._ended)
        atexit.register(self._leave)

    def _begun(self, event: str, value: float, **about: Any) -> None:
        if not event.startswith(_PREFIX):
            return
        self._own.depth = getattr(self._own, "depth", 0) + 1
        if self._own.depth > 1:
            return
        with self._lock:
            if not self._active:
                self._busy_since = time.monotonic()
            self._active[threading.get_ident()] = _name(str(about.get("fun_name", "")))
            if self._thread is None and self.display is not None:
                self._thread = threading.Thread(target=self._tell, daemon=True)
                self._thread.start()

    def _ended(self, event: str, duration_secs: float, **about: Any) -> None:
        if not event.startswith(_PREFIX) or not getattr(self._own, "depth", 0):
            return
        self._own.depth -= 1
        with self._lock:
            if event.endswith("backend_compile_duration") and duration_secs >= _COUNTED:
                self._counted += 1
            if self._own.depth:
                return
            self._active.pop(threading.get_ident(), None)
            if not self._active:
                self._idle_since = time.monotonic()
                self._total += self._idle_since - self._busy_since

    def seconds(self) -> float:
        with self._lock:
            running = time.monotonic() - self._busy_since if self._active else 0.0
            return self._total + running

    def plan(self, count: int, *, conclude: bool) -> None:
        with self._lock:
            if 0 < self._planned <= self._done:  # of another job, that is over
                self._planned, self._done = 0, 0
                self._since, self._before = time.monotonic(), self._counted
            self._planned += count
            self._conclude = conclude

    def finish(self) -> None:
        with self._lock:
            self._done += 1

    def unplan(self) -> None:
        with self._lock:
            self._planned = self._done = 0

    def _leave(self) -> None:
        self._leaving.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def _tell(self) -> None:
        """The thread: speaks until nothing is compiled any more."""
        said, text = 0.0, ""
        with self._lock:
            self._before, self._since = self._counted, time.monotonic()
        while not self._leaving.wait(_TICK):
            now, display = time.monotonic(), self.display
            with self._lock:
                names = sorted(set(self._active.values()) - {""})
                busy, done, planned = bool(self._active), self._done, self._planned
                began = self._since
                over: tuple[int, float, bool] | None = None
                if not busy and now - self._idle_since > _GAP:
                    self._thread = None  # the next program gets a thread of its own
                    over = (max(self._counted - self._before, done), self._idle_since - began,
                            self._conclude)
                    if done >= planned:
                        self._planned, self._done, self._conclude = 0, 0, True
            if over is not None:
                count, seconds, conclude = over
                if display is not None:
                    display.clear(text)
                    if said and conclude:
                        display.say(f"compiled {_programs(max(count, 1))} in {seconds:.1f} s")
                return
            if display is None or not busy or now - began < FIRST:
                continue
            text = _line(done, planned, names, now - began)
            if display.live():
                display.status(text)
                said = now
            elif not said or now - said >= EVERY:
                display.say(text)
                said = now


def _name(function: str) -> str:
    """`jit(_chunk)` -> `search`."""
    bare = function.removeprefix("jit(").removesuffix(")").strip("_<>").replace("_", " ")
    return "" if bare == "lambda" else _NAMES.get(bare, bare)


def _programs(count: int) -> str:
    return f"{count} program" + ("s" if count != 1 else "")


def _line(done: int, planned: int, names: list[str], seconds: float) -> str:
    which = f" ({' and '.join(names)})" if names else ""
    if planned > done:
        return f"compiling: {done} of {_programs(planned)} done{which}, {seconds:.0f} s"
    return f"compiling another program{which}, {seconds:.0f} s" if planned else (
        f"compiling{which}, {seconds:.0f} s")


_watch = _Watch()


def show(display: Display | None = None) -> None:
    """From now on, whatever is compiled in this process is said on stderr, if nobody else
    shows it already and it was not hidden."""
    _watch.listen()
    if _watch.display is None and not _watch.hidden:
        _watch.display = display or Display()


def hide(*, until_shown: bool = False) -> None:
    """Nothing of it is said in this process from now on.

    Args:
      until_shown: until `show` is called again; else `show` changes nothing any more.
    """
    _watch.display, _watch.hidden = None, not until_shown


@contextlib.contextmanager
def shown(display: Display) -> Iterator[None]:
    """Has it said elsewhere."""
    _watch.listen()
    before, _watch.display = _watch.display, display
    try:
        yield
    finally:
        _watch.display = before


def seconds() -> float:
    """Time in which something was compiled, up to now, since somebody first asked: what
    clocks of a job leave out."""
    _watch.listen()
    return _watch.seconds()


@contextlib.contextmanager
def planned(count: int, *, conclude: bool = True) -> Iterator[Callable[[], None]]:
    """While `count` programs are compiled, calling what it gives after each.

    Args:
      conclude: say at the end how many there were and how long they took.
    """
    _watch.plan(count, conclude=conclude)
    try:
        yield _watch.finish
    except BaseException:
        _watch.unplan()
        raise
