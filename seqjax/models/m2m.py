"""M2M-100 and NLLB: one transformer that translates between a hundred languages and more (Fan et
al. 2020, NLLB Team 2022).

Keys in fairseq's words in, the transformer's model out: with sinusoids, pre-norm, one embedding.
fairseq's own files of these models name an architecture of the transformer, and are read as one.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from seqjax.models.family import Family
from seqjax.models.parts.configs import TRAINING_ONLY
from seqjax.models.tables import HuggingFaceKeys, HuggingFaceTable, WeightNames
from seqjax.models.transformer import fairseq, huggingface
from seqjax.models.transformer.config import TransformerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class M2MConfig(TransformerConfig):
    """By default M2M-100 of 418 million parameters."""

    name: Literal["m2m"] = "m2m"  # type: ignore[assignment]
    """Chooses the family of models."""
    attention_dropout: float = dataclasses.field(default=0.1, metadata=TRAINING_ONLY)
    """On the weights of the attention."""
    encoder_embed_dim: int = 1024
    """Width of the encoder."""
    encoder_ffn_embed_dim: int = 4096
    """Inner width of the feed-forward network."""
    encoder_layers: int = 12
    """Layers of the encoder."""
    encoder_attention_heads: int = 16
    """Heads of the attention; the width is a multiple of them."""
    encoder_normalize_before: bool = True
    """Norms in front of each sublayer (pre-norm) instead of behind it."""
    encoder_layerdrop: float = dataclasses.field(default=0.05, metadata=TRAINING_ONLY)
    """How often a layer is skipped in training (LayerDrop, Fan et al. 2019)."""
    decoder_embed_dim: int = 1024
    """Width of the decoder."""
    decoder_ffn_embed_dim: int = 4096
    """Inner width of the feed-forward network."""
    decoder_layers: int = 12
    """Layers of the decoder."""
    decoder_attention_heads: int = 16
    """Heads of the attention; the width is a multiple of them."""
    decoder_normalize_before: bool = True
    """Norms in front of each sublayer (pre-norm) instead of behind it."""
    decoder_layerdrop: float = dataclasses.field(default=0.05, metadata=TRAINING_ONLY)
    """How often a layer is skipped in training (LayerDrop, Fan et al. 2019)."""
    share_decoder_input_output_embed: bool = True
    """The output projection is the target embedding (not with an adaptive softmax)."""
    share_all_embeddings: bool = True
    """One embedding for source, target and output."""


FAIRSEQ = dataclasses.replace(fairseq.TABLE, arch=lambda config: "transformer_wmt_en_de_big")

KEYS = HuggingFaceKeys(
    ours=huggingface.SEQ2SEQ_KEYS,
    defaults={
        **huggingface.SEQ2SEQ_DEFAULTS, "activation_function": "relu", "attention_dropout": 0.1,
        "encoder_layerdrop": 0.05, "decoder_layerdrop": 0.05, "scale_embedding": True},
    spelled=huggingface.SPELLED,
    fixed={"tie_word_embeddings": (True,), "is_encoder_decoder": (True,)},
    always={
        "encoder_normalize_before": True, "decoder_normalize_before": True, **huggingface.SHARED},
)
READ = huggingface.reader(KEYS)
HUGGINGFACE = HuggingFaceTable(
    model_types=("m2m_100",), architectures=("M2M100ForConditionalGeneration", "M2M100Model"),
    config_from=READ, config_to=huggingface.writer(KEYS, READ),
    names=WeightNames(
        vocabulary=huggingface.vocabulary, ignored=huggingface.IGNORED,
        copies=huggingface.copies, renames=huggingface.RENAMES),
    prefix="model.",
    special={"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2,
             "decoder_start_token_id": 2},
)

FAMILIES = (
    Family(
        name="m2m", config=M2MConfig, archs={},
        model="seqjax.models.transformer.model:TransformerModel",
        fairseq="seqjax.models.m2m:FAIRSEQ", huggingface=("seqjax.models.m2m:HUGGINGFACE",),
    ),
)
