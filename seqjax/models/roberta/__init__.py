"""RoBERTa, and XLM-R and CamemBERT with it (Liu et al. 2019, Conneau et al. 2020)."""

from __future__ import annotations

from seqjax.models.family import Family
from seqjax.models.roberta import config

FAMILIES = (
    Family(
        name="roberta", config=config.RobertaConfig, archs=config.ARCHS,
        model="seqjax.models.roberta.model:RobertaModel",
        fairseq="seqjax.models.roberta.fairseq:TABLE",
        huggingface=("seqjax.models.roberta.huggingface:TABLE",),
        partition=((r"lm_head/weight$", ("tensor", "fsdp")),),
    ),
)
