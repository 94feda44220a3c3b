"""One writer at a time: a lock on a work folder or an output, which names its holder.

    with locking.hold(f"{workdir}/train.lock", what=workdir):
        ...                                   # LockedError where another process has it

The lock is the operating system's (`flock`), so it is free the moment its holder ends,
however it ends: nothing has to be cleaned up after a killed process. The file's text says
who holds it. Where the system's lock cannot be relied on (file systems that do not pass it
on to other machines, systems without `flock`), the holder's sign of life counts: it
touches the file every `BEAT` seconds. A file of another machine that is touched is held;
one that stays untouched for `SILENCE` seconds belongs to a dead process and is taken over,
with a line that says so.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import pathlib
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from seqjax.config import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

BEAT = 10.0
"""Seconds between two signs of life of a holder."""
SILENCE = 60.0
"""Seconds without one after which a holder on another machine counts as dead."""
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class LockedError(ConfigError):
    """Another process writes there; the message names it and says what to do."""


def output_lock(path: str | os.PathLike[str]) -> str:
    """The lock file of an output: `OUTPUT.lock`, one for all names of its folder."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), f"{name}.lock")


@contextlib.contextmanager
def hold(
    path: str | os.PathLike[str], *, what: str, say: Callable[[str], None] | None = None
) -> Iterator[Lock]:
    """Holds the lock of `path`, which is made and, at the end, removed.

    Args:
      what: what it protects, for messages.
      say: takes a line about waiting for, or taking over, a silent holder's lock (default:
        stderr).

    Raises:
      LockedError: another process holds it.
    """
    lock = Lock(pathlib.Path(path), what=what, say=say or _to_stderr)
    lock.acquire()
    try:
        yield lock
    finally:
        lock.release()


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Lock:
    """See `hold`."""

    def __init__(self, path: pathlib.Path, *, what: str, say: Callable[[str], None]) -> None:
        self._path, self._what, self._say = path, what, say
        self._file: int | None = None
        self._about = {
            "host": socket.gethostname(), "pid": os.getpid(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S %z"), "machine": _machine(),
            "token": secrets.token_hex(8),
        }
        self._ended = threading.Event()
        self._lost: dict[str, Any] | None = None

    def acquire(self) -> None:
        """Raises LockedError if it is another's."""
        while True:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
            try:
                if self._take(file):
                    break
            except BaseException:
                os.close(file)
                raise
            os.close(file)  # its holder removed it in between
        self._file = file
        self._write(file)
        threading.Thread(target=self._live, name="lock", daemon=True).start()

    def _take(self, file: int) -> bool:
        """Whether `file` is locked and still what the path names."""
        exclusive = self._flock(file)
        holder = _read(file)
        # The system's word is enough among the processes of one machine.
        if holder and not (exclusive and holder.get("machine") == self._about["machine"]):
            self._wait_for_silence(file, holder)
        try:
            return os.path.samestat(os.fstat(file), os.stat(self._path))
        except FileNotFoundError:
            return False

    def _flock(self, file: int) -> bool:
        """Whether the system's lock was taken (False: it has none for this file)."""
        if fcntl is None:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return False
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise self._refusal(_read(file)) from None
        return True

    def _wait_for_silence(self, file: int, holder: dict[str, Any]) -> None:
        """Returns when the holder has given no sign of life for long enough."""
        seen = os.fstat(file).st_mtime_ns
        quiet = _age(file, self._path)
        if quiet < SILENCE:
            self._say(f"{self._path}: held by {_name(holder)}; waiting up to {SILENCE - quiet:.0f} "
                      "s for a sign of life")
        until = time.monotonic() + SILENCE - quiet
        while time.monotonic() < until:
            time.sleep(min(0.2, SILENCE / 10))
            try:
                again = os.open(self._path, os.O_RDONLY)  # opened anew: nothing remembered
            except FileNotFoundError:
                return  # given back
            try:
                if os.fstat(again).st_mtime_ns != seen:
                    raise self._refusal(_read(again) or holder)
            finally:
                os.close(again)
        self._say(f"{self._path}: taken over from {_name(holder)}, which has given no sign of "
                  f"life for {SILENCE:.0f} s")

    def _refusal(self, holder: dict[str, Any]) -> LockedError:
        end = ""
        if holder.get("machine") == self._about["machine"]:
            end = f" (kill {holder.get('pid')})"
        return LockedError(
            f"{self._what}: in use by {_name(holder)}. Wait until it ends, end it{end}, or name "
            f"another place; the lock is {self._path}")

    def _write(self, file: int) -> None:
        os.ftruncate(file, 0)
        os.lseek(file, 0, os.SEEK_SET)
        os.write(file, (json.dumps(self._about) + "\n").encode())

    def _live(self) -> None:
        while not self._ended.wait(BEAT):
            with contextlib.suppress(OSError, ValueError):
                now = json.loads(self._path.read_text())
                if now.get("token") != self._about["token"]:
                    self._lost = now
                    return
                os.utime(self._path)

    def check(self) -> None:
        """Raises LockedError if the lock was taken over, by a process that saw no sign of
        life of this one (which was suspended, or lost its file system, for a while)."""
        if self._lost is not None:
            raise LockedError(f"{self._what}: taken over by {_name(self._lost)} while this process "
                              "gave no sign of life; it stops")

    def release(self) -> None:
        """Gives it back."""
        self._ended.set()
        file, self._file = self._file, None
        if file is None:
            return
        with contextlib.suppress(OSError):
            # Removed while it is still held: whoever waits for it finds another file there.
            if _read(file).get("token") == self._about["token"] and self._lost is None:
                os.unlink(self._path)
        os.close(file)


def _read(file: int) -> dict[str, Any]:
    """What the file says of its holder; nothing if it is being written."""
    try:
        os.lseek(file, 0, os.SEEK_SET)
        found = json.loads(os.read(file, 4096))
    except (ValueError, OSError):
        return {}
    return found if isinstance(found, dict) else {}


def _name(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    return (f"process {holder.get('pid')} on {holder.get('host')} "
            f"(since {holder.get('since')})")


def _age(file: int, path: pathlib.Path) -> float:
    """Seconds since the file was touched, by the clock of its file system."""
    probe = path.with_name(f".{path.name}{os.getpid()}")
    try:
        probe.touch()
        now = probe.stat().st_mtime
        return max(0.0, now - os.fstat(file).st_mtime)
    except OSError:
        return 0.0
    finally:
        probe.unlink(missing_ok=True)


@functools.cache
def _machine() -> str:
    """What tells machines apart: names alone do not (containers, `localhost`)."""
    try:
        return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()
