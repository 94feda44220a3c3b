"""fairseq's `s2t_transformer`, `s2t_conformer` and `convtransformer`."""

from __future__ import annotations

from seqjax.models.family import Family
from seqjax.models.s2t_transformer import config

FAMILIES = (
    Family(
        name="s2t_transformer", config=config.S2TTransformerConfig, archs=config.S2T_ARCHS,
        model="seqjax.models.s2t_transformer.model:SpeechToTextModel",
        fairseq="seqjax.models.s2t_transformer.fairseq:TRANSFORMER",
        huggingface=("seqjax.models.s2t_transformer.huggingface:HUGGINGFACE",),
    ),
    Family(
        name="s2t_conformer", config=config.S2TConformerConfig, archs=config.CONFORMER_ARCHS,
        model="seqjax.models.s2t_transformer.model:ConformerModel",
        fairseq="seqjax.models.s2t_transformer.fairseq:CONFORMER",
        partition=(
            (r"(linear_[qkv]|w_1|pointwise_conv1)/kernel$", ("fsdp", "tensor")),
            (r"(linear_out|w_2|pointwise_conv2)/kernel$", ("tensor", "fsdp")),
            (r"(linear_[qkv]|w_1)/bias$", ("tensor",)),
        ),
    ),
    Family(
        name="convtransformer", config=config.ConvTransformerConfig, archs=config.CONV_ARCHS,
        model="seqjax.models.s2t_transformer.model:SpeechToTextModel",
        fairseq="seqjax.models.s2t_transformer.fairseq:CONVTRANSFORMER",
    ),
)
