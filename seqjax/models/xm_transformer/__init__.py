"""fairseq's `xm_transformer`."""

from __future__ import annotations

from seqjax.models.family import Family
from seqjax.models.xm_transformer import config

FAMILIES = (
    Family(
        name="xm_transformer", config=config.XMTransformerConfig, archs=config.ARCHS,
        model="seqjax.models.xm_transformer.model:XMTransformerModel",
        fairseq="seqjax.models.xm_transformer.fairseq:TABLE",
    ),
)
