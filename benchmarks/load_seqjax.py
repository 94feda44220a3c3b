"""seqjax's side of reading a `.pt` (runs in a worker of its own)."""

from __future__ import annotations

import os
import resource
from typing import Any

import numpy as np

from seqjax.interop.fairseq.checkpoint import load_fairseq
from seqjax.interop.torch.files import drop_pages, read_pt

MIB = 2**20


class Load:
    """Reads the same file again and again; work is its size in MiB."""

    def tensors(self, *, path: str) -> dict[str, Any]:
        tree, copies = read_pt(path), []
        for value in tree["model"].values():
            copies.append(np.array(value))
            drop_pages(value)
        return {"work": os.path.getsize(path) / MIB, "tensors": len(copies)}

    def parameters(self, *, path: str) -> dict[str, Any]:
        found = load_fairseq(path)
        return {"work": os.path.getsize(path) / MIB, "vocabulary": found.source_vocab_size}

    def peak(self) -> dict[str, Any]:
        return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
