"""fairseq's `wav2vec2` and `wav2vec_ctc`."""

from __future__ import annotations

from seqjax.models.family import Family
from seqjax.models.wav2vec2 import archs, config, ctc_config

FAMILIES = (
    Family(
        name="wav2vec2", config=config.Wav2Vec2Config, archs=archs.ARCHS,
        model="seqjax.models.wav2vec2.model:Wav2Vec2Model",
        fairseq="seqjax.models.wav2vec2.fairseq:TABLE",
        huggingface=("seqjax.models.wav2vec2.huggingface:TABLE",),
        waveforms=True,
        partition=(
            (r"quantizer/weight_proj(_\d+_last)?/kernel$", ("fsdp", "tensor")),
            (r"quantizer/vars$", ("tensor", "fsdp")),
        ),
    ),
    Family(
        name="wav2vec_ctc", config=ctc_config.Wav2VecCtcConfig, archs={"wav2vec_ctc": {}},
        model="seqjax.models.finetuning.model:CtcModel",
        fairseq="seqjax.models.wav2vec2.ctc:FAIRSEQ",
        huggingface=("seqjax.models.wav2vec2.ctc:HUGGINGFACE",
                     "seqjax.models.finetuning.huggingface:SEVERAL"),
        waveforms=True, partition=((r"w2v_encoder/proj/kernel$", ("fsdp", "tensor")),),
    ),
)
