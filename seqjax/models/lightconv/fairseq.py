"""fairseq's `lightconv` and `lightconv_lm`: the names of their weights.

The convolutions' own weights differ in shape from layer to layer, so each has its place
under `convs_N` here and `layers.N.conv` there.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

import numpy as np

from seqjax.models.lightconv.config import (
    DecoderConfig,
    LightConvConfig,
    LightConvLanguageModelConfig,
)
from seqjax.models.parts import adaptive_names as adaptive
from seqjax.models.parts import module_order as order
from seqjax.models.tables import ConfigKeys, FairseqTable, State, Transform, WeightNames
from seqjax.models.transformer import lm_fairseq as transformer_lm
from seqjax.models.transformer.fairseq import split_in_proj

_OUTPUT = "decoder.output_projection.weight"


def upgrade(state: State, config: DecoderConfig) -> tuple[State, DecoderConfig]:
    """Today's names: numbered norms of the encoder's layers, attention's stacked
    projections, and `embed_out`; lightweight weights [H, K] (fairseq's CUDA layer) as its
    Python code has them."""
    result: State = {}
    for name, value in split_in_proj(state).items():
        found = re.fullmatch(r"(encoder\.layers\.\d+\.)layer_norms\.([01])\.(\w+)", name)
        if found is not None:
            name = f"{found[1]}layer_norm{int(found[2]) + 1}.{found[3]}"
        elif re.fullmatch(r".*\.conv\.weight", name) and value.ndim == 2:
            value = value[:, None]
        result[name] = value
    if "decoder.embed_out" in result and _OUTPUT not in result:
        result[_OUTPUT] = result.pop("decoder.embed_out")
    return result, config


def copies(config: LightConvConfig) -> Mapping[str, str]:
    """Tied embeddings, which fairseq writes under each of their names."""
    shared = config.share_all_embeddings
    owner = "encoder.embed_tokens.weight" if shared else "decoder.embed_tokens.weight"
    result = {"decoder.embed_tokens.weight": owner} if shared else {}
    return {**result, _OUTPUT: owner} if config.ties_output else result


_UNUSED = r"(encoder|decoder)\.layers\.\d+\.conv\.conv_bias"


def _conv_biases(config: DecoderConfig, side: str) -> State:
    """fairseq has a bias per dynamic convolution that it never adds."""
    if getattr(config, f"{side}_conv_type") != "dynamic":
        return {}
    zero = np.zeros((1, 1, getattr(config, f"{side}_channels")), np.float32)
    return {
        f"{side}.layers.{i}.conv.conv_bias": zero
        for i in range(getattr(config, f"{side}_layers"))
    }


def _constants(config: LightConvConfig) -> State:
    version = np.array([2], np.float32)
    return {
        "encoder.version": version, "decoder.version": version,
        **_conv_biases(config, "encoder"), **_conv_biases(config, "decoder"),
    }


def _lm_constants(config: LightConvLanguageModelConfig) -> State:
    constants = transformer_lm.constants(config)
    return {
        **constants, "decoder.version": np.array([2], np.float32),
        **_conv_biases(config, "decoder"),
    }


_ORDER = (
    "encoder", "decoder", *order.EMBEDDING, "layers",
    "linear1", "conv", "linear2", "conv_layer_norm", "encoder_attn", "encoder_attn_layer_norm",
    "fc1", "fc2", "layer_norm1", "layer_norm2", "final_layer_norm",
    *order.OUTPUT, "layer_norm", *order.ADAPTIVE, *order.ATTENTION,
    "weight", "conv_bias", "weight_linear", "bias")
"""The final norm is registered behind the output layer."""

NAMES = WeightNames(
    vocabulary=lambda state: (
        state["encoder.embed_tokens.weight"].shape[0],
        state["decoder.embed_tokens.weight"].shape[0],
    ),
    upgrade=upgrade,
    ignored=(
        r"(encoder|decoder)\.version",
        r"(encoder|decoder)\.embed_positions\.(_float_tensor|weights)",
        _UNUSED, *adaptive.IGNORED,
    ),
    unused=(_UNUSED,),
    copies=copies,
    constants=_constants,
    renames=((r"^(encoder|decoder)\.convs_(\d+)\.", r"\1.layers.\2.conv."), *adaptive.RENAMES),
    transforms=((r".*\.conv\.weight", Transform(
        name="without its middle axis",
        ours=lambda w: w[:, 0], theirs=lambda w: w[:, None])),),
    order=_ORDER,
)

TABLE = FairseqTable(
    keys=ConfigKeys(refused={"adaptive_softmax_cutoff": ("", [])}), names=NAMES,
    unsaid=("short_batch_softmax",))
LM_TABLE = FairseqTable(
    keys=ConfigKeys(
        refused={"character_embeddings": (False,)},
        aliases={"tokens_per_sample": "max_target_positions"},
    ),
    names=dataclasses.replace(
        NAMES, vocabulary=transformer_lm.vocabulary, empty=adaptive.usual_empty,
        copies=transformer_lm.copies, constants=_lm_constants),
    unsaid=("short_batch_softmax",),
)
