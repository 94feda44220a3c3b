"""seqjax's side of the comparison of pretrained models (runs in a worker of its own): a folder of
Hugging Face's, loaded and used as people do."""

from __future__ import annotations

from typing import Any

import seqjax
from benchmarks.pretrained import shown


class Bart:
    """`seqjax.load(FOLDER)`."""

    def __init__(self, *, folder: str):
        self.model = seqjax.load(folder, quiet=True)

    def features(self, *, rows: list[list[int]], full: bool = False) -> dict[str, Any]:
        """States of every row; work is tokens."""
        found = self.model.extract_features(rows)
        return {"work": sum(map(len, rows))} | ({"shown": shown(found)} if full else {})

    def search(self, *, rows: list[list[int]], full: bool = False) -> dict[str, Any]:
        """Beam search as the folder says; work is emitted tokens."""
        best = [h[0].tokens.tolist() for h in self.model.generate(rows)]
        return {"work": sum(map(len, best))} | ({"best": best} if full else {})
