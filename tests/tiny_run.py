"""A corpus and a configuration so small that whole training runs fit into tests."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np

from seqjax import settings
from seqjax.config import Config
from seqjax.data.indexed import IndexedWriter
from seqjax.data.vocabulary import Vocabulary
from seqjax.training import train_loop

WORDS = 12


def write_data(folder: pathlib.Path, *, sentences: int = 48) -> pathlib.Path:
    """A data folder `aa` -> `bb`: the target is the source with every word replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for lang in ("aa", "bb"):
        vocabulary = Vocabulary()
        for i in range(WORDS):
            vocabulary.add_symbol(f"{lang}{i}", 100 - i)
        vocabulary.save(folder / f"dict.{lang}.txt")
    for split, count in (("train", sentences), ("valid", 8)):
        sources = [rng.integers(4, 4 + WORDS, rng.integers(2, 9)) for _ in range(count)]
        for lang, shift in (("aa", 0), ("bb", 5)):
            with IndexedWriter(folder / f"{split}.aa-bb.{lang}", dtype=np.dtype(np.uint16)) as out:
                for ids in sources:
                    out.append(np.append((ids - 4 + shift) % WORDS + 4, 2))
    return folder


def raw_config(data: pathlib.Path, **sections: Any) -> dict[str, Any]:
    """Sparse configuration; `sections` are merged in, section by section."""
    size = {f"{side}_{key}": value for side in ("encoder", "decoder")
            for key, value in dict(embed_dim=8, ffn_embed_dim=16, layers=1,
                                   attention_heads=2).items()}
    raw: dict[str, Any] = {
        "task": {"name": "translation", "data": str(data)},
        "model": {**size, "dropout": 0.1, "scan_unroll": 1},
        "train": {"lr": [0.02], "max_update": 30, "clip_norm": 1.0},
        "schedule": {"warmup_updates": 5},
        "batching": {"mode": "packed", "max_tokens": 64, "pack_length": 16, "backend": "numpy"},
        "valid": {"decode": False, "every_epochs": 0},
        "log": {"interval_updates": 5, "interval_seconds": 0, "tensorboard": False},
        "generation": {"beam": 2, "max_len_b": 12},
    }
    for name, values in sections.items():
        raw[name] = {**raw.get(name, {}), **values} if isinstance(values, dict) else values
    return raw


def resolve(raw: dict[str, Any]) -> Config:
    """What the command line makes of it."""
    return settings.resolve(raw)


def metrics(workdir: pathlib.Path, group: str) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl of one group."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [m for m in map(json.loads, lines) if m["group"] == group]


def train_two_updates(data: pathlib.Path, workdir: pathlib.Path) -> pathlib.Path:
    """`workdir`, with a finished run of two updates on `data` in it."""
    raw = raw_config(data, train={"max_update": 2}, batching={"max_tokens": 256})
    train_loop.train(resolve(raw), workdir=str(workdir))
    return workdir
