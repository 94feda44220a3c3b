"""Plain files inside an orbax checkpoint, so that they appear with it or not at all.

Imports orbax; imported by `checkpoints.py` when arrays are written.
"""

from __future__ import annotations

import dataclasses
import logging
import pathlib
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
