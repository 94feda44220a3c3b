"""Files that are there whole or not at all: a path and bytes in."""

from __future__ import annotations

import os


def write(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a file beside its place and moves it there; several processes may do it at once."""
    path = os.fspath(path)
    temporary = f"{path}.tmp{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
