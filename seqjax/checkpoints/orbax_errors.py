"""What orbax says, and fails to say, when it cannot read: an error goes in, one line comes out."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quiet_readers() -> Iterator[None]:
    """Orbax reads many arrays at once and raises the first error; those of the others arrive
    when nobody listens any more and would be printed, pages long. After an error they stay
    unprinted for as long as they may come."""
    hooks = sys.excepthook, sys.unraisablehook
    logger = logging.getLogger("asyncio")

    def excepthook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if not _late(error):
            hooks[0](kind, error, trace)

    def unraisablehook(found: Any) -> None:
        if not _late(found.exc_value):
            hooks[1](found)

    def record_filter(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return error is None or not _late(error)

    sys.excepthook, sys.unraisablehook = excepthook, unraisablehook
    logger.addFilter(record_filter)
    yield
    sys.excepthook, sys.unraisablehook = hooks
    logger.removeFilter(record_filter)


def _late(error: BaseException | None) -> bool:
    text = str(error)
    return text == "Event loop is closed" or "tensorstore" in text or "OCDBT" in text


def reason(error: Exception) -> str:
    """One line on why orbax could not read, with the array's name if it says one."""
    text = " ".join(str(error).split())
    named = re.search(r'"([\w.]+)/\.zarray"|"([\w.]+)/[\d.]+"', text)
    if named and isinstance(error, ValueError):
        return f"{named[1] or named[2]} cannot be read: its file is missing or overwritten"
    shown = text if len(text) < 160 else text[:160] + " ..."
    return f"cannot be read ({type(error).__name__}: {shown})"
