"""fairseq's `lstm` and `lstm_lm`."""

from __future__ import annotations

from seqjax.models.family import Family
from seqjax.models.lstm import config

FAMILIES = (
    Family(
        name="lstm", config=config.LSTMConfig, archs=config.ARCHS,
        model="seqjax.models.lstm.model:LSTMModel",
        fairseq="seqjax.models.lstm.fairseq:TABLE", turns_padding=True,
    ),
    Family(
        name="lstm_lm", config=config.LSTMLanguageModelConfig, archs=config.LM_ARCHS,
        model="seqjax.models.lstm.lm:LSTMLanguageModel",
        fairseq="seqjax.models.lstm.fairseq:LM_TABLE",
    ),
)
