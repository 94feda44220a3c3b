"""fairseq's `wav2vec2`, `wav2vec_ctc` and `wav2vec_seq2seq`."""

from __future__ import annotations

from seqjax.models.family import Family
from seqjax.models.wav2vec2 import archs, config, ctc_config, seq2seq_config

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
    Family(
        name="wav2vec_seq2seq", config=seq2seq_config.Wav2VecSeq2SeqConfig,
        archs={"wav2vec_seq2seq": {}}, model="seqjax.models.finetuning.seq2seq:Seq2SeqModel",
        fairseq="seqjax.models.wav2vec2.seq2seq:TABLE", waveforms=True,
        partition=((r"encoder/proj/kernel$", (None, "fsdp")),),
    ),
)
