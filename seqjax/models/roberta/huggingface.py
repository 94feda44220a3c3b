"""Hugging Face's RoBERTa, XLM-R and CamemBERT: keys of `config.json` and names of weights.

Of types of tokens, which fairseq has not, published models have one, of zeros: it is left out
here and written again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from seqjax.config import ConfigError
from seqjax.models.parts import heads_config as heads
from seqjax.models.roberta.config import RobertaConfig
from seqjax.models.tables import HuggingFaceKeys, HuggingFaceTable, State, WeightNames
from seqjax.models.transformer import huggingface

TYPES, WORDS = "embeddings.token_type_embeddings.weight", "embeddings.word_embeddings.weight"
"""Behind the prefix of a model type."""
PREFIX, HEAD = "roberta.", "classifier"
LAYERS: tuple[tuple[str, str], ...] = (
    (r"\.layers\.(\d+)\.self_attn\.q_proj\.", r".encoder.layer.\1.attention.self.query."),
    (r"\.layers\.(\d+)\.self_attn\.k_proj\.", r".encoder.layer.\1.attention.self.key."),
    (r"\.layers\.(\d+)\.self_attn\.v_proj\.", r".encoder.layer.\1.attention.self.value."),
    (r"\.layers\.(\d+)\.self_attn\.out_proj\.", r".encoder.layer.\1.attention.output.dense."),
    (r"\.layers\.(\d+)\.self_attn_layer_norm\.",
     r".encoder.layer.\1.attention.output.LayerNorm."),
    (r"\.layers\.(\d+)\.fc1\.", r".encoder.layer.\1.intermediate.dense."),
    (r"\.layers\.(\d+)\.fc2\.", r".encoder.layer.\1.output.dense."),
    (r"\.layers\.(\d+)\.final_layer_norm\.", r".encoder.layer.\1.output.LayerNorm."),
    (r"\.embed_tokens\.weight$", f".{WORDS}"), (r"\.token_types$", f".{TYPES}"),
    (r"\.embed_positions\.weight$", ".embeddings.position_embeddings.weight"),
    (r"\.layernorm_embedding\.", ".embeddings.LayerNorm."),
)
"""Our names of the encoder's parameters -> those of BERT and of what was made after it."""
KEYS = HuggingFaceKeys(
    ours={
        "hidden_size": ("encoder_embed_dim",), "intermediate_size": ("encoder_ffn_embed_dim",),
        "num_hidden_layers": ("encoder_layers",),
        "num_attention_heads": ("encoder_attention_heads",), "hidden_act": ("activation_fn",),
        "hidden_dropout_prob": ("dropout",),
        "attention_probs_dropout_prob": ("attention_dropout",),
        "layer_norm_eps": ("layer_norm_eps",), "tie_word_embeddings": ("untie_weights_roberta",),
    },
    defaults={
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 12, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "layer_norm_eps": 1e-12, "tie_word_embeddings": True,
        "max_position_embeddings": 512,
    },
    spelled={"hidden_act": huggingface.ACTIVATIONS, "tie_word_embeddings": huggingface.NEGATED},
    fixed={"is_decoder": (False,), "add_cross_attention": (False,),
           "position_embedding_type": ("absolute",)},
    always={"encoder_learned_pos": True, "layernorm_embedding": True, "no_scale_embedding": True,
            "encoder_normalize_before": False},
)


def with_types(
    state: State, config: RobertaConfig, prefix: str
) -> tuple[State, RobertaConfig]:
    """One type of tokens that is nothing but zeros is none."""
    types = state.get(prefix + TYPES)
    if types is None or (types.shape[0] == 1 and not np.any(np.asarray(types, np.float32))):
        state = {name: value for name, value in state.items() if name != prefix + TYPES}
        return state, dataclasses.replace(config, token_types=0)
    return state, dataclasses.replace(config, token_types=int(types.shape[0]))


def join_types(state: State, config: RobertaConfig, prefix: str) -> State:
    """And back: transformers' models have one at least."""
    if config.token_types:
        return state
    words = state[prefix + WORDS]
    return {**state, prefix + TYPES: np.zeros((1, words.shape[1]), words.dtype)}


# ---- RoBERTa's own ----


def read(hf: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of `config.model`; see `HuggingFaceTable.config_from`."""
    found = {**KEYS.read(hf), **heads.from_labels(hf)}
    rows = hf.get("max_position_embeddings", KEYS.defaults["max_position_embeddings"])
    pad = hf.get("pad_token_id", 1)
    if not isinstance(rows, int) or rows <= pad + 1:
        raise ConfigError(f"max_position_embeddings: {rows!r}, of which positions up to "
                          f"pad_token_id {pad} are no words'")
    return {**found, "max_positions": rows - pad - 1}


def sizes(config: RobertaConfig) -> dict[str, Any]:
    """What is written beside `KEYS`."""
    return {"max_position_embeddings": config.max_positions + 2,
            "type_vocab_size": max(config.token_types, 1), **heads.labels(config)}


def upgrade(state: State, config: RobertaConfig) -> tuple[State, RobertaConfig]:
    """Heads and types of tokens as the weights have them."""
    state, config = with_types(state, config, PREFIX)
    has_head = "lm_head.dense.weight" in state
    if has_head and config.activation_fn != "gelu":
        raise ConfigError(f"hidden_act: {config.activation_fn!r}, where transformers' head for "
                          "masked words has gelu: they are one key here, activation_fn")
    config = dataclasses.replace(config, masked_lm_head=has_head)
    if not has_head:
        config = dataclasses.replace(config, untie_weights_roberta=False)
    return state, heads.with_head_of(state, config, HEAD)


def copies(config: RobertaConfig) -> Mapping[str, str]:
    """What older files have twice."""
    if not config.masked_lm_head:
        return {}
    tied = {} if config.untie_weights_roberta else {"lm_head.decoder.weight": PREFIX + WORDS}
    return {**tied, "lm_head.decoder.bias": "lm_head.bias"}


TABLE = HuggingFaceTable(
    model_types=("roberta", "xlm-roberta", "camembert"),
    architectures=(
        "RobertaForMaskedLM", "RobertaModel", "RobertaForSequenceClassification",
        "XLMRobertaForMaskedLM", "XLMRobertaModel", "XLMRobertaForSequenceClassification",
        "CamembertForMaskedLM", "CamembertModel", "CamembertForSequenceClassification"),
    architecture=lambda config: (
        "RobertaForSequenceClassification" if config.classification_heads else
        "RobertaForMaskedLM" if config.masked_lm_head else "RobertaModel"),
    config_from=read,
    config_to=huggingface.writer(
        KEYS, read, more=sizes, elsewhere={"masked_lm_head": (True, False)},
        unsaid=("token_types", *heads.UNSAID)),
    names=WeightNames(
        vocabulary=lambda state: (state[PREFIX + WORDS].shape[0],) * 2,
        upgrade=upgrade, ignored=(rf"{PREFIX}pooler\..*",), copies=copies,
        renames=(heads.renamed(HEAD), (r"^encoder\.lm_head\.weight$", "lm_head.decoder.weight"),
                 (r"^encoder\.lm_head\.", "lm_head."),
                 (r"^encoder\.sentence_encoder\.", PREFIX),
                 *((f"^roberta{old}", f"roberta{new}") for old, new in LAYERS))),
    join=lambda state, config: join_types(state, config, PREFIX),
    prefix=PREFIX, kind="encoder", layout="xlmr",
    special={"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "unk_token_id": 3},
)
