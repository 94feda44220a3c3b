"""Lines for people: durations, and a line on a terminal that changes.

Text and seconds go in; lines for stderr come out, one of them rewritten in place.
"""

from __future__ import annotations

import math
import re
import shutil
import sys
import threading

_lock = threading.RLock()
_shown = ""
"""The line that is on the terminal now and may change."""


def duration(seconds: float) -> str:
    """`75` -> `1:15`, `3661` -> `1:01:01`, days in front of that; `?` where it is not known."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} days {hours}:{minutes:02}:{rest:02}" if days < 1000 else "over 1000 days"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def fit(text: str, room: int | None = None) -> str:
    """As much of a line as fits, cut between fields: at `, ` or ` | `, else between words.

    Args:
      room: characters that fit (None: the terminal's width, 80 where there is none), one of
        which stays free.
    """
    room = max((room or columns()) - 1, 1)
    if len(text) <= room:
        return text
    for border in (r"(?:,| \|) ", r" "):
        ends = [m.start() for m in re.finditer(border, text) if m.start() <= room]
        if ends and ends[-1] > 0:
            return text[: ends[-1]].rstrip()
    return text[:room]  # one word that is too long


def columns() -> int:
    """The terminal's width; 80 where there is none."""
    return shutil.get_terminal_size((80, 24)).columns


def wrapped(text: str, room: int | None = None) -> str:
    """All of a line of fields, on as many lines of `room` characters (None: the terminal's) as
    it needs, broken between fields."""
    lines: list[str] = []
    while text:
        indent = "    " if lines else ""
        first = fit(text, (room or columns()) - len(indent))
        comma = "," if text.startswith(",", len(first)) else ""
        lines.append(indent + first + comma)
        text = text[len(first):].lstrip(", |")
    return "\n".join(lines)


def live() -> bool:
    """Whether someone watches a line change."""
    return sys.stderr.isatty()


def status(text: str) -> None:
    """The line that changes; on a terminal only."""
    global _shown
    if live():
        with _lock:
            _shown = fit(text)
            print(f"\r\x1b[K{_shown}", end="", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """A line that stays."""
    with _lock:
        clear()
        print(text, file=sys.stderr, flush=True)


def clear(text: str | None = None) -> None:
    """Takes the line that changes away; with a `text` only if it is that one."""
    global _shown
    with _lock:
        if _shown and (text is None or _shown == fit(text)):
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            _shown = ""
