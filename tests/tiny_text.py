"""Running text of one language or several, so small that whole pretraining runs fit into tests."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from seqjax.config import Config
from seqjax.data.indexed import IndexedWriter
from seqjax.data.vocabulary import Vocabulary
from seqjax.settings import resolve

WORDS = 20


def write_text(
    folder: pathlib.Path, *, sentences: int = 200, seed: int = 0, dictionary: bool = True
) -> pathlib.Path:
    """A data folder of sentences that count on from any word: neighbours tell what is missing.
    An empty line ends each tenth."""
    folder.mkdir(parents=True, exist_ok=True)
    if dictionary:
        Vocabulary([f"w{i}" for i in range(WORDS)]).save(folder / "dict.txt")
    rng = np.random.default_rng(seed)
    for split, count in (("train", sentences), ("valid", 24)):
        with IndexedWriter(folder / split, dtype=np.dtype(np.uint16)) as out:
            for number in range(count):
                words = (rng.integers(WORDS) + np.arange(rng.integers(4, 12))) % WORDS + 4
                out.append(np.append(words, 2))
                if number % 10 == 9:
                    out.append(np.array([2]))
    return folder


def config(data: pathlib.Path, name: str, **sections: Any) -> Config:
    """A run of that task on a tiny model that fits it; `sections` are merged in."""
    reads = "masked_lm" in name and name != "span_masked_lm"
    model: dict[str, Any] = {
        "name": "roberta", "encoder_embed_dim": 16, "encoder_ffn_embed_dim": 32,
        "encoder_layers": 1, "encoder_attention_heads": 2, "max_positions": 32,
    } if reads else {
        "name": "bart", "max_source_positions": 64, "max_target_positions": 64,
        **{f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in dict(
            embed_dim=16, ffn_embed_dim=32, layers=1, attention_heads=2).items()},
    }
    raw: dict[str, Any] = {
        "task": {"name": name, "data": str(data), "tokens_per_sample": 24,
                 "sample_break_mode": "complete"},
        "model": {**model, "dropout": 0.1},
        "loss": {"name": "masked_lm" if reads else "label_smoothed_cross_entropy"},
        "train": {"lr": [0.02], "max_update": 40, "clip_norm": 1.0},
        "schedule": {"warmup_updates": 5},
        "batching": {"max_tokens": 512, "backend": "numpy", "num_shapes": 2},
        "valid": {"every_epochs": 0},
        "log": {"interval_updates": 5, "interval_seconds": 0, "tensorboard": False},
    }
    for section, values in sections.items():
        merged = {**raw.get(section, {}), **values} if isinstance(values, dict) else values
        raw[section] = merged
    return resolve(raw)
