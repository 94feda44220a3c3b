"""BART: a transformer that was trained to undo noise (Lewis et al. 2020).

Keys in fairseq's words in, the transformer's model out, which begins as BERT does. Of its own
BART has its defaults and heads for classification, which read the decoder's last state.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from seqjax.models.family import Family
from seqjax.models.parts import heads_config as heads
from seqjax.models.tables import HuggingFaceKeys, HuggingFaceTable, State, WeightNames
from seqjax.models.transformer import fairseq, huggingface
from seqjax.models.transformer.config import PretrainedTransformerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class BartConfig(PretrainedTransformerConfig):
    """fairseq's `bart`, by default `bart_large`."""

    name: Literal["bart"] = "bart"  # type: ignore[assignment]
    """Chooses the family of models."""
    no_scale_embedding: bool = True
    """Embeddings are not multiplied by the square root of their width."""


ARCHS: dict[str, dict[str, Any]] = {
    "bart_large": {},
    "bart_base": {
        "encoder_embed_dim": 768, "encoder_ffn_embed_dim": 3072, "encoder_layers": 6,
        "encoder_attention_heads": 12, "decoder_layers": 6, "decoder_attention_heads": 12,
    },
}
"""fairseq architecture name -> the defaults that it changes."""


FAIRSEQ = fairseq.classifying("bart_large")  # there is no architecture of the family's own name

KEYS = HuggingFaceKeys(
    ours={**huggingface.SEQ2SEQ_KEYS, "tie_word_embeddings": (
        "share_all_embeddings", "share_decoder_input_output_embed")},
    defaults=huggingface.SEQ2SEQ_DEFAULTS, spelled=huggingface.SPELLED,
    fixed={
        "is_encoder_decoder": (True,), "normalize_before": (False,), "pre_norm": (False,),
        "add_final_layer_norm": (False,), "normalize_embedding": (True,),
        "static_position_embeddings": (False,), "add_bias_logits": (False,),
        "extra_pos_embeddings": (2,),
    },
    always={"encoder_learned_pos": True, "decoder_learned_pos": True, "layernorm_embedding": True},
)
_ENCODER = "model.encoder.embed_tokens.weight"
_HEAD = "classification_head"


def hf_upgrade(state: State, config: BartConfig) -> tuple[State, BartConfig]:
    """The source's embedding by the name of the shared one, also where each side has its own;
    which head there is, the weights tell."""
    if not config.shares_input:
        state = {name: value for name, value in state.items() if name != huggingface.EMBEDDING}
        state = {huggingface.EMBEDDING if name == _ENCODER else name: value
                 for name, value in state.items()}
    state, config = huggingface.with_bias(state, config)
    return state, heads.with_head_of(state, config, _HEAD)


def hf_join(state: State, config: BartConfig) -> State:
    """And back; transformers expects a shared embedding beside two of their own, unused."""
    if not config.classification_heads:
        state = huggingface.join_bias(state, config)
    if not config.shares_input:
        state = {**state, _ENCODER: state[huggingface.EMBEDDING]}
    return state


OLD_KEYS = {"normalize_before": False, "normalize_embedding": True}
"""What transformers no longer writes and CTranslate2's converter reads."""
READ = huggingface.reader(
    KEYS, lambda hf: {"position_offset": huggingface.behind(hf.get("pad_token_id", 1)),
                      **heads.from_labels(hf)})
HUGGINGFACE = HuggingFaceTable(
    model_types=("bart",),
    architectures=(
        "BartForConditionalGeneration", "BartModel", "BartForSequenceClassification"),
    architecture=lambda config: ("BartForSequenceClassification" if config.classification_heads
                                 else "BartForConditionalGeneration"),
    config_from=READ,
    config_to=huggingface.writer(
        KEYS, READ, more=lambda config: {**OLD_KEYS, **heads.labels(config)},
        elsewhere={"position_offset": (None, 2), "output_bias": (False, True)},
        unsaid=heads.UNSAID),
    names=WeightNames(
        vocabulary=huggingface.vocabulary, upgrade=hf_upgrade, ignored=huggingface.IGNORED,
        copies=huggingface.copies,
        renames=(heads.renamed(_HEAD), *huggingface.RENAMES),
        transforms=((huggingface.BIAS, huggingface.ROW),)),
    join=hf_join, prefix="model.",
    special={
        "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "unk_token_id": 3,
        "decoder_start_token_id": 2},
)

FAMILIES = (
    Family(
        name="bart", config=BartConfig, archs=ARCHS,
        model="seqjax.models.transformer.classifier:ClassifyingTransformerModel",
        fairseq="seqjax.models.bart:FAIRSEQ", huggingface=("seqjax.models.bart:HUGGINGFACE",),
    ),
)
