"""OPT: open pre-trained language models (Zhang et al. 2022).

Keys in fairseq's words in, the transformer language model out: with learned positions, embeddings
as they are; that of 350 million parameters is post-norm and has narrower embeddings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from seqjax.models.family import Family
from seqjax.models.parts.configs import limit
from seqjax.models.tables import HuggingFaceKeys, HuggingFaceTable, WeightNames
from seqjax.models.transformer import huggingface, lm_fairseq
from seqjax.models.transformer.lm_config import TransformerLanguageModelConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class OPTConfig(TransformerLanguageModelConfig):
    """By default that of 125 million parameters."""

    name: Literal["opt"] = "opt"  # type: ignore[assignment]
    """Chooses the family of models."""
    no_scale_embedding: bool = True
    """Embeddings are not multiplied by the square root of their width."""
    decoder_embed_dim: int = 768
    """Width of the decoder."""
    decoder_ffn_embed_dim: int = 3072
    """Inner width of the feed-forward network."""
    decoder_layers: int = 12
    """Layers of the decoder."""
    decoder_attention_heads: int = 12
    """Heads of the attention; the width is a multiple of them."""
    decoder_normalize_before: bool = True
    """Norms in front of each sublayer (pre-norm) instead of behind it."""
    decoder_learned_pos: bool = True
    """Learned positions instead of sinusoids."""
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
            width="hidden_size", inner="ffn_dim", layers="num_hidden_layers",
            heads="num_attention_heads", longest="max_position_embeddings"),
        "activation_function": ("activation_fn",), "dropout": ("dropout",),
        "attention_dropout": ("attention_dropout",), "layerdrop": ("decoder_layerdrop",),
        "do_layer_norm_before": ("decoder_normalize_before",), "enable_bias": ("linear_bias",),
        "_remove_final_layer_norm": ("no_decoder_final_norm",),
        "tie_word_embeddings": ("share_decoder_input_output_embed",)},
    defaults={
        "hidden_size": 768, "ffn_dim": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        "max_position_embeddings": 2048, "activation_function": "relu", "dropout": 0.1,
        "attention_dropout": 0.0, "layerdrop": 0.0, "do_layer_norm_before": True,
        "enable_bias": True, "_remove_final_layer_norm": False, "tie_word_embeddings": True},
    spelled=huggingface.SPELLED, fixed={"layer_norm_elementwise_affine": (True,)},
    always={"decoder_learned_pos": True, "no_scale_embedding": True},
)


def read(hf: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of `config.model`; see `HuggingFaceTable.config_from`."""
    found = KEYS.read(hf)
    narrow = hf.get("word_embed_proj_dim") or found["decoder_embed_dim"]
    return {
        **found, "decoder_input_dim": narrow, "decoder_output_dim": narrow,
        "position_offset": huggingface.behind(hf.get("pad_token_id", 1))}


HUGGINGFACE = HuggingFaceTable(
    model_types=("opt",), architectures=("OPTForCausalLM", "OPTModel"),
    config_from=read,
    config_to=huggingface.writer(
        KEYS, read, more=lambda config: {"word_embed_proj_dim": config.input_dim},
        elsewhere={"position_offset": (None, 2)}),
    names=WeightNames(
        vocabulary=huggingface.words("model.decoder.embed_tokens.weight"),
        ignored=(r"model\.decoder\.version",),
        copies=huggingface.head_copies("model.decoder.embed_tokens.weight"),
        renames=(
            (r"^decoder\.output_projection\.", "lm_head."),
            (r"^decoder\.layer_norm\.", "decoder.final_layer_norm."),
            (r"^decoder\.project_(in|out)_dim\.", r"decoder.project_\1."),
            (r"^decoder\.", "model.decoder."))),
    prefix="model.", kind="decoder",
    special={"bos_token_id": 2, "pad_token_id": 1, "eos_token_id": 2},
)

FAMILIES = (
    Family(
        name="opt", config=OPTConfig, archs={},
        model="seqjax.models.transformer.lm:TransformerLanguageModel",
        fairseq="seqjax.models.opt:FAIRSEQ", huggingface=("seqjax.models.opt:HUGGINGFACE",),
    ),
)
