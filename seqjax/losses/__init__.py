"""Training losses, chosen by name. Importing this imports no JAX."""

from __future__ import annotations

from seqjax.losses.configs import (
    ADAPTIVE_LOSS,
    ALIGNMENT_LOSS,
    CROSS_ENTROPY,
    LABEL_SMOOTHED_CROSS_ENTROPY,
    MASKED_LM,
)
from seqjax.losses.declarations import COUNTS, Loss, Metric
from seqjax.losses.wav2vec_config import WAV2VEC

__all__ = ["CONFIGS", "COUNTS", "LOSSES", "Loss", "Metric"]

LOSSES: dict[str, Loss] = {loss.name: loss for loss in (
    ADAPTIVE_LOSS,
    ALIGNMENT_LOSS,
    CROSS_ENTROPY,
    LABEL_SMOOTHED_CROSS_ENTROPY,
    MASKED_LM,
    WAV2VEC,
)}
"""The registration: `config.loss.name` -> the loss. A new one is its file and a line here."""

CONFIGS: dict[str, type] = {name: loss.config for name, loss in LOSSES.items()}
"""`config.loss.name` -> its dataclass."""
