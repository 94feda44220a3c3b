"""What the command lines of all verbs share: flags from dataclasses, errors, progress.

A verb's `main` goes into `run`; an exit status and one line on what went wrong come out.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import errno
import math
import os
import sys
import time
import typing
from collections.abc import Callable, Iterable
from typing import Any

from seqjax import console, signals
from seqjax.cli.completion import add_keys
from seqjax.cli.parser import COMPLETING, Parser
from seqjax.config import ConfigError, coerce
from seqjax.config.describing import field_docs
from seqjax.console import compiling, duration

__all__ = ["COMPLETING", "EXPECTED", "Parser", "Progress", "add_fields", "add_keys",
           "asked_fields", "duration", "field_docs", "given_fields", "python_dict", "run"]

Fields = typing.TypeVar("Fields")
_LEAST_SECONDS = 0.1
"""A rate needs some time to be one."""
_PAUSE = 0.05
"""Seconds without news after which what comes is another batch."""
EXPECTED = (ConfigError, ValueError, FileNotFoundError, IsADirectoryError, NotADirectoryError,
            PermissionError, ModuleNotFoundError)
"""Errors that say what is wrong with the input: shown without a traceback."""


def run(main: Callable[[], int | None]) -> typing.NoReturn:
    """Calls a verb's `main`; an expected error becomes one line and exit status 2, a signal
    130 (Ctrl-C) or 143 (SIGTERM)."""
    with signals.watched():
        try:
            status = _status(main)
        except BaseException as stop:
            # Where a signal came in, it is the reason, whatever became of its exception.
            number = signals.received()
            if isinstance(stop, KeyboardInterrupt):
                number = signals.number_of(stop)
            elif number is None or not isinstance(stop, Exception):
                raise
            for line in getattr(stop, "__notes__", ["interrupted"]):
                print(line, file=sys.stderr)
            status = signals.status(number)
        number = signals.received()
        if number is not None:
            signals.leave(signals.status(number))
    sys.exit(status)


def _status(main: Callable[[], int | None]) -> int:
    """Of `main`, or of the error that it ended with."""
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough; the rest must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except EXPECTED as error:
        return _explain(error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES):
            raise
        return _explain(error)
    return status or 0


def _explain(error: BaseException) -> int:
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    print(f"error: {text}", file=sys.stderr)
    if os.environ.get("SEQJAX_TRACEBACK"):
        raise error
    return 2


def python_dict(text: str) -> dict[str, Any]:
    """The value of a flag that takes a dict as Python writes it, as fairseq's do."""
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a dict as Python writes it: \"{{'key': 'value'}}\"")
    return found


def add_fields(
    parser: argparse._ActionsContainer, cls: type, *, leave_out: Iterable[str] = ()
) -> None:
    """A flag for every field of a dataclass, as fairseq spells it: `max_len_a` is
    `--max-len-a`. Flags that are not given are absent from the result."""
    hints, docs = typing.get_type_hints(cls), field_docs(cls)
    for field in dataclasses.fields(cls):
        if field.name in leave_out:
            continue
        flag = "--" + field.name.replace("_", "-")
        default = f"(default {field.default})".replace("%", "%%")
        text = f"{docs.get(field.name, '')} {default}".replace("`", "").strip()
        if hints[field.name] is bool:
            parser.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text
            )
            continue
        parser.add_argument(
            flag, default=argparse.SUPPRESS, help=text, metavar="X",
            type=_typed(hints[field.name], flag),
        )


def _typed(annotation: Any, flag: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return coerce(text, annotation, flag)
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


def given_fields(arguments: argparse.Namespace, cls: type) -> dict[str, Any]:
    """The fields of `cls` whose flags were given."""
    names = {field.name for field in dataclasses.fields(cls)}
    return {k: v for k, v in vars(arguments).items() if k in names}


def asked_fields(arguments: argparse.Namespace, cls: type[Fields]) -> Fields:
    """`cls` as the flags say it, with its own defaults where they were not given."""
    return cls(**given_fields(arguments, cls))


class Progress:
    """A line on stderr that says how far, how fast and how long still.

    On a terminal it is one line that changes; elsewhere a line every `seconds`. Time in which
    programs are compiled is no part of it. Results come batch by batch: while those of the first
    one come in, how many there are of how many says nothing of the rate.
    """

    def __init__(self, total: int, *, unit: str, done: int = 0, seconds: float = 10.0):
        self.total, self.unit, self.done = total, unit, done
        self._first, self._start, self._shown = done, self._now(), time.monotonic()
        self._arrived, self._batches = -math.inf, 0
        self._live = console.live()
        self._every = 0.2 if self._live else seconds

    def add(self, count: int) -> None:
        """`count` more are done."""
        self.done += count
        now = time.monotonic()
        self._batches += now - self._arrived > _PAUSE
        self._arrived = now
        if now - self._shown >= self._every:
            self._shown = now
            line = self._line()
            if self._live:
                console.status(line)
            else:
                console.say(console.fit(line, 80))

    def close(self) -> None:
        """Shows the final state."""
        console.say(console.fit(self._line(), None if self._live else 80))

    @staticmethod
    def _now() -> float:
        return time.monotonic() - compiling.seconds()

    def _line(self) -> str:
        seconds = max(self._now() - self._start, 0.0)
        count = self.done - self._first
        known = count > 0 and seconds >= _LEAST_SECONDS and (
            self._batches > 1 or self.done >= self.total)
        rate = f"{count / seconds:.1f}/s" if known else "?/s"
        if self.done >= self.total:
            return f"{self.done}/{self.total} {self.unit} in {duration(seconds)}, {rate}"
        left = (self.total - self.done) * seconds / count if known else math.inf
        return f"{self.done}/{self.total} {self.unit}, {rate}, {duration(left)} left"
