"""fairseq's names for `xm_transformer`: what its configuration and its weights are called.

Its files have the pretrained encoder's whole configuration inside of theirs (`w2v_args`), whose
sizes are keys of the section here.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np

from seqjax.models.finetuning.fairseq import inner_args, merged, own_form
from seqjax.models.parts import audio_names
from seqjax.models.parts import module_order as order
from seqjax.models.parts.audio_encoder_config import WaveformEncoderConfig
from seqjax.models.tables import ConfigKeys, FairseqTable, State, WeightNames
from seqjax.models.transformer.fairseq import OWN, check_own, drop_empty
from seqjax.models.xm_transformer.config import XMTransformerConfig

_DECODERS = "activation_fn"
_FORM = tuple(key for key in own_form(WaveformEncoderConfig) if key != _DECODERS)


def merge(given: Mapping[str, Any]) -> dict[str, Any]:
    """The file's keys with the encoder's; each side has an activation function of its own."""
    found = merged(given, (*_FORM, "quantize_input"))
    inner = inner_args(given).get(_DECODERS)
    return found if inner is None else {**found, "w2v_activation_fn": inner}


def nest(config: XMTransformerConfig, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """See `FairseqTable.nest`."""
    inner = {key: getattr(config, key) for key in _FORM}
    about = {"arch": "wav2vec2", "task": "audio_pretraining", "normalize": config.normalize,
             "data": args.get("data", ""), "activation_fn": config.w2v_activation_fn}
    return {"w2v_args": argparse.Namespace(**about, **inner)}


def derive(values: dict[str, Any], explicit: set[str]) -> None:
    """What fairseq's decoder takes no notice of, and what of its files means nothing."""
    drop_empty(values)
    for key in ("decoder_input_dim", "feature_grad_mult"):
        values.pop(key, None)


def copies(config: XMTransformerConfig) -> Mapping[str, str]:
    """A tied output projection."""
    owner = "decoder.embed_tokens.weight"
    return {"decoder.output_projection.weight": owner} if config.ties_output else {}


def words(state: State) -> tuple[int, int]:
    """There are none in the source."""
    return 0, state["decoder.embed_tokens.weight"].shape[0]


def constants(config: XMTransformerConfig) -> State:
    """The decoder's version."""
    return {"decoder.version": np.array([3], np.float32)}


def upgrade(state: State, config: XMTransformerConfig) -> tuple[State, XMTransformerConfig]:
    """torch's newer names of a weight norm's two parts as the older ones."""
    return audio_names.weight_norms(state), config


_FEED_FORWARD = r"^encoder\.adaptor\.(post_)?proj\."
NAMES = WeightNames(
    vocabulary=words, upgrade=upgrade, copies=copies, constants=constants,
    ignored=(r"decoder\.version", r"decoder\.embed_positions\.(_float_tensor|weights)"),
    renames=(
        *audio_names.RENAMES,
        (rf"{_FEED_FORWARD}linear_(\d)\.", r"encoder.adaptor.\1proj.\2."),
        (rf"{_FEED_FORWARD}norm\.", r"encoder.adaptor.\1proj_ln."),
        (r"^encoder\.adaptor\.conv_(\d+)\.", r"encoder.adaptor.layers.\1."),
    ),
    transforms=audio_names.TRANSFORMS,
    # Of the first parts, the encoder's place is before the decoder's, whichever order it is in.
    order=(*order.EMBEDDING, "layers", "self_attn", "self_attn_layer_norm", "encoder_attn",
           "encoder_attn_layer_norm", "fc1", "fc2", "final_layer_norm", "layer_norm",
           *order.OUTPUT, *order.ATTENTION, *order.ARRAYS, "decoder"),
    orders=(
        (r"encoder\.w2v_encoder\..*", (
            "w2v_encoder", "w2v_model", *audio_names.ENCODER_ORDER, *audio_names.LAYER_ORDER,
            "proj", *audio_names.ARRAY_ORDER)),
        (r"encoder\..*", (
            "w2v_proj_ln", "adaptor", "proj", "proj_ln", "post_proj", "post_proj_ln", "layers",
            "layernorm", *order.ARRAYS, "encoder"))),
)

TABLE = FairseqTable(
    keys=ConfigKeys(
        refused={"layer_type": ("transformer", "trf_adp"), "adp_trf_idx": ("all",),
                 "conv_pos_batch_norm": (False,), "quantize_input": (False,),
                 "remove_weight_norm": (False,), "base_layers": (0,)},
        dropped={"quant_noise_pq": (0, 0.0), "quant_noise_scalar": (0, 0.0)},
        aliases={"relu_dropout": "activation_dropout"}, merge=merge, derive=derive),
    names=NAMES, nest=nest, check_export=check_own,
    unsaid=(*OWN, "w2v_activation_fn", "projects_features",
            *(key for key in _FORM if key not in ("encoder_embed_dim",))),
)
