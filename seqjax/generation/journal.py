"""What an unfinished decoding job has found so far, on disk.

Results as plain data go in, lines of JSON come of them; a job that starts again reads them
back and decodes what is missing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import sys
from collections.abc import Iterable
from typing import Any


class Journal:
    """Finished sentences of an unfinished job: one JSON line each, after a line that says
    of which job. Of a file that was damaged or torn, the lines that are whole are kept.

    The journal of another job is never written over: it gets another name, `PATH.1`, and
    that job goes on from there when it is started again.
    """

    def __init__(self, path: str, found: dict[int, list[dict[str, Any]]]) -> None:
        self.path, self.found = path, found
        self._file = open(path, "a", encoding="utf-8")

    @classmethod
    def open(cls, path: str, *, header: str, total: int) -> Journal:
        """Goes on with the file of the same job, or begins one.

        Args:
          path: the journal; `path`.1, `path`.2, ... are those of other jobs.
          header: one line that tells jobs apart.
          total: sentences of the job.
        """
        # Whoever makes sure that no second process works on the same output does so here:
        # from now on files are renamed and written.
        here = _read(path)
        if here is not None and here.header != header:
            _keep(path, here, header)
            here = None
        if here is None:
            other = next((p for p in _others(path) if _header(p) == header), None)
            if other is not None:
                os.replace(other, path)
                here = _read(path)
        if here is None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(header + "\n")
            return cls(path, {})
        found = {i: hypotheses for i, hypotheses in here.found.items() if i < total}
        if here.damaged:
            write_whole(path, [header + "\n", *(_line(i, h) for i, h in found.items())])
        more = f" ({here.damaged} damaged lines are done again)" if here.damaged else ""
        print(f"{path}: {len(found)} of {total} sentences are done already{more}",
              file=sys.stderr)
        return cls(path, found)

    def add(self, index: int, hypotheses: list[dict[str, Any]]) -> None:
        """Keeps one sentence's result."""
        self._file.write(_line(index, hypotheses))
        self._file.flush()

    def close(self) -> None:
        """Lets go of the file; what is in it stays."""
        self._file.close()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Content:
    """What a journal's file says."""

    header: str
    found: dict[int, list[dict[str, Any]]]
    damaged: int
    """Lines that say nothing, a torn last one included."""
    size: int


def _read(path: str) -> _Content | None:
    """None where there is no file."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        return None
    first, *lines = content.split(b"\n")
    found: dict[int, list[dict[str, Any]]] = {}
    damaged = int(not lines)  # not even the header is whole
    last = lines.pop() if lines else b""  # what follows the last newline
    for line in [*lines, *([last] if last else [])]:
        entry = None if line is last else _entry(line)
        if entry is None:
            damaged += 1
        else:
            found[entry[0]] = entry[1]
    return _Content(header=first.decode("utf-8", "replace"), found=found, damaged=damaged,
                    size=len(content))


def _entry(line: bytes) -> tuple[int, list[dict[str, Any]]] | None:
    """A sentence's number and result, None for a line that is damaged."""
    try:
        entry = json.loads(line)
        index, hypotheses = entry["id"], entry["hypotheses"]
    except (ValueError, KeyError, TypeError):
        return None
    whole = isinstance(index, int) and index >= 0 and isinstance(hypotheses, list) and all(
        isinstance(h, dict) and {"tokens", "score", "text", "positional_scores"} <= h.keys()
        for h in hypotheses)
    return (index, hypotheses) if whole else None


def _header(path: str) -> str | None:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.readline().rstrip(b"\n").decode("utf-8", "replace")
    return None


def _others(path: str) -> list[str]:
    """Journals of other jobs for the same output, the first ones first."""
    folder, name = os.path.split(os.path.abspath(path))
    numbers = [int(m[1]) for other in os.listdir(folder)
               if (m := re.fullmatch(re.escape(name) + r"\.(\d+)", other))]
    return [f"{path}.{number}" for number in sorted(numbers)]


def _keep(path: str, content: _Content, header: str) -> None:
    """Gives the journal of another job another name, and says so; one that holds nothing is
    nothing to keep."""
    if content.size == 0 or (not content.found and not content.damaged
                             and _values(content.header) is not None):
        return
    number = 1
    while os.path.exists(f"{path}.{number}"):
        number += 1
    os.rename(path, f"{path}.{number}")
    print(f"{path}: holds {len(content.found)} finished sentences of another job"
          f"{_difference(content.header, header)}; kept as {path}.{number}, where that job goes "
          "on when it is started again", file=sys.stderr)


def _difference(there: str, here: str) -> str:
    """` (beam 4 there, 5 here)`: what tells two jobs apart, where that is short."""
    a, b = _values(there), _values(here)
    if a is None or b is None:
        return ""
    names = [key for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)]

    def shown(values: dict[str, Any], key: str) -> str:
        text = str(values.get(key, "not given"))
        return text if len(text) <= 60 else text[:57] + "..."

    parts = ["the inputs are others" if key == "inputs" else
             f"{key} {shown(a, key)} there, {shown(b, key)} here" for key in names]
    return f" ({'; '.join(parts[:3])})" if parts else ""


def _values(header: str) -> dict[str, Any] | None:
    """What a header says, options and all, by name."""
    try:
        found = json.loads(header)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    flat: dict[str, Any] = {}
    for key, value in found.items():
        flat |= value if isinstance(value, dict) else {key: value}
    return flat


def _line(index: int, hypotheses: list[dict[str, Any]]) -> str:
    return json.dumps({"id": index, "hypotheses": hypotheses}) + "\n"


def write_whole(path: str, lines: Iterable[str]) -> None:
    """Writes lines, each with its end, to a file that is there whole or not at all."""
    temporary = f"{path}.tmp{os.getpid()}"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
