"""XGLM: language models of many languages (Lin et al. 2022).

Keys in fairseq's words in, the transformer language model out: pre-norm, with sinusoids, its
output layer the embedding. fairseq's own files of these models are read as `transformer_lm`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from seqjax.config import ConfigError
from seqjax.models.family import Family
from seqjax.models.parts.configs import TRAINING_ONLY, limit
from seqjax.models.tables import HuggingFaceKeys, HuggingFaceTable, WeightNames
from seqjax.models.transformer import huggingface, lm_fairseq
from seqjax.models.transformer.lm_config import TransformerLanguageModelConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class XGLMConfig(TransformerLanguageModelConfig):
    """By default that of 564 million parameters."""

    name: Literal["xglm"] = "xglm"  # type: ignore[assignment]
    """Chooses the family of models."""
    activation_fn: Literal[
        "relu", "gelu", "gelu_fast", "gelu_accurate", "tanh", "linear", "swish"
    ] = "gelu"
    """Of the feed-forward network."""
    attention_dropout: float = dataclasses.field(default=0.1, metadata=TRAINING_ONLY)
    """On the weights of the attention."""
    decoder_embed_dim: int = 1024
    """Width of the decoder."""
    decoder_ffn_embed_dim: int = 4096
    """Inner width of the feed-forward network."""
    decoder_layers: int = 24
    """Layers of the decoder."""
    decoder_attention_heads: int = 16
    """Heads of the attention; the width is a multiple of them."""
    decoder_normalize_before: bool = True
    """Norms in front of each sublayer (pre-norm) instead of behind it."""
    share_decoder_input_output_embed: bool = True
    """The output projection is the embedding (not with an adaptive softmax)."""
    max_target_positions: int = dataclasses.field(
        default=2048, metadata=limit(table="decoder_learned_pos"))
    """Longest target, or block of tokens of a language model (with learned positions: rows of
    their table)."""


FAIRSEQ = dataclasses.replace(lm_fairseq.TABLE, arch=lambda config: "transformer_lm")

KEYS = HuggingFaceKeys(
    ours={
        **huggingface.decoder_keys(
            width="d_model", inner="ffn_dim", layers="num_layers", heads="attention_heads",
            longest="max_position_embeddings"),
        "activation_function": ("activation_fn",), "dropout": ("dropout",),
        "attention_dropout": ("attention_dropout",),
        "activation_dropout": ("activation_dropout",), "layerdrop": ("decoder_layerdrop",),
        "scale_embedding": ("no_scale_embedding",),
        "tie_word_embeddings": ("share_decoder_input_output_embed",)},
    defaults={
        "d_model": 1024, "ffn_dim": 4096, "num_layers": 24, "attention_heads": 16,
        "max_position_embeddings": 2048, "activation_function": "gelu", "dropout": 0.1,
        "attention_dropout": 0.1, "activation_dropout": 0.0, "layerdrop": 0.0,
        "scale_embedding": True, "tie_word_embeddings": True},
    spelled=huggingface.SPELLED, fixed={"add_cross_attention": (False,)},
    always={"decoder_normalize_before": True},
)


def read(hf: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of `config.model`; see `HuggingFaceTable.config_from`."""
    pad = hf.get("pad_token_id", 1)
    if pad is not None and pad > 1:
        raise ConfigError(f"pad_token_id: {pad}: transformers gives position {pad - 2} no vector "
                          "then, a model that there is not here")
    return {**KEYS.read(hf), "position_offset": huggingface.behind(pad)}


HUGGINGFACE = HuggingFaceTable(
    model_types=("xglm",), architectures=("XGLMForCausalLM", "XGLMModel"),
    config_from=read,
    config_to=huggingface.writer(KEYS, read, elsewhere={"position_offset": (None, 2)}),
    names=WeightNames(
        vocabulary=huggingface.words("model.embed_tokens.weight"),
        ignored=(r"model\.embed_positions\.weights",),
        copies=huggingface.head_copies("model.embed_tokens.weight"),
        renames=((r"^decoder\.output_projection\.", "lm_head."), (r"^decoder\.", "model."))),
    prefix="model.", kind="decoder",
    special={"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2,
             "decoder_start_token_id": 2},
)

FAMILIES = (
    Family(
        name="xglm", config=XGLMConfig, archs={},
        model="seqjax.models.transformer.lm:TransformerLanguageModel",
        fairseq="seqjax.models.xglm:FAIRSEQ", huggingface=("seqjax.models.xglm:HUGGINGFACE",),
    ),
)
