"""Recordings in which every letter is a tone, and models small enough to learn them in seconds."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import soundfile

from seqjax import settings
from seqjax.config import Config

RATE = 1000
LETTERS = "abcde"
"""Each is a tone of its own; `|` is silence."""
TONES = dict(zip(LETTERS, (90.0, 150.0, 220.0, 310.0, 430.0), strict=True))
MODEL: dict[str, Any] = {
    "conv_feature_layers": "[(24, 12, 6), (24, 4, 3)]", "extractor_mode": "default",
    "encoder_layers": 1, "encoder_embed_dim": 24, "encoder_ffn_embed_dim": 32,
    "encoder_attention_heads": 2, "conv_pos": 4, "conv_pos_groups": 2, "layer_norm_first": True,
    "scan_unroll": 1}
"""18 samples a frame: 56 frames a second. Keys of every family."""


def samples_of(text: str, rng: np.random.Generator) -> np.ndarray:
    """[N] float32: 70 ms a letter, with gaps."""
    parts = [np.zeros(40)]
    for letter in text:
        time = np.arange(int(rng.integers(66, 76))) / RATE
        tone = np.sin(2 * np.pi * TONES[letter] * time) if letter in TONES else 0 * time
        parts += [0.5 * tone, np.zeros(24)]
    sound = np.concatenate(parts)
    return (sound + 0.01 * rng.standard_normal(len(sound))).astype(np.float32)


def write_data(folder: pathlib.Path, *, train: int = 160, valid: int = 8) -> pathlib.Path:
    """Manifests, letters and labels of frames (`.km`, `.kn`) of random words."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("valid", valid)):
        lines: dict[str, list[str]] = {"tsv": [str(folder)], "ltr": [], "wrd": [], "km": [],
                                       "kn": []}
        for i in range(count):
            words = ["".join(rng.choice(list(LETTERS), int(rng.integers(1, 4))))
                     for _ in range(int(rng.integers(1, 4)))]
            samples = samples_of("|".join(words), rng)
            soundfile.write(folder / f"{split}{i}.wav", samples, RATE)
            labels = (np.abs(samples[:len(samples) // 20 * 20]).reshape(-1, 20).mean(1) > 0.1)
            lines["tsv"].append(f"{split}{i}.wav\t{len(samples)}")
            lines["wrd"].append(" ".join(words))
            lines["ltr"].append(" ".join("|".join(words)) + " |")
            lines["km"].append(" ".join(str(int(x)) for x in labels))
            lines["kn"].append(" ".join(str(int(x) + 2 * (j % 2)) for j, x in enumerate(labels)))
        for kind, written in lines.items():
            (folder / f"{split}.{kind}").write_text("\n".join(written) + "\n")
    for kind, symbols in (("ltr", [*LETTERS, "|"]), ("km", "01"), ("kn", "0123")):
        (folder / f"dict.{kind}.txt").write_text("".join(f"{x} 1\n" for x in symbols))
    return folder


def config_of(data: pathlib.Path, name: str, model: dict[str, Any], **changes: Any) -> Config:
    """A run; `changes` are merged in, section by section."""
    raw: dict[str, Any] = {
        "task": {"name": name, "data": str(data), "sample_rate": RATE},
        "model": {**MODEL, "dropout": 0.0, "attention_dropout": 0.0, **model},
        "train": {"max_update": 3, "lr": [0.01], "compute_dtype": "float32"},
        "schedule": {"name": "fixed", "warmup_updates": 0}, "optimizer": {"name": "adam"},
        "batching": {"mode": "bucketed", "max_tokens": 12_000, "num_shapes": 1,
                     "backend": "numpy"},
        "valid": {"every_epochs": 0, "every_updates": 3},
        "log": {"interval_updates": 1, "interval_seconds": 0, "tensorboard": False},
    }
    for section, values in changes.items():
        raw[section] = {**raw.get(section, {}), **values} if isinstance(values, dict) else values
    return settings.resolve(raw)
