"""Where the numbers go: the console, `train.log`, `metrics.jsonl`, TensorBoard curves.

On a terminal one line changes as training goes on; elsewhere there is a line per interval.
`train.log` has every line of the console but that one, of all runs in the folder. Only the
first process writes.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import pathlib
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from seqjax.console import columns, compiling, duration, fit, wrapped
from seqjax.training import console_log
from seqjax.training.metrics import Declared, shown

__all__ = ["Curves", "Reporter", "duration"]

_STAMP = "00:00:00 "
"""What stands in front of every line on the console."""


class Reporter:
    """Writes what is reported; a context manager."""

    def __init__(
        self, workdir: str | os.PathLike[str], *, tensorboard: bool, resumed_at: int = 0,
        active: bool = True, stream: TextIO | None = None,
    ) -> None:
        """
        Args:
          tensorboard: write curves too, if the package `tensorboard` is installed.
          resumed_at: see `begin`, which the first numbers call if nobody has.
          active: false in all but one process.
        """
        self._stream = stream or sys.stderr
        self._live = active and self._stream.isatty()
        self._active, self._status, self._json, self._curves = active, "", None, None
        self._folder, self._tensorboard = pathlib.Path(workdir), tensorboard
        self._resumed_at, self._begun = resumed_at, False
        self._log = console_log.ConsoleLog(self._folder / "train.log") if active else None

    def begin(self, *, resumed_at: int) -> None:
        """Opens what keeps the numbers.

        Args:
          resumed_at: updates of the checkpoint that is continued; lines about later ones
            are of a run that was cut off and are dropped.
        """
        if not self._active or self._begun:
            return
        self._begun = True
        file = self._folder / "metrics.jsonl"
        if file.is_file():
            kept = [line for line in file.read_text().splitlines() if _update(line) <= resumed_at]
            file.write_text("".join(line + "\n" for line in kept))
        self._json = file.open("a", buffering=1)
        if not self._tensorboard:
            return
        if importlib.util.find_spec("tensorboard"):
            self._curves = Curves(self._folder / "tensorboard")
        else:
            self.say("no TensorBoard curves: the package is not installed (pip install "
                     "tensorboard; config.log.tensorboard=false leaves out this line)")

    def __enter__(self) -> Reporter:
        if self._log is not None:
            self._log.listen(self.say)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, *_: object) -> None:
        self._clear()
        self._active = self._live = False  # a validation that was left off may go on talking
        if self._log is not None:
            self._log.close(error)
            self._log = None
        if self._json is not None:
            self._json.close()
        if self._curves is not None:
            self._curves.close()

    def compilation(self) -> compiling.Display:
        """Says here what is being compiled."""
        return compiling.Display(say=self.say, status=self.status, live=lambda: self._live,
                                 clear=lambda text: self._clear() if text else None)

    @property
    def live(self) -> bool:
        """Whether someone watches the line change."""
        return self._live

    def say(self, text: str, *, fields: bool = False) -> None:
        """A line for people, or several, with the time of day; on a terminal one of `fields`
        is broken between them."""
        if self._active:
            self._clear()
            now = time.localtime()
            room = columns() - len(_STAMP)
            lines = wrapped(text, room) if fields and self._live else text
            print(console_log.stamped(lines, now, "%H:%M:%S"), file=self._stream, flush=True)
            if self._log is not None:
                self._log.write(text, now)

    def status(self, text: str) -> None:
        """The line that changes; on a terminal only."""
        if self._live:
            self._clear()
            self._status = fit(text)
            print(self._status, end="", file=self._stream, flush=True)

    def train(
        self, head: str, values: Mapping[str, float], *, declared: Declared, line: bool = True
    ) -> None:
        """Numbers of an interval of training: `epoch 001:  100 / 1102 loss=..., ...`.

        Args:
          declared: see `metrics.shown`.
        """
        text = f"{head} " + ", ".join(f"{k}={v}" for k, v in shown(values, declared).items())
        if line:
            self.say(text, fields=True)
            self.record("train_inner", values)
        else:
            self.status(text)

    def summary(
        self, group: str, head: str, values: Mapping[str, float], *, declared: Declared
    ) -> None:
        """Numbers of an epoch or a validation: `epoch 001 | loss 5.1 | ...`.

        Args:
          declared: see `metrics.shown`.
        """
        text = [f"{k} {v}" for k, v in shown(values, declared).items()]
        self.say(" | ".join([head, *text]), fields=True)
        self.record(group, values)

    def record(self, group: str, values: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl and points of the curves."""
        self.begin(resumed_at=self._resumed_at)
        if self._json is not None:
            plain = {k: _plain(v) for k, v in values.items()}
            self._json.write(json.dumps({"group": group, "time": round(time.time(), 3), **plain})
                             + "\n")
        if self._curves is not None:
            self._curves.add(group, values, step=int(values.get("num_updates", 0)))

    def _clear(self) -> None:
        if self._status:
            print("\r\x1b[K", end="", file=self._stream)
            self._status = ""


def _update(line: str) -> float:
    try:
        return float(json.loads(line).get("num_updates", 0))
    except (json.JSONDecodeError, AttributeError):
        return math.inf  # cut off in the middle


def _plain(value: Any) -> Any:
    """JSON has no infinities; they become text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value


class Curves:
    """TensorBoard event files, through `tensorboard`'s own record writer.

    Its EventFileWriter would import TensorFlow where that is installed; this does not.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        events: Any = event_pb2
        summaries: Any = summary_pb2
        self._event, self._summary = events.Event, summaries.Summary
        folder.mkdir(parents=True, exist_ok=True)
        now = int(time.time())
        name = f"events.out.tfevents.{now:010d}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("ab", buffering=0)
        self._writer = RecordWriter(self._file)
        self._write(self._event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, group: str, values: Mapping[str, Any], *, step: int) -> None:
        """A point per number, under `group/name`."""
        points = [
            self._summary.Value(tag=f"{group}/{name}", simple_value=float(value))
            for name, value in values.items()
            if isinstance(value, (int, float)) and name not in ("num_updates", "epoch")
        ]
        summary = self._summary(value=points)
        self._write(self._event(wall_time=time.time(), step=step, summary=summary))

    def _write(self, event: Any) -> None:
        self._writer.write(event.SerializeToString())

    def close(self) -> None:
        """Flushes and closes."""
        self._writer.flush()
        self._file.close()
