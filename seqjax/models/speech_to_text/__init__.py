"""fairseq's `s2t_transformer`, `s2t_conformer` and `convtransformer`."""

from __future__ import annotations

from seqjax.models.family import Family
from seqjax.models.speech_to_text import config

FAMILIES = (
    Family(
        name="s2t_transformer", config=config.S2TTransformerConfig, archs=config.S2T_ARCHS,
        model="seqjax.models.speech_to_text.model:SpeechToTextModel",
        fairseq="seqjax.models.speech_to_text.fairseq:TRANSFORMER",
        huggingface=("seqjax.models.speech_to_text.huggingface:HUGGINGFACE",),
    ),
    Family(
        name="s2t_conformer", config=config.S2TConformerConfig, archs=config.CONFORMER_ARCHS,
        model="seqjax.models.speech_to_text.model:ConformerModel",
        fairseq="seqjax.models.speech_to_text.fairseq:CONFORMER",
    ),
    Family(
        name="convtransformer", config=config.ConvTransformerConfig, archs=config.CONV_ARCHS,
        model="seqjax.models.speech_to_text.model:SpeechToTextModel",
        fairseq="seqjax.models.speech_to_text.fairseq:CONVTRANSFORMER",
    ),
)
