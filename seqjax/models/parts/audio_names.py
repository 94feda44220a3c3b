"""fairseq's names of the weights that all models of waveforms have.

A convolution's weight [out, in, K] is a kernel [K, in, out] here; blocks of fairseq's extractor
are numbered lists of convolution, dropout, norm and activation, ours are named after them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from seqjax.config import ModelSection
from seqjax.models.parts import module_order as order
from seqjax.models.tables import TRANSPOSED, State, Transform

COUNTED = r"(?:.*\.)?pos_conv\.0\.num_batches_tracked"
"""A buffer of a batch norm, which nothing reads."""

STATISTICS = (r"(?:.*\.)?pos_conv\.0\.running_(?:mean|var)",)
"""`WeightNames.buffers`: parameters here, buffers there."""
WEIGHT_NORM = {"0": "weight_g", "1": "weight_v"}


def weight_norms(state: State) -> State:
    """torch's newer names of a weight norm's two parts as the older ones."""
    return {
        re.sub(r"\bparametrizations\.weight\.original([01])$",
               lambda m: WEIGHT_NORM[m[1]], name): value
        for name, value in state.items()
    }


def constants(prefix: str = "") -> Callable[[Any], State]:
    """`WeightNames.constants`: what a batch norm in front of the positions has beside its
    statistics, under `prefix`."""

    def made(config: ModelSection) -> State:
        if not getattr(config, "conv_pos_batch_norm", False):
            return {}
        return {f"{prefix}encoder.pos_conv.0.num_batches_tracked": np.zeros((), np.int64)}

    return made


RENAMES: tuple[tuple[str, str], ...] = (
    (r"\bconv_layers_(\d+)_0\.", r"conv_layers.\1.0."),
    (r"\bconv_layers_(\d+)_2\.", r"conv_layers.\1.2."),
    (r"\bconv_layers_(\d+)_2_1\.", r"conv_layers.\1.2.1."),
    (r"\bpos_conv\.convs_(\d+)\.", r"pos_conv.\1.0."),
    (r"\bpos_conv\.conv\.", "pos_conv.1."),
    (r"\bpos_conv\.weight$", "pos_conv.0.weight"), (r"\bpos_conv\.shift$", "pos_conv.0.bias"),
    (r"\bpos_conv\.(weight_[gv]|bias|running_mean|running_var)$", r"pos_conv.0.\1"),
    (r"\btarget_glu\.", "target_glu.0."),
)
TRANSFORMS: tuple[tuple[str, Transform], ...] = ((r".*\.weight_[gv]", TRANSPOSED),)
ENCODER_ORDER = (
    "mask_emb", "label_embs_concat", "feature_extractor", "conv_layers", "post_extract_proj")
"""In front of what a family adds."""
LAYER_ORDER = (
    "encoder", "pos_conv", "layers", "self_attn", *order.ATTENTION, "self_attn_layer_norm", "fc1",
    "fc2", "final_layer_norm", "adapter_layer", "layer_norm")
"""And behind it."""
ARRAY_ORDER = (
    "weight", "bias", "weight_g", "weight_v", "running_mean", "running_var", "W_a", "W_b", "b_a",
    "b_b", "ln_W", "ln_b")
"""A weight norm takes the weight away and adds its two parts behind the bias."""
