"""fairseq's `lightconv` and `lightconv_lm`."""

from __future__ import annotations

from seqjax.models.family import Family
from seqjax.models.lightconv import config

FAMILIES = (
    Family(
        name="lightconv", config=config.LightConvConfig, archs=config.ARCHS,
        model="seqjax.models.lightconv.model:LightConvModel",
        fairseq="seqjax.models.lightconv.fairseq:TABLE",
    ),
    Family(
        name="lightconv_lm", config=config.LightConvLanguageModelConfig, archs=config.LM_ARCHS,
        model="seqjax.models.lightconv.lm:LightConvLanguageModel",
        fairseq="seqjax.models.lightconv.fairseq:LM_TABLE",
    ),
)
