"""fairseq's `transformer`: the names of its weights and their history.

0.5 and before: attention's q, k, v stacked in `in_proj_weight`; layer norms numbered;
`decoder.embed_out` for an untied output; sinusoids saved. Since: see the defaults of `WeightNames`.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import warnings
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from seqjax.config import ConfigError, ModelSection
from seqjax.models.parts import adaptive_names as adaptive
from seqjax.models.parts import heads_config as heads
from seqjax.models.parts import module_order as order
from seqjax.models.parts.configs import LAYERS_TO_KEEP
from seqjax.models.tables import ConfigKeys, FairseqTable, State, WeightNames
from seqjax.models.transformer.config import ClassifyingTransformerConfig, TransformerConfig

_NORMS = {
    "encoder": ("self_attn_layer_norm", "final_layer_norm"),
    "decoder": ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"),
}
_NORMED = {"encoder": 2, "decoder": 3}
"""The first version of a side whose pre-norm stack ends in a norm."""
_OUTPUT = "decoder.output_projection.weight"


def split_in_proj(state: State) -> State:
    """`X.in_proj_{weight,bias}` (rows q, k, v) as `X.{q,k,v}_proj.{weight,bias}`."""
    result: State = {}
    for name, value in state.items():
        found = re.fullmatch(r"(.*\.)in_proj_(weight|bias)", name)
        if found is None or value.shape[0] % 3:
            result[name] = value
            continue
        rows = value.shape[0] // 3
        for index, part in enumerate("qkv"):
            result[f"{found[1]}{part}_proj.{found[2]}"] = value[index * rows:(index + 1) * rows]
    return result


def number_norms(state: State) -> State:
    """`layer_norms.N` as the norm that it is."""
    result: State = {}
    for name, value in state.items():
        found = re.fullmatch(r"(encoder|decoder)(\.layers\.\d+\.)layer_norms\.(\d)\.(\w+)", name)
        if found is not None and int(found[3]) < len(_NORMS[found[1]]):
            name = f"{found[1]}{found[2]}{_NORMS[found[1]][int(found[3])]}.{found[4]}"
        result[name] = value
    return result


def version(state: State, side: str) -> float:
    """Of the format of an encoder or decoder; files from before there were any have 1."""
    value = state.get(f"{side}.version")
    return 1.0 if value is None or value.size == 0 else float(np.asarray(value).reshape(-1)[0])


def upgrade(state: State, config: TransformerConfig) -> tuple[State, TransformerConfig]:
    """Today's names; a pre-norm stack from before final norms existed goes without one."""
    state = number_norms(split_in_proj(state))
    if "decoder.embed_out" in state and _OUTPUT not in state:
        state[_OUTPUT] = state.pop("decoder.embed_out")
    for side in ("encoder", "decoder"):
        if getattr(config, f"{side}_normalize_before") and version(state, side) < _NORMED[side]:
            config = dataclasses.replace(config, **{f"no_{side}_final_norm": True})
            for leaf in ("weight", "bias"):
                state.pop(f"{side}.layer_norm.{leaf}", None)
    return state, config


def copies(config: TransformerConfig) -> Mapping[str, str]:
    """Tied embeddings, which fairseq writes under each of their names."""
    shared = config.shares_input
    owner = "encoder.embed_tokens.weight" if shared else "decoder.embed_tokens.weight"
    result = {"decoder.embed_tokens.weight": owner} if shared else {}
    return {**result, _OUTPUT: owner} if config.ties_output else result


def constants(config: TransformerConfig) -> State:
    """The version of the format, which both sides write; that an encoder has no final norm
    can be said in no other way. And that of an adaptive softmax."""
    early = config.encoder_normalize_before and config.no_encoder_final_norm
    return {"encoder.version": np.array([1 if early else 3], np.float32),
            "decoder.version": np.array([3], np.float32),
            **adaptive.constants(softmax=config.adaptive_softmax_cutoff is not None,
                                 adaptive_input=False, tied=False)}


def drop_empty(values: dict[str, Any]) -> None:
    """Lists without an entry, which mean the same as none."""
    for key in ("adaptive_softmax_cutoff", *LAYERS_TO_KEEP.values()):
        if key in values and values[key] in ("", [], ()):
            del values[key]


def derive(values: dict[str, Any], explicit: set[str]) -> None:
    """What follows from other keys; fairseq's translation models ignore `decoder_input_dim`."""
    drop_empty(values)
    TransformerConfig.follow(values)
    values.pop("decoder_input_dim", None)


