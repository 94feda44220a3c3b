"""fairseq's `wav2vec2`."""

from __future__ import annotations

from seqjax.models.family import Family
from seqjax.models.wav2vec2 import archs, config

FAMILIES = (
    Family(
        name="wav2vec2", config=config.Wav2Vec2Config, archs=archs.ARCHS,
        model="seqjax.models.wav2vec2.model:Wav2Vec2Model",
        fairseq="seqjax.models.wav2vec2.fairseq:TABLE",
        waveforms=True,
        partition=(
            (r"quantizer/weight_proj(_\d+_last)?/kernel$", ("fsdp", "tensor")),
            (r"quantizer/vars$", ("tensor", "fsdp")),
        ),
    ),
)
