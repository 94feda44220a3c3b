"""What an unfinished decoding job has found so far, on disk.

It knows results as plain data; it knows nothing of models or searches.
"""

from __future__ import annotations

import json
import sys
from typing import Any


class Journal:
    """Finished sentences of an unfinished job: one JSON line each, after a line that says
    of which job. A torn last line, of a job that was killed while writing, is dropped."""

    def __init__(self, path: str, found: dict[int, list[dict[str, Any]]]) -> None:
        self.path, self.found = path, found
        self._file = open(path, "a", encoding="utf-8")

    @classmethod
    def open(cls, path: str, *, header: str, total: int) -> Journal:
        """Goes on with the file of the same job, or begins one.

        Args:
          header: one line that tells jobs apart.
          total: sentences of the job.
        """
        found: dict[int, list[dict[str, Any]]] = {}
        try:
            with open(path, "rb") as file:
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            lines = []
        if lines and lines[0].decode("utf-8", "replace") == header:
            whole = lines[:-1]  # what follows the last newline is torn, or empty
            for line in whole[1:]:
                entry = json.loads(line)
                found[entry["id"]] = entry["hypotheses"]
            with open(path, "r+b") as file:
                file.truncate(sum(len(line) + 1 for line in whole))
            print(f"{path}: {len(found)} of {total} sentences are done already",
                  file=sys.stderr)
        else:
            with open(path, "w", encoding="utf-8") as file:
                file.write(header + "\n")
        return cls(path, found)

    def add(self, index: int, hypotheses: list[dict[str, Any]]) -> None:
        """Keeps one sentence's result."""
        self._file.write(json.dumps({"id": index, "hypotheses": hypotheses}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Lets go of the file; what is in it stays."""
        self._file.close()
