"""Sounds for tests, made of a seed: the same for us and for who records others' numbers."""

from __future__ import annotations

import numpy as np


def clip(seed: int, samples: int, *, rate: int = 16000, level: float = 0.3) -> np.ndarray:
    """[N] float32: a voice of sorts: harmonics that rise and fall, and noise."""
    rng = np.random.RandomState(seed)
    time = np.arange(samples) / rate
    pitch = 120.0 + 40.0 * np.sin(2 * np.pi * 1.7 * time + rng.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    sound = sum(rng.uniform(0.2, 1.0) / k * np.sin(k * phase + rng.uniform(0, 6))
                for k in range(1, 12))
    loud = 0.55 + 0.45 * np.sin(2 * np.pi * 3.1 * time + rng.uniform(0, 6))
    sound = sound * loud + 0.05 * rng.standard_normal(samples)
    return (level * sound / np.abs(sound).max()).astype(np.float32)
