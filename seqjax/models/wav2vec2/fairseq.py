"""fairseq's names for wav2vec 2.0: what its configuration and its weights are called.

A convolution's weight [out, in, K] is a kernel [K, in, out] here; blocks of fairseq's extractor
are numbered lists of convolution, dropout, norm and activation, ours are named after them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from seqjax.config import ConfigError
from seqjax.models.parts import module_order as order
from seqjax.models.tables import TRANSPOSED, ConfigKeys, FairseqTable, State, WeightNames
from seqjax.models.wav2vec2.config import Wav2Vec2Config


def upgrade(state: State, config: Wav2Vec2Config) -> tuple[State, Wav2Vec2Config]:
    """torch's newer names of a weight norm's two parts as the older ones."""
    parts = {"0": "weight_g", "1": "weight_v"}
    return {
        re.sub(r"\bparametrizations\.weight\.original([01])$", lambda m: parts[m[1]], name): value
        for name, value in state.items()
    }, config


def copies(config: Wav2Vec2Config) -> Mapping[str, str]:
    """A quantizer that serves targets and inputs is written under both names."""
    if not config.shares_quantizer:
        return {}
    names = ["vars"]
    last = f".{config.quantizer_depth - 1}" if config.quantizer_depth > 1 else ""
    modules = [f"weight_proj.{i}.0" for i in range(config.quantizer_depth - 1)]
    for module in [*modules, f"weight_proj{last}"]:
        names += [f"{module}.weight", f"{module}.bias"]
    return {f"input_quantizer.{name}": f"quantizer.{name}" for name in names}


def derive(values: dict[str, Any], explicit: set[str]) -> None:
    """A schedule of temperatures that was given on a command line is text."""
    given = values.get("latent_temp")
    if isinstance(given, str):
        try:
            values["latent_temp"] = tuple(float(x) for x in ast.literal_eval(given))
        except (SyntaxError, TypeError, ValueError):
            raise ConfigError(f"the checkpoint's latent_temp is no three numbers: {given!r}"
                              ) from None


_ORDER = (
    "mask_emb", "feature_extractor", "conv_layers", "post_extract_proj", "quantizer",
    "project_q", "input_quantizer", "project_inp", "vars", "weight_proj", "encoder", "pos_conv",
    "layers", "self_attn", *order.ATTENTION, "self_attn_layer_norm", "fc1", "fc2",
    "final_layer_norm", "layer_norm", "target_glu", "final_proj",
    "weight", "bias", "weight_g", "weight_v")
"""A weight norm takes the weight away and adds its two parts behind the bias."""

NAMES = WeightNames(
    vocabulary=lambda state: (0, 0),
    upgrade=upgrade,
    copies=copies,
    renames=(
        (r"\bconv_layers_(\d+)_0\.", r"conv_layers.\1.0."),
        (r"\bconv_layers_(\d+)_2\.", r"conv_layers.\1.2."),
        (r"\bconv_layers_(\d+)_2_1\.", r"conv_layers.\1.2.1."),
        (r"\bpos_conv\.convs_(\d+)\.", r"pos_conv.\1.0."),
        (r"\bpos_conv\.(weight_[gv]|bias)$", r"pos_conv.0.\1"),
        (r"\bweight_proj_(\d+)_last\.", r"weight_proj.\1."),
        (r"\bweight_proj_(\d+)\.", r"weight_proj.\1.0."),
        (r"^target_glu\.", "target_glu.0."),
    ),
    transforms=((r".*\.weight_[gv]", TRANSPOSED),),
    order=_ORDER,
)

TABLE = FairseqTable(
    keys=ConfigKeys(
        refused={"layer_type": ("transformer",), "conv_pos_batch_norm": (False,)}, derive=derive),
    names=NAMES,
)
