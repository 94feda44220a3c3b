"""fairseq's `hubert` and `hubert_ctc`."""

from __future__ import annotations

from seqjax.models.family import Family
from seqjax.models.hubert import archs, config, ctc_config

FAMILIES = (
    Family(
        name="hubert", config=config.HubertConfig, archs=archs.ARCHS,
        model="seqjax.models.hubert.model:HubertModel",
        fairseq="seqjax.models.hubert.fairseq:TABLE",
        huggingface=("seqjax.models.hubert.huggingface:TABLE",),
        waveforms=True,
        partition=((r"label_embs_concat$", ("tensor", "fsdp")),),
    ),
    Family(
        name="hubert_ctc", config=ctc_config.HubertCtcConfig, archs={"hubert_ctc": {}},
        model="seqjax.models.finetuning.model:CtcModel",
        fairseq="seqjax.models.hubert.ctc:FAIRSEQ",
        huggingface=("seqjax.models.hubert.ctc:HUGGINGFACE",),
        waveforms=True, partition=((r"w2v_encoder/proj/kernel$", ("fsdp", "tensor")),),
    ),
)
