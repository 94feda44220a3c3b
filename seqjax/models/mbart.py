"""mBART: an encoder-decoder that was trained to undo noise in many languages (Liu et al. 2020).

Keys in fairseq's words in, the transformer's model out, which begins as BERT does. A sentence
names its language behind its end; what the decoder begins with is the language it is to write.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, cast

from seqjax.models.family import Family
from seqjax.models.parts import heads_config as heads
from seqjax.models.tables import HuggingFaceKeys, HuggingFaceTable, State, WeightNames
from seqjax.models.transformer import fairseq, huggingface
from seqjax.models.transformer.config import TransformerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class MBartConfig(heads.ClassificationHeadsConfig, TransformerConfig):
    """fairseq's `mbart_large` and its like. Its recipes make both sides pre-norm."""

    name: Literal["mbart"] = "mbart"  # type: ignore[assignment]
    """Chooses the family of models."""
    activation_fn: Literal[
        "relu", "gelu", "gelu_fast", "gelu_accurate", "tanh", "linear", "swish"
    ] = "gelu"
    """Of the feed-forward network."""
    encoder_embed_dim: int = 1024
    """Width of the encoder."""
    encoder_ffn_embed_dim: int = 4096
    """Inner width of the feed-forward network."""
    encoder_layers: int = 12
    """Layers of the encoder."""
    encoder_attention_heads: int = 16
    """Heads of the attention; the width is a multiple of them."""
    encoder_learned_pos: bool = True
    """Learned positions instead of sinusoids."""
    decoder_embed_dim: int = 1024
    """Width of the decoder."""
    decoder_ffn_embed_dim: int = 4096
    """Inner width of the feed-forward network."""
    decoder_layers: int = 12
    """Layers of the decoder."""
    decoder_attention_heads: int = 16
    """Heads of the attention; the width is a multiple of them."""
    decoder_learned_pos: bool = True
    """Learned positions instead of sinusoids."""
    share_decoder_input_output_embed: bool = True
    """The output projection is the target embedding (not with an adaptive softmax)."""
    share_all_embeddings: bool = True
    """One embedding for source, target and output."""
    layernorm_embedding: bool = True
    """A norm behind the embeddings."""


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


def upgrade(state: State, config: MBartConfig) -> tuple[State, MBartConfig]:
    """Today's names, as the transformer's; which heads there are, the weights tell."""
    state, found = fairseq.upgrade(state, config)
    return state, heads.with_heads_of(state, cast(MBartConfig, found))


FAIRSEQ = dataclasses.replace(
    fairseq.TABLE,
    keys=dataclasses.replace(
        fairseq.KEYS, refused={**fairseq.KEYS.refused, **heads.REFUSED}),
    names=dataclasses.replace(
        fairseq.NAMES, upgrade=upgrade, chosen=(heads.HEADS,),
        order=(*fairseq.NAMES.order, heads.HEADS, "dense")),
    unsaid=(*fairseq.TABLE.unsaid, *heads.UNSAID),
    arch=lambda config: config.arch or "mbart_large",  # there is none of the family's own name
)

KEYS = HuggingFaceKeys(
    ours=huggingface.SEQ2SEQ_KEYS, defaults=huggingface.SEQ2SEQ_DEFAULTS,
    spelled=huggingface.SPELLED,
    fixed={"tie_word_embeddings": (True,), "is_encoder_decoder": (True,)},
    always={
        "encoder_learned_pos": True, "decoder_learned_pos": True, "layernorm_embedding": True,
        "encoder_normalize_before": True, "decoder_normalize_before": True, **huggingface.SHARED},
)
READ = huggingface.reader(
    KEYS, lambda hf: {"position_offset": huggingface.behind(hf.get("pad_token_id", 1))})
HUGGINGFACE = HuggingFaceTable(
    model_types=("mbart",), architectures=("MBartForConditionalGeneration", "MBartModel"),
    config_from=READ,
    config_to=huggingface.writer(
        KEYS, READ, elsewhere={"position_offset": (None, 2), "output_bias": (False, True)}),
    names=WeightNames(
        vocabulary=huggingface.vocabulary, upgrade=huggingface.with_bias,
        ignored=huggingface.IGNORED, copies=huggingface.copies, renames=huggingface.RENAMES,
        transforms=((huggingface.BIAS, huggingface.ROW),)),
    join=huggingface.join_bias, prefix="model.",
    special={"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2,
             "decoder_start_token_id": None},
)

FAMILIES = (
    Family(
        name="mbart", config=MBartConfig, archs=ARCHS,
        model="seqjax.models.transformer.classifier:ClassifyingTransformerModel",
        fairseq="seqjax.models.mbart:FAIRSEQ", huggingface=("seqjax.models.mbart:HUGGINGFACE",),
    ),
)
