"""The work of the comparisons of models of waveforms: sizes of wav2vec 2.0, and recordings.

Knows no toolkit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

RATE = 16000
LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
"""The symbols of wav2vec2-base-960h."""
_MICRO = dict(
    hidden_size=32, num_attention_heads=2, intermediate_size=64, conv_dim=[16] * 7,
    num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, num_codevectors_per_group=8,
    codevector_dim=16, proj_codevector_dim=16)
SIZES: dict[str, dict[str, Any]] = {
    "base": dict(num_hidden_layers=12), "two layers": dict(num_hidden_layers=2),
    "micro": dict(_MICRO, num_hidden_layers=2)}
"""Keys of a `config.json` that differ from wav2vec2-base's."""


def still(size: str) -> dict[str, Any]:
    """A size's keys, and no dropout of any kind."""
    rates = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout",
             "final_dropout", "layerdrop", "feat_quantizer_dropout")
    return {**SIZES[size], **dict.fromkeys(rates, 0.0)}


def clips(lengths: np.ndarray, *, seed: int) -> list[np.ndarray]:
    """A recording [N] float32 in [-1, 1] for each length: tones that come and go, and noise."""
    rng = np.random.default_rng(seed)
    found = []
    for count in lengths:
        time = np.arange(count) / RATE
        tones = sum(np.sin(2 * np.pi * f * time + rng.uniform(0, 6)) * np.clip(
            np.sin(2 * np.pi * rng.uniform(0.5, 3) * time), 0, 1) for f in rng.uniform(90, 3000, 6))
        x = 0.1 * tones + 0.02 * rng.standard_normal(count)
        found.append((0.8 * x / np.abs(x).max()).astype(np.float32))
    return found


def mixed_lengths(minutes: float, *, seed: int) -> np.ndarray:
    """Samples of recordings of 2 to 20 s that last so long together."""
    rng = np.random.default_rng(seed)
    seconds: list[float] = []
    while sum(seconds) < 60 * minutes:
        seconds.append(min(float(rng.uniform(2, 20)), max(60 * minutes - sum(seconds), 2.0)))
    return (np.array(seconds) * RATE).astype(int)
