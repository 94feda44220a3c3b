"""fairseq's names for its speech-to-text transformers: what their configuration and their weights
are called.

A convolution's weight [out, in, ...] is a kernel [..., in, out] here. Buffers of batch norms and
of rotary positions stand between the parameters of a conformer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from seqjax.models.parts import adaptive_names as adaptive
from seqjax.models.parts import module_order as order
from seqjax.models.s2t_transformer.config import (
    ConvTransformerConfig,
    S2TConformerConfig,
    S2TTransformerConfig,
    SpeechConfig,
)
from seqjax.models.tables import ConfigKeys, FairseqTable, State, WeightNames
from seqjax.models.transformer.fairseq import OWN, check_own, drop_empty, version


def derive(values: dict[str, Any], explicit: set[str]) -> None:
    """What fairseq's decoder takes no notice of, and what of its files means nothing."""
    drop_empty(values)
    for key in ("decoder_input_dim", "encoder_layerdrop"):
        values.pop(key, None)


def derive_conformer(values: dict[str, Any], explicit: set[str]) -> None:
    """Any other kind of attention is the transformer's, any other kind of positions `abs`."""
    derive(values, explicit)
    if values.get("attn_type") != "espnet":
        values["attn_type"] = None
    if values.get("pos_enc_type") not in ("rel_pos", "rope"):
        values["pos_enc_type"] = "abs"


def constants(config: SpeechConfig) -> State:
    """The decoder's version; that of an adaptive softmax."""
    return {"decoder.version": np.array([3], np.float32),
            **adaptive.constants(softmax=config.adaptive_softmax_cutoff is not None,
                                 adaptive_input=False, tied=False)}


def conformer_constants(config: S2TConformerConfig) -> State:
    """Also how many batches its norms have seen, which is of no consequence."""
    name = "encoder.conformer_layers.{}.conv_module.batch_norm.num_batches_tracked"
    return {**constants(config), **{
        name.format(layer): np.zeros((), np.int64) for layer in range(config.encoder_layers)}}


def copies(config: SpeechConfig) -> Mapping[str, str]:
    """A tied output projection."""
    owner = "decoder.embed_tokens.weight"
    return {"decoder.output_projection.weight": owner} if config.ties_output else {}


def upgrade(state: State, config: SpeechConfig) -> tuple[State, SpeechConfig]:
    """A pre-norm decoder from before final norms existed goes without one."""
    if config.decoder_normalize_before and version(state, "decoder") < 3:
        state = {name: value for name, value in state.items()
                 if not name.startswith("decoder.layer_norm.")}
        config = dataclasses.replace(config, no_decoder_final_norm=True)
    return state, config


def words(state: State) -> tuple[int, int]:
    """There are none in the source."""
    return 0, state["decoder.embed_tokens.weight"].shape[0]


_IGNORED = (
    r"(encoder|decoder)\.version",
    r"(encoder|decoder)\.embed_positions\.(_float_tensor|weights)",
    *adaptive.IGNORED,
)
_FRONT = ("encoder", "decoder", "subsample", "conv_layers", "conv", "out", "linear")
_DECODER = (
    *order.EMBEDDING, "layers", "c_attn", "w_resid", "self_attn", "attn_ln",
    "self_attn_layer_norm", "encoder_attn", "encoder_attn_layer_norm", "ffn_layernorm", "fc1",
    "fc2", "final_layer_norm", "layer_norm", *order.OUTPUT, *order.ADAPTIVE, "ctc_proj",
    *order.ATTENTION, *order.ARRAYS)
_CONFORMER_LAYER = (
    *_FRONT, "conformer_layers", "ffn1", "self_attn_layer_norm", "self_attn", "conv_module",
    "ffn2", "final_layer_norm", "pos_bias_u", "pos_bias_v", "linear_q", "linear_k", "linear_v",
    "linear_out", "linear_pos", "layer_norm", "w_1", "w_2", "pointwise_conv1", "depthwise_conv",
    "batch_norm", "pointwise_conv2", *order.ATTENTION, *order.ARRAYS, "running_mean",
    "running_var", "rotary_emb", "inv_freq")
"""Of the names of a conformer's layers, whose modules stand otherwise than the decoder's."""
_CONVOLUTIONS = (
    (r"\bconv_layers_(\d+)\.", r"conv_layers.\1."), (r"\bconv_(\d+)\.", r"conv.\1."))



def _keys(config: type[SpeechConfig], derive: Any = derive) -> ConfigKeys:
    """Of one family."""

    def derived(values: dict[str, Any], explicit: set[str]) -> None:
        derive(values, explicit)
        config.follow(values)

    return ConfigKeys(
        refused={"base_layers": (0,), "use_stable_embedding": (False,)},
        dropped={"quant_noise_pq": (0, 0.0), "quant_noise_scalar": (0, 0.0)},
        aliases={"relu_dropout": "activation_dropout"}, derive=derived)


def _names(layers: str, **more: Any) -> WeightNames:
    """Of one family, whose encoder's layers are called `layers`."""
    given: dict[str, Any] = {
        "vocabulary": words, "upgrade": upgrade, "ignored": _IGNORED, "copies": copies,
        "constants": constants,
        "empty": adaptive.usual_empty, "order": (*_FRONT, layers, *_DECODER), **more}
    renames = given.pop("renames", ())
    return WeightNames(**given, renames=(
        *_CONVOLUTIONS, (r"^encoder\.layers\.", f"encoder.{layers}."), *renames,
        *adaptive.RENAMES))


_UNSAID = (*OWN, "encoder_layerdrop")
TRANSFORMER = FairseqTable(
    keys=_keys(S2TTransformerConfig), names=_names("transformer_layers"),
    check_export=check_own, unsaid=_UNSAID)
CONVTRANSFORMER = FairseqTable(
    keys=_keys(ConvTransformerConfig),
    names=_names("transformer_layers", renames=((r"^encoder\.subsample\.", "encoder."),)),
    check_export=check_own,
    unsaid=(*_UNSAID, "conv_version", "conv_kernel_sizes", "conv_channels", "input_channels",
            "ctc_weight", "encoder_freezing_updates"))
CONFORMER = FairseqTable(
    keys=_keys(S2TConformerConfig, derive_conformer),
    names=_names(
        "conformer_layers", constants=conformer_constants,
        ignored=(*_IGNORED, r".*\.batch_norm\.num_batches_tracked"),
        buffers=(r".*\.batch_norm\.running_(mean|var)", r".*\.rotary_emb\.inv_freq"),
        orders=((r"encoder\.conformer_layers\..*", _CONFORMER_LAYER),)),
    check_export=check_own, unsaid=_UNSAID)
