"""Ctrl-C and SIGTERM of a verb: ended in order, with the exit statuses that shells expect.

    with signals.watched():
        with signals.advice("started again, it goes on from here"):
            ...                     # KeyboardInterrupt or Terminated, with that as a note

The first signal is acknowledged in any case, also while XLA compiles and Python cannot run
a handler, and becomes an exception in the main thread. A verb that does not come back within
`PATIENCE` seconds has nothing to put in order but a computation to wait for: it is ended.
`postponed()` says that there is something (training saves its state, however long that
takes). A second Ctrl-C ends the process at once, always.
"""

from __future__ import annotations

import _thread
import contextlib
import gc
import os
import signal
import sys
import threading
import typing
from collections.abc import Callable, Iterator
from types import FrameType

PATIENCE = 5.0
"""Seconds that the main thread has to come back after the first signal."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, as KeyboardInterrupt is Ctrl-C. It is one, since event loops let only that and
    SystemExit through: of any other exception asyncio would print the traceback and go on."""


_advice: list[tuple[str, Callable[[], None]]] = []
_postponed = 0
_received: int | None = None
_own = 0
"""Signals on their way that this module has sent itself."""


@contextlib.contextmanager
def advice(text: str, *, cleanup: Callable[[], None] = lambda: None) -> Iterator[None]:
    """What to tell somebody who ends this part of the work.

    Args:
      cleanup: called if the main thread does not come back to do it.
    """
    entry = (text, cleanup)
    _advice.append(entry)
    try:
        yield
    except KeyboardInterrupt as stop:  # Terminated is one
        stop.add_note(text)
        raise
    finally:
        _advice.remove(entry)


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """However long it takes, this part of the work is not cut off by one signal."""
    global _postponed
    _postponed += 1
    try:
        yield
    finally:
        _postponed -= 1


def status(number: int) -> int:
    """The exit status of a process that a signal ended: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + number


def number_of(stop: BaseException) -> int:
    """The signal that a KeyboardInterrupt stands for."""
    return signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT


def leave(code: int) -> typing.NoReturn:
    """Ends the process; without waiting for threads, which may be compiling for minutes."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    if any(t is not threading.main_thread() and not t.daemon for t in threading.enumerate()):
        os._exit(code)
    sys.exit(code)


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """While this context is active, signals do what the module says; in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    global _received
    _received = None
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    ended = threading.Event()
    before = {n: signal.signal(n, _raise) for n in (signal.SIGINT, signal.SIGTERM)}
    fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading, ended), name="signals", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writing)  # ends the thread


def received() -> int | None:
    """The first signal that came in while watched, if one did."""
    return _received


def _raise(number: int, frame: FrameType | None) -> None:
    if _would_be_lost(frame):
        again = threading.Timer(0.05, _send_again, [number])
        again.daemon = True
        again.start()
        return
    # What is cut off half made (asyncio's event loops, for one) complains when it is dropped.
    sys.unraisablehook = lambda unraisable: None
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def _would_be_lost(frame: FrameType | None) -> bool:
    """Whether an exception would not come through here: Python drops those of the garbage
    collector's callbacks and of finalizers, and extension modules make an ImportError of
    what happens while they are imported."""
    callbacks = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    while frame is not None:
        code = frame.f_code
        if (code in callbacks or code.co_name == "__del__"
                or code.co_filename == "<frozen importlib._bootstrap>"):
            return True
        frame = frame.f_back
    return False


def _send_again(number: int) -> None:
    global _own
    _own += 1  # not one that somebody has sent
    _thread.interrupt_main(signal.Signals(number))


def _watch(reading: int, ended: threading.Event) -> None:
    """Answers signals as they come in, whatever the main thread does."""
    global _received, _own
    while read := os.read(reading, 1):
        number = read[0]
        if number not in (signal.SIGINT, signal.SIGTERM):
            continue
        if _own:
            _own -= 1
            continue
        if _received is None:
            _received = number
            threading.Thread(target=_lose_patience, args=(number, ended), daemon=True).start()
        elif number == signal.SIGINT:
            _say("ended at once")
            os._exit(status(signal.SIGINT))
    os.close(reading)


def _lose_patience(number: int, ended: threading.Event) -> None:
    """Ends the process if the main thread does not."""
    if ended.wait(0.2):
        return
    _say(f"{signal.Signals(number).name}: ending in order; Ctrl-C (again) ends at once")
    if ended.wait(PATIENCE) or _postponed:
        return
    for text, cleanup in _advice[::-1]:
        with contextlib.suppress(Exception):
            cleanup()
        _say(text)
    os._exit(status(number))


def _say(line: str) -> None:
    # Not through sys.stderr, whose lock the main thread may hold.
    with contextlib.suppress(OSError):
        os.write(2, f"\n{line}\n".encode())
