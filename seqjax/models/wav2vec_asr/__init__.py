"""fairseq's models that are fine-tuned from an encoder of waveforms: `wav2vec_ctc`, `hubert_ctc`."""

from __future__ import annotations

from seqjax.models.family import Family
from seqjax.models.wav2vec_asr import config

PARTITION = ((r"w2v_encoder/proj/kernel$", ("fsdp", "tensor")),)

FAMILIES = (
    Family(
        name="wav2vec_ctc", config=config.Wav2VecCtcConfig, archs={"wav2vec_ctc": {}},
        model="seqjax.models.wav2vec_asr.model:CtcModel",
        fairseq="seqjax.models.wav2vec_asr.fairseq:WAV2VEC_CTC", partition=PARTITION,
    ),
    Family(
        name="hubert_ctc", config=config.HubertCtcConfig, archs={"hubert_ctc": {}},
        model="seqjax.models.wav2vec_asr.model:CtcModel",
        fairseq="seqjax.models.wav2vec_asr.fairseq:HUBERT_CTC", partition=PARTITION,
    ),
)
