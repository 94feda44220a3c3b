"""`train.log`: what the console says, kept in the work folder.

Runs that go on in one folder append to it. What libraries and our other modules say through
`warnings` and `logging` is said, and kept, too. Lines that change on a terminal are not.
"""

from __future__ import annotations

import logging
import pathlib
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from seqjax.config import ConfigError

LOGGERS = ("seqjax",)
"""Whose warnings are said like other lines."""


def stamped(text: str, now: time.struct_time, form: str) -> str:
    """Every line of `text` behind the time."""
    stamp = time.strftime(form, now)
    return "\n".join(f"{stamp} {line}" for line in text.split("\n"))


class ConsoleLog:
    """The file, and the ear for what others say."""

    def __init__(self, file: pathlib.Path) -> None:
        self._file = file.open("a", encoding="utf-8", buffering=1)
        self._handler: _Handler | None = None
        self._showwarning: Any = None

    def write(self, text: str, now: time.struct_time | None = None) -> None:
        """Lines, with date and time."""
        if not self._file.closed:
            self._file.write(stamped(text, now or time.localtime(), "%Y-%m-%d %H:%M:%S") + "\n")

    def listen(self, say: Callable[[str], None]) -> None:
        """From now on, warnings of ours and of Python's are passed to `say`."""
        self._handler = _Handler(say)
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self._handler)
        self._showwarning = show = warnings.showwarning

        def showwarning(
            message: Any, category: Any, filename: Any, lineno: Any, file: Any = None,
            line: Any = None,
        ) -> None:
            if file is None:
                say(f"warning: {message}")
            else:
                show(message, category, filename, lineno, file, line)

        warnings.showwarning = showwarning

    def close(self, error: BaseException | None) -> None:
        """Keeps what ended the run, if something did, and lets go of the file."""
        if self._handler is not None:
            for name in LOGGERS:
                logging.getLogger(name).removeHandler(self._handler)
            warnings.showwarning = self._showwarning
        if isinstance(error, (ConfigError, ValueError, OSError)):
            self.write(f"error: {error}")
        elif isinstance(error, Exception):
            self.write("".join(traceback.format_exception(error)).rstrip("\n"))
        elif error is not None:
            names = {"KeyboardInterrupt": "SIGINT", "Terminated": "SIGTERM"}
            kind = type(error).__name__
            self.write(f"ended by {names.get(kind, kind)} before its first update")
        self._file.close()


class _Handler(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(f"{record.levelname.lower()}: {record.getMessage()}")