def check_attention(given: Mapping[str, Any]) -> None:
    """xFormers' ordinary attention is taken as what it is, its approximations are refused."""
    for side in ("encoder", "decoder"):
        key = f"{side}_xformers_att_config"
        value = given.get(key) or None
        if isinstance(value, str):
            try:
                value = ast.literal_eval(value)
            except (ValueError, SyntaxError):
                raise ConfigError(f"{key}: cannot read {value!r}") from None
        if value is None:
            continue
        name = value.get("name") if isinstance(value, Mapping) else None
        if name != "scaled_dot_product":
            raise ConfigError(
                f"{key}: xFormers' attention {name!r} computes something else than softmax "
                "attention, and seqjax does not have it")
        warnings.warn(f"{key}: scaled_dot_product is softmax attention, which is computed here "
                      "without xFormers", stacklevel=4)


def check(given: Mapping[str, Any]) -> None:
    """What needs an adaptive input is refused: translation models have none in fairseq, which
    ignores the key itself and stops on weights tied to it."""
    check_attention(given)
    if given.get("tie_adaptive_weights") and given.get("adaptive_softmax_cutoff"):
        raise ConfigError("tie_adaptive_weights: a translation model has no adaptive input that "
                          "its adaptive softmax could be tied to (fairseq stops on it too)")
    for key in ("adaptive_input", "char_inputs"):
        if given.get(key) not in (None, False):
            warnings.warn(f"{key}: translation models of fairseq's take no notice of it",
                          stacklevel=3)


KEYS = ConfigKeys(
    refused={
        "base_layers": (0,), "use_stable_embedding": (False,),
    },
    dropped={"quant_noise_pq": (0, 0.0), "quant_noise_scalar": (0, 0.0)},
    aliases={"relu_dropout": "activation_dropout"},
    check=check,
    derive=derive,
)

ORDER = (
    "encoder", "decoder", *order.EMBEDDING, "layers",
    "c_attn", "w_resid", "self_attn", "attn_ln", "self_attn_layer_norm", "encoder_attn",
    "encoder_attn_layer_norm", "ffn_layernorm", "fc1", "fc2", "final_layer_norm",
    "layer_norm", *order.OUTPUT, *order.ADAPTIVE, *order.ATTENTION, *order.ARRAYS)
"""As in fairseq's `TransformerEncoderBase` and `TransformerDecoderBase` and their layers."""

NAMES = WeightNames(
    vocabulary=lambda state: (
        state["encoder.embed_tokens.weight"].shape[0],
        state["decoder.embed_tokens.weight"].shape[0],
    ),
    upgrade=upgrade,
    empty=adaptive.usual_empty,
    ignored=(
        r"(encoder|decoder)\.version",
        r"(encoder|decoder)\.embed_positions\.(_float_tensor|weights)",
        *adaptive.IGNORED,
    ),
    copies=copies,
    constants=constants,
    renames=adaptive.RENAMES,
    order=ORDER,
)

OWN: Mapping[str, Any] = {
    "layer_norm_eps": 1e-5, "linear_bias": True, "position_offset": None,
    "sinusoid_spacing": "inclusive", "output_bias": False, "pad_begins": False}
"""Keys that fairseq does not have -> what its models are by them."""


def check_own(config: ModelSection) -> None:
    """Raises ConfigError for a model that fairseq cannot build, naming the keys."""
    wrong = [f"{key}={getattr(config, key)!r}" for key, usual in OWN.items()
             if getattr(config, key, usual) != usual]
    if wrong:
        raise ConfigError(
            f"fairseq's models have no {', '.join(wrong)}: this one cannot be given to fairseq")


TABLE = FairseqTable(
    keys=KEYS, names=NAMES, check_export=check_own, unsaid=("no_encoder_final_norm", *OWN))


def upgrade_classifying(
    state: State, config: ClassifyingTransformerConfig
) -> tuple[State, ClassifyingTransformerConfig]:
    """Today's names; which heads for classification there are, the weights tell."""
    state, found = upgrade(state, config)
    return state, heads.with_heads_of(state, cast(ClassifyingTransformerConfig, found))


def classifying(arch: str) -> FairseqTable:
    """`TABLE` of models with heads for classification.

    Args:
      arch: what files name where a configuration names no architecture.
    """
    return dataclasses.replace(
        TABLE,
        keys=dataclasses.replace(KEYS, refused={**KEYS.refused, **heads.REFUSED}),
        names=dataclasses.replace(
            NAMES, upgrade=upgrade_classifying, chosen=(heads.HEADS,),
            idle=(r"decoder\.output_projection\.weight", rf"{heads.HEADS}\..*"),
            order=("dense", *NAMES.order, heads.HEADS)),
        unsaid=(*TABLE.unsaid, *heads.UNSAID),
        arch=lambda config: config.arch or arch,
    )
