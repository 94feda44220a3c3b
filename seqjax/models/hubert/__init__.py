"""fairseq's `hubert` and `hubert_ctc`."""

from __future__ import annotations

from seqjax.models.family import Family
from seqjax.models.hubert import archs, config

FAMILIES = (
    Family(
        name="hubert", config=config.HubertConfig, archs=archs.ARCHS,
        model="seqjax.models.hubert.model:HubertModel",
        fairseq="seqjax.models.hubert.fairseq:TABLE",
        partition=((r"label_embs_concat$", ("tensor", "fsdp")),),
    ),
)
