"""Training losses, chosen by name. Importing this imports no JAX."""

from __future__ import annotations

import dataclasses
from typing import Any

from seqjax.losses.configs import (
    ADAPTIVE_LOSS,
    ALIGNMENT_LOSS,
    CROSS_ENTROPY,
    CTC_BESIDE,
    LABEL_SMOOTHED_CROSS_ENTROPY,
    MASKED_LM,
)
from seqjax.losses.ctc_config import CTC
from seqjax.losses.declarations import COUNTS, Loss, Metric
from seqjax.losses.masked_units_config import MASKED_UNITS
from seqjax.losses.model_config import MODEL
from seqjax.losses.sentences_config import SENTENCE_PREDICTION, SENTENCE_RANKING
from seqjax.losses.wav2vec_config import WAV2VEC

__all__ = ["CONFIGS", "COUNTS", "LOSSES", "Loss", "Metric", "fairseq_defaults"]

LOSSES: dict[str, Loss] = {loss.name: loss for loss in (
    ADAPTIVE_LOSS,
    ALIGNMENT_LOSS,
    CROSS_ENTROPY,
    CTC_BESIDE,
    CTC,
    MASKED_UNITS,
    LABEL_SMOOTHED_CROSS_ENTROPY,
    MASKED_LM,
    MODEL,
    SENTENCE_PREDICTION,
    SENTENCE_RANKING,
    WAV2VEC,
)}
"""The registration: `config.loss.name` -> the loss. A new one is its file and a line here."""

CONFIGS: dict[str, type] = {name: loss.config for name, loss in LOSSES.items()}
"""`config.loss.name` -> its dataclass."""


def fairseq_defaults(name: str) -> dict[str, Any]:
    """Keys of a loss whose default here is not fairseq's -> fairseq's, for files and commands
    that do not say them."""
    return {field.name: field.metadata["fairseq_default"]
            for field in dataclasses.fields(CONFIGS[name]) if "fairseq_default" in field.metadata}
