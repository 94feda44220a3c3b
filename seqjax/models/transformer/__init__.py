"""fairseq's `transformer`, `transformer_align` and `transformer_lm`."""

from __future__ import annotations

from seqjax.models.family import Family
from seqjax.models.transformer import config, lm_config

FAMILIES = (
    Family(
        name="transformer", config=config.TransformerConfig, archs=config.ARCHS,
        model="seqjax.models.transformer.model:TransformerModel",
        fairseq="seqjax.models.transformer.fairseq:TABLE",
    ),
    Family(
        name="transformer_align", config=config.TransformerAlignConfig,
        archs=config.ALIGN_ARCHS, model="seqjax.models.transformer.align:TransformerAlignModel",
        fairseq="seqjax.models.transformer.fairseq:TABLE",
    ),
    Family(
        name="transformer_lm", config=lm_config.TransformerLanguageModelConfig,
        archs=lm_config.ARCHS,
        model="seqjax.models.transformer.lm:TransformerLanguageModel",
        fairseq="seqjax.models.transformer.lm_fairseq:TABLE",
    ),
)
