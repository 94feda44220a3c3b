"""torch.load's side of reading a `.pt` (runs in a worker of its own)."""

from __future__ import annotations

import os
import resource
from typing import Any

import torch

MIB = 2**20


class Load:
    """Reads the same file again and again; work is its size in MiB."""

    def tensors(self, *, path: str) -> dict[str, Any]:
        tree = torch.load(path, map_location="cpu", weights_only=False)
        return {"work": os.path.getsize(path) / MIB, "tensors": len(tree["model"])}

    parameters = tensors

    def peak(self) -> dict[str, Any]:
        return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
