"""GPT-2: language models of web pages (Radford et al. 2019).

Keys in fairseq's words in, the transformer language model out: pre-norm, with learned positions
from 0, embeddings as they are. Its files keep matrices as [in, out], and q, k, v in one.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from seqjax.models.family import Family
from seqjax.models.parts.configs import TRAINING_ONLY
from seqjax.models.tables import SAME, HuggingFaceKeys, HuggingFaceTable, State, WeightNames
from seqjax.models.transformer import huggingface
from seqjax.models.transformer.lm_config import TransformerLanguageModelConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPT2Config(TransformerLanguageModelConfig):
    """By default the smallest, of 124 million parameters."""

    name: Literal["gpt2"] = "gpt2"  # type: ignore[assignment]
    """Chooses the family of models."""
    activation_fn: Literal[
        "relu", "gelu", "gelu_fast", "gelu_accurate", "tanh", "linear", "swish"
    ] = "gelu_accurate"
    """Of the feed-forward network."""
    attention_dropout: float = dataclasses.field(default=0.1, metadata=TRAINING_ONLY)
    """On the weights of the attention."""
    no_scale_embedding: bool = True
    """Embeddings are not multiplied by the square root of their width."""
    position_offset: int | None = 0
    """Position of the first token: of sinusoids, or the row of the table of learned positions,
    which has this many more rows (None: one behind padding's id, as in fairseq)."""
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


KEYS = HuggingFaceKeys(
    ours={
        **huggingface.decoder_keys(
            width="n_embd", inner="n_inner", layers="n_layer", heads="n_head",
            longest="n_positions"),
        "activation_function": ("activation_fn",), "resid_pdrop": ("dropout",),
        "attn_pdrop": ("attention_dropout",), "layer_norm_epsilon": ("layer_norm_eps",),
        "tie_word_embeddings": ("share_decoder_input_output_embed",)},
    defaults={
        "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024,
        "activation_function": "gelu_new", "resid_pdrop": 0.1, "attn_pdrop": 0.1,
        "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True},
    spelled=huggingface.SPELLED,
    fixed={"add_cross_attention": (False,), "scale_attn_weights": (True,),
           "scale_attn_by_inverse_layer_idx": (False,)},
    always={"decoder_learned_pos": True, "no_scale_embedding": True, "position_offset": 0,
            "decoder_normalize_before": True},
)


def read(hf: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of `config.model`; see `HuggingFaceTable.config_from`."""
    for name, today in (("hidden_size", "n_embd"), ("num_hidden_layers", "n_layer"),
                        ("num_attention_heads", "n_head"),
                        ("max_position_embeddings", "n_positions")):
        if name in hf:  # transformers takes both
            hf = {today: hf[name], **hf}
    width = hf.get("n_embd", KEYS.defaults["n_embd"])
    found = KEYS.read({**hf, "n_inner": hf.get("n_inner") or 4 * width})
    rates = {key: hf.get(key, 0.1) for key in ("resid_pdrop", "embd_pdrop")}
    if len(set(rates.values())) > 1:
        warnings.warn(f"embd_pdrop: {rates['embd_pdrop']} is trained on as resid_pdrop is, "
                      f"{rates['resid_pdrop']}: they are one key here, dropout", stacklevel=2)
    return found


# ---- tensors ----

_FUSED = re.compile(r"(transformer\.h\.\d+\.attn\.)c_attn\.(weight|bias)")
_FIRST = re.compile(r"(transformer\.h\.\d+\.attn\.)q_proj\.(weight|bias)")


def upgrade(state: State, config: GPT2Config) -> tuple[State, GPT2Config]:
    """q, k and v apart."""
    result: State = {}
    for name, value in state.items():
        found = _FUSED.fullmatch(name)
        if found is None or value.shape[-1] % 3:
            result[name] = value
            continue
        for part, one in zip("qkv", np.split(value, 3, axis=-1), strict=True):
            result[f"{found[1]}{part}_proj.{found[2]}"] = one
    return result, config


def join(state: State, config: GPT2Config) -> State:
    """q, k and v together, in the place of q."""
    del config
    result: State = {}
    for name, value in state.items():
        found = _FIRST.fullmatch(name)
        if found is not None:
            rest = [state[f"{found[1]}{part}_proj.{found[2]}"] for part in "kv"]
            result[f"{found[1]}c_attn.{found[2]}"] = np.concatenate([value, *rest], axis=-1)
        elif not re.fullmatch(r"transformer\.h\.\d+\.attn\.[kv]_proj\.(weight|bias)", name):
            result[name] = value
    return result


HUGGINGFACE = HuggingFaceTable(
    model_types=("gpt2",), architectures=("GPT2LMHeadModel", "GPT2Model"),
    config_from=read,
    config_to=huggingface.writer(
        KEYS, read, more=lambda config: {"embd_pdrop": config.dropout}),
    names=WeightNames(
        vocabulary=huggingface.words("transformer.wte.weight"), upgrade=upgrade,
        ignored=(r"transformer\.h\.\d+\.attn\.(masked_)?bias",),
        copies=huggingface.head_copies("transformer.wte.weight"),
        renames=(
            (r"^decoder\.output_projection\.", "lm_head."),
            (r"^decoder\.embed_tokens\.", "transformer.wte."),
            (r"^decoder\.embed_positions\.", "transformer.wpe."),
            (r"^decoder\.layer_norm\.", "transformer.ln_f."),
            (r"^decoder\.layers\.(\d+)\.", r"transformer.h.\1."),
            (r"\.self_attn\.out_proj\.", ".attn.c_proj."), (r"\.self_attn\.", ".attn."),
            (r"\.self_attn_layer_norm\.", ".ln_1."), (r"\.final_layer_norm\.", ".ln_2."),
            (r"\.fc1\.", ".mlp.c_fc."), (r"\.fc2\.", ".mlp.c_proj.")),
        transforms=((r"transformer\.h\.\d+\.(attn|mlp)\.\w+\.weight", SAME),)),
    join=join, prefix="transformer.", kind="decoder",
    special={"bos_token_id": 50256, "pad_token_id": None, "eos_token_id": 50256},
)

FAMILIES = (
    Family(
        name="gpt2", config=GPT2Config, archs={},
        model="seqjax.models.transformer.lm:TransformerLanguageModel",
        huggingface=("seqjax.models.gpt2:HUGGINGFACE",),
    ),
)
