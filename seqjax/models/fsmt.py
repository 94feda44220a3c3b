"""FSMT: fairseq's translation models of WMT 2019 as transformers has them (Ng et al. 2019).

Keys in fairseq's words in, the transformer's model out: post-norm, with sinusoids and with a
vocabulary for each side. fairseq's own files of these models are read as a transformer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

from seqjax.models.family import Family
from seqjax.models.tables import HuggingFaceKeys, HuggingFaceTable, WeightNames
from seqjax.models.transformer import fairseq, huggingface
from seqjax.models.transformer.config import TransformerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class FSMTConfig(TransformerConfig):
    """By default that of the WMT 2019 models, before their feed-forward networks grew."""

    name: Literal["fsmt"] = "fsmt"  # type: ignore[assignment]
    """Chooses the family of models."""
    encoder_embed_dim: int = 1024
    """Width of the encoder."""
    encoder_ffn_embed_dim: int = 4096
    """Inner width of the feed-forward network."""
    encoder_attention_heads: int = 16
    """Heads of the attention; the width is a multiple of them."""
    decoder_embed_dim: int = 1024
    """Width of the decoder."""
    decoder_ffn_embed_dim: int = 4096
    """Inner width of the feed-forward network."""
    decoder_attention_heads: int = 16
    """Heads of the attention; the width is a multiple of them."""


FAIRSEQ = dataclasses.replace(fairseq.TABLE, arch=lambda config: "transformer_wmt_en_de_big")

SOURCE, TARGET, OUTPUT = (f"model.{name}.weight" for name in (
    "encoder.embed_tokens", "decoder.embed_tokens", "decoder.output_projection"))


def copies(config: FSMTConfig) -> Mapping[str, str]:
    """Names of the one embedding, where there is but one."""
    return {TARGET: SOURCE, OUTPUT: SOURCE} if config.shares_input else {}


KEYS = HuggingFaceKeys(
    ours={**huggingface.SEQ2SEQ_KEYS,
          "tie_word_embeddings": ("share_all_embeddings", "share_decoder_input_output_embed")},
    defaults={
        **huggingface.SEQ2SEQ_DEFAULTS, "activation_function": "relu", "scale_embedding": True,
        "tie_word_embeddings": False},
    spelled=huggingface.SPELLED, fixed={"is_encoder_decoder": (True,)},
)
READ = huggingface.reader(KEYS)
HUGGINGFACE = HuggingFaceTable(
    model_types=("fsmt",), architectures=("FSMTForConditionalGeneration", "FSMTModel"),
    config_from=READ, config_to=huggingface.writer(KEYS, READ),
    names=WeightNames(
        vocabulary=lambda state: (
            state[SOURCE].shape[0], state.get(TARGET, state[SOURCE]).shape[0]),
        ignored=huggingface.IGNORED, copies=copies, renames=((r"^", "model."),)),
    prefix="model.",
    special={"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2,
             "decoder_start_token_id": 2},
    vocabularies=("src_vocab_size", "tgt_vocab_size"),
    generation={"num_beams": 5, "max_length": 200, "length_penalty": 1.0,
                "early_stopping": False},
)

FAMILIES = (
    Family(
        name="fsmt", config=FSMTConfig, archs={},
        model="seqjax.models.transformer.model:TransformerModel",
        fairseq="seqjax.models.fsmt:FAIRSEQ", huggingface=("seqjax.models.fsmt:HUGGINGFACE",),
    ),
)
