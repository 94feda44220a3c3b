"""The work of the comparison of pretrained models: a BART's size, and rows of random ids.

Knows no toolkit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

BOS, PAD, EOS = 0, 1, 2
FIRST_WORD = 4
ROWS = 16
"""Rows of a batch, of both sides."""


def _size(dim: int, heads: int, layers: int, vocab: int, *, ffn: int = 0) -> dict[str, Any]:
    sides: dict[str, Any] = {}
    for side in ("encoder", "decoder"):
        sides |= {f"{side}_layers": layers, f"{side}_attention_heads": heads,
                  f"{side}_ffn_dim": ffn or 4 * dim}
    return {"d_model": dim, "vocab_size": vocab, "max_position_embeddings": 1024, **sides}


SIZES = {
    "bart-base": _size(768, 12, 6, 50265),
    # That of a real model of spelling to phonemes (`scripts/check_bart_g2p.py`).
    "bart-g2p": _size(128, 1, 1, 63, ffn=1024),
    "micro": _size(32, 2, 2, 96),
}
"""Keys of a `config.json`."""


def rows(count: int, *, vocab: int, shortest: int, longest: int, seed: int) -> list[list[int]]:
    """Rows `<s> words </s>` of lengths between two, both included."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(shortest - 2, longest - 1, count)
    return [[BOS, *rng.integers(FIRST_WORD, vocab, n).tolist(), EOS] for n in lengths]


def rolled_rows(row: Sequence[int]) -> list[int]:
    """What the decoder of a BART reads of the sentence: the last token in front."""
    return [row[-1], *row[:-1]]


def shown(states: Sequence[np.ndarray]) -> list[list[float]]:
    """A few numbers of every row's states [S, D], for comparison."""
    return [np.concatenate([x[:, :4].ravel(), x.mean(axis=0)[:8]]).astype(float).tolist()
            for x in states]
