"""fairseq's `fconv` and `fconv_lm`."""

from __future__ import annotations

from seqjax.models.family import Family
from seqjax.models.fconv import config

FAMILIES = (
    Family(
        name="fconv", config=config.FConvConfig, archs=config.ARCHS,
        model="seqjax.models.fconv.model:FConvModel",
        fairseq="seqjax.models.fconv.fairseq:TABLE",
    ),
    Family(
        name="fconv_lm", config=config.FConvLanguageModelConfig, archs=config.LM_ARCHS,
        model="seqjax.models.fconv.lm:FConvLanguageModel",
        fairseq="seqjax.models.fconv.fairseq:LM_TABLE",
    ),
)
