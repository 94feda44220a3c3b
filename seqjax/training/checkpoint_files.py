"""Plain files inside an orbax checkpoint, so that they appear with it or not at all.

Imports orbax; imported by `checkpoints.py` when arrays are written or read. What orbax says
and fails to say of its reading and writing is put right here, too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import orbax.checkpoint as ocp
from absl import logging as absl_logging


class FilesHandler(ocp.CheckpointHandler):
    """Writes a mapping of names to bytes, of every process its own; reading is plain
    `pathlib`."""

    def save(self, directory: Any, args: FilesSave) -> None:  # type: ignore[override]
        root = pathlib.Path(directory)
        for name, content in args.files.items():
            file = root / name
            if root not in file.parents or ".." in pathlib.PurePath(name).parts:
                raise ValueError(f"asset {name!r} would leave the checkpoint")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def restore(self, directory: Any, args: Any = None) -> Any:  # type: ignore[override]
        root = pathlib.Path(directory)
        return {f.relative_to(root).as_posix(): f.read_bytes()
                for f in sorted(root.rglob("*")) if f.is_file()}


@ocp.args.register_with_handler(FilesHandler, for_save=True)
@dataclasses.dataclass
class FilesSave(ocp.args.CheckpointArgs):
    """What this process is to write."""

    files: dict[str, bytes]


@ocp.args.register_with_handler(FilesHandler, for_restore=True)
@dataclasses.dataclass
class FilesRestore(ocp.args.CheckpointArgs):
    """Orbax wants a pair."""


def quiet_orbax() -> None:
    """Orbax tells of every step it takes and of every wait, through absl; keep its errors."""
    if absl_logging.get_verbosity() >= absl_logging.WARNING:  # absl: greater is more talkative
        absl_logging.set_verbosity(absl_logging.ERROR)
    logging.getLogger("orbax").setLevel(logging.ERROR)


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
