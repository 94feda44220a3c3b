"""fairseq's `fconv` and `fconv_lm`: the names of their weights.

Weights are normalised: `weight_g` is a length per output, `weight_v` a direction. Linear
maps are transposed as everywhere, convolutions are [width, in, out] in both worlds.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

import numpy as np

from seqjax.models.fconv.config import FConvConfig, FConvLanguageModelConfig
from seqjax.models.parts import adaptive_names as adaptive
from seqjax.models.parts import module_order as order
from seqjax.models.parts.outputs import ADAPTIVE_FACTOR
from seqjax.models.tables import (
    SAME,
    TRANSPOSED,
    ConfigKeys,
    FairseqTable,
    State,
    Transform,
    WeightNames,
)

_CONVOLUTION = r".*\.convolutions\.\d+\."
_TRANSFORMS = (
    (_CONVOLUTION + "weight_v", SAME),
    (_CONVOLUTION + "weight_g", Transform(
        name="[1, 1, C] as [C]",
        ours=lambda g: g.reshape(-1), theirs=lambda g: g.reshape(1, 1, -1))),
    (r".*\.weight_v", TRANSPOSED),
    (r".*\.weight_g", Transform(
        name="[C, 1] as [C]", ours=lambda g: g[:, 0], theirs=lambda g: g[:, None])),
)
_RENAMES = (
    (r"^(encoder|decoder)\.(convolutions|projections|attention)_(\d+)\.", r"\1.\2.\3."),
    *adaptive.RENAMES,
)


_ORDER = (
    "encoder", "decoder", *order.EMBEDDING,
    "fc1", "projections", "convolutions", "attention", "fc2", "fc3", "adaptive_softmax",
    "in_projection", "out_projection", *order.ADAPTIVE, "weight", "bias", "weight_g", "weight_v")


def upgrade(
    state: State, config: FConvConfig | FConvLanguageModelConfig
) -> tuple[State, FConvConfig | FConvLanguageModelConfig]:
    """Today's lengths: the first versions had one per tap of a decoder's convolution."""
    result = dict(state)
    for name, length in state.items():
        found = re.fullmatch(r"(decoder\.convolutions\.\d+\.)weight_g", name)
        direction = state.get(f"{found[1]}weight_v") if found else None
        if direction is None or length.shape != (direction.shape[0], 1, 1):
            continue
        if length.shape == (1, 1, direction.shape[-1]):
            continue
        norm = np.sqrt(np.square(direction, dtype=np.float64).sum((1, 2), keepdims=True))
        weight = direction * (length / norm)
        result[f"{name[:-1]}v"] = weight.astype(direction.dtype)
        result[name] = np.sqrt(np.square(weight).sum((0, 1), keepdims=True)).astype(length.dtype)
    result["decoder.version"] = np.array([2], np.float32)
    if "decoder.adaptive_softmax.head.weight" not in state and isinstance(
            config, FConvLanguageModelConfig):
        config = dataclasses.replace(config, adaptive_softmax_cutoff=None)
    return result, config


def copies(config: FConvConfig | FConvLanguageModelConfig) -> Mapping[str, str]:
    """A shared embedding is written once more as the output's weight."""
    if not getattr(config, "share_input_output_embed", False):
        return {}
    return {"decoder.fc3.weight": "decoder.embed_tokens.weight"}


def _constants(config: FConvConfig | FConvLanguageModelConfig) -> State:
    softmax = getattr(config, "adaptive_softmax_cutoff", None) is not None
    return {
        "decoder.version": np.array([2], np.float32),
        **adaptive.constants(softmax=softmax, adaptive_input=False, tied=False),
    }


NAMES = WeightNames(
    vocabulary=lambda state: (
        state["encoder.embed_tokens.weight"].shape[0],
        state["decoder.embed_tokens.weight"].shape[0],
    ),
    upgrade=upgrade,
    ignored=(r"decoder\.version", *adaptive.IGNORED),
    copies=copies,
    constants=_constants,
    renames=_RENAMES,
    transforms=_TRANSFORMS,
    stacks=(),
    order=_ORDER,
)


def _lm_vocabulary(state: State) -> tuple[int, int]:
    rows = state["decoder.embed_tokens.weight"].shape[0]
    output = state.get("decoder.fc3.weight_v")
    return rows, rows if output is None else output.shape[0]


TABLE = FairseqTable(keys=ConfigKeys(refused={}), names=NAMES)
LM_TABLE = FairseqTable(
    keys=ConfigKeys(refused={"decoder_attention": ("False", False)}),
    names=dataclasses.replace(
        NAMES, vocabulary=_lm_vocabulary,
        empty=lambda config, size: adaptive.empty_tails(
            config.decoder_convolutions[-1].channels, ADAPTIVE_FACTOR, config, size)),
    as_trained=adaptive.by_criterion(None),
)
