"""fairseq's `data2vec_audio`."""

from __future__ import annotations

from seqjax.models.data2vec_audio import config
from seqjax.models.family import Family

FAMILIES = (
    Family(
        name="data2vec_audio", config=config.Data2VecAudioConfig, archs={"data2vec_audio": {}},
        model="seqjax.models.data2vec_audio.model:Data2VecAudioModel",
        fairseq="seqjax.models.data2vec_audio.fairseq:TABLE",
        huggingface=("seqjax.models.data2vec_audio.huggingface:TABLE",),
        waveforms=True, partition=((r"final_proj/kernel$", (None, "fsdp")),),
    ),
)
