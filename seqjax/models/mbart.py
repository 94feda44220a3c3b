"""mBART: an encoder-decoder that was trained to undo noise in many languages (Liu et al. 2020).

Keys in fairseq's words in, the transformer's model out, which begins as BERT does. A sentence
names its language behind its end; what the decoder begins with is the language it is to write.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from seqjax.models.family import Family
from seqjax.models.tables import HuggingFaceKeys, HuggingFaceTable, WeightNames
from seqjax.models.transformer import fairseq, huggingface
from seqjax.models.transformer.config import PretrainedTransformerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class MBartConfig(PretrainedTransformerConfig):
    """fairseq's `mbart_large` and its like. Its recipes make both sides pre-norm."""

    name: Literal["mbart"] = "mbart"  # type: ignore[assignment]
    """Chooses the family of models."""


_BASE = {
    "encoder_embed_dim": 768, "encoder_ffn_embed_dim": 3072, "encoder_layers": 6,
    "encoder_attention_heads": 12, "decoder_layers": 6, "decoder_attention_heads": 12,
}
ARCHS: dict[str, dict[str, Any]] = {
    "mbart_large": {},
    "mbart_base": _BASE,
    "mbart_base_wmt20": {**_BASE, "layernorm_embedding": False},
}
"""fairseq architecture name -> the defaults that it changes."""


FAIRSEQ = fairseq.classifying("mbart_large")  # there is no architecture of the family's own name

KEYS = HuggingFaceKeys(
    ours=huggingface.SEQ2SEQ_KEYS, defaults=huggingface.SEQ2SEQ_DEFAULTS,
    spelled=huggingface.SPELLED,
    fixed={"tie_word_embeddings": (True,), "is_encoder_decoder": (True,)},
    always={
        "encoder_learned_pos": True, "decoder_learned_pos": True, "layernorm_embedding": True,
        "encoder_normalize_before": True, "decoder_normalize_before": True, **huggingface.SHARED},
)
OLD_KEYS = {"normalize_before": True, "normalize_embedding": True}
"""What transformers no longer writes and CTranslate2's converter reads."""
READ = huggingface.reader(
    KEYS, lambda hf: {"position_offset": huggingface.behind(hf.get("pad_token_id", 1))})
HUGGINGFACE = HuggingFaceTable(
    model_types=("mbart",), architectures=("MBartForConditionalGeneration", "MBartModel"),
    config_from=READ,
    config_to=huggingface.writer(
        KEYS, READ, more=lambda config: dict(OLD_KEYS),
        elsewhere={"position_offset": (None, 2), "output_bias": (False, True)}),
    names=WeightNames(
        vocabulary=huggingface.vocabulary, upgrade=huggingface.with_bias,
        ignored=huggingface.IGNORED, copies=huggingface.copies, renames=huggingface.RENAMES,
        transforms=((huggingface.BIAS, huggingface.ROW),)),
    join=huggingface.join_bias, prefix="model.",
    special={"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2,
             "decoder_start_token_id": None},
    tokenizer_class="MBartTokenizer", layout="mbart",
)

FAMILIES = (
    Family(
        name="mbart", config=MBartConfig, archs=ARCHS,
        model="seqjax.models.transformer.classifier:ClassifyingTransformerModel",
        fairseq="seqjax.models.mbart:FAIRSEQ", huggingface=("seqjax.models.mbart:HUGGINGFACE",),
    ),
)
