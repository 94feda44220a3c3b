"""Hugging Face's models of waveforms (Wav2Vec2, HuBERT, Data2VecAudio): keys of `config.json` and
names of weights that they have in common.

transformers has a projection behind the convolutions whatever the widths are, and keeps what
masked frames become only where its own keys mask any.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from seqjax.config import ConfigError
from seqjax.models.parts.audio_config import MaskConfig
from seqjax.models.parts.audio_encoder_config import ADAPTED, EncoderKeys
from seqjax.models.tables import TRANSPOSED, HuggingFaceKeys, State, Transform
from seqjax.models.transformer import huggingface

FIRST = Transform(name="the first", ours=lambda x: x[None], theirs=lambda x: x[0])
"""One adapter <-> a list of one."""
_OURS: Mapping[str, tuple[str, ...]] = {
    "hidden_size": ("encoder_embed_dim",), "intermediate_size": ("encoder_ffn_embed_dim",),
    "num_hidden_layers": ("encoder_layers",),
    "num_attention_heads": ("encoder_attention_heads",), "hidden_act": ("activation_fn",),
    "hidden_dropout": ("dropout",), "activation_dropout": ("activation_dropout",),
    "attention_dropout": ("attention_dropout",), "feat_proj_dropout": ("dropout_input",),
    "conv_bias": ("conv_bias",), "num_conv_pos_embedding_groups": ("conv_pos_groups",),
    "mask_time_prob": ("mask_prob",), "mask_time_length": ("mask_length",),
    "mask_feature_prob": ("mask_channel_prob",), "mask_feature_length": ("mask_channel_length",),
}
_NORMS: Mapping[str, tuple[str, ...]] = {
    "num_conv_pos_embeddings": ("conv_pos",), "feat_extract_norm": ("extractor_mode",),
    "do_stable_layer_norm": ("layer_norm_first",)}
_DEFAULTS: Mapping[str, Any] = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "hidden_act": "gelu", "hidden_dropout": 0.1,
    "activation_dropout": 0.1, "attention_dropout": 0.1, "feat_proj_dropout": 0.0,
    "final_dropout": 0.1, "layerdrop": 0.1, "conv_bias": False, "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16, "feat_extract_norm": "group",
    "do_stable_layer_norm": False, "mask_time_prob": 0.05, "mask_time_length": 10,
    "mask_feature_prob": 0.0, "mask_feature_length": 10, "layer_norm_eps": 1e-5,
    "feat_extract_activation": "gelu", "add_adapter": False, "use_weighted_layer_sum": False,
    "feat_proj_layer_norm": True, "conv_pos_batch_norm": False,
    "feat_quantizer_dropout": 0.0, "num_codevectors_per_group": 320, "num_codevector_groups": 2,
    "contrastive_logits_temperature": 0.1, "num_negatives": 100, "codevector_dim": 256,
    "proj_codevector_dim": 256,
}
_CONVOLUTIONS: Mapping[str, tuple[int, ...]] = {
    "conv_dim": (512,) * 7, "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
    "conv_stride": (5, 2, 2, 2, 2, 2, 2)}
SPECIAL: Mapping[str, int | None] = {
    "bos_token_id": 1, "pad_token_id": 0, "eos_token_id": 2}


def keys(
    more: Mapping[str, tuple[str, ...]], *, norms: bool = True,
    always: Mapping[str, Any] | None = None,
) -> HuggingFaceKeys:
    """Keys of a kind of model.

    Args:
      more: what it has beside those that all have.
      norms: whether where norms are is said; else it is always the same.
      always: keys here that all such models have, with their values.
    """
    return HuggingFaceKeys(
        ours={**_OURS, **(_NORMS if norms else {}), **more}, defaults=_DEFAULTS,
        spelled={"hidden_act": huggingface.ACTIVATIONS,
                 "feat_extract_norm": {"group": "default", "layer": "layer_norm"}},
        fixed={"layer_norm_eps": (1e-5,), "feat_extract_activation": ("gelu",),
               "add_adapter": (False,), "use_weighted_layer_sum": (False,),
               "feat_proj_layer_norm": (True,),
               **({} if "conv_pos_batch_norm" in more else {"conv_pos_batch_norm": (False,)})},
        always=always or {})


def reader(
    table: HuggingFaceKeys, *, adapters: bool = False
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """`HuggingFaceTable.config_from`: the keys, convolutions, and adapters of models that may have
    them."""

    def read(hf: Mapping[str, Any]) -> dict[str, Any]:
        found = table.read(hf)
        lists = {key: hf.get(key, default) for key, default in _CONVOLUTIONS.items()}
        if len({len(x) for x in lists.values()}) != 1:
            raise ConfigError(f"{', '.join(lists)}: are of different lengths: "
                              f"{list(map(len, lists.values()))}")
        layers = list(zip(*lists.values(), strict=True))
        found["conv_feature_layers"] = str(layers)
        found["projects_features"] = layers[-1][0] == found["encoder_embed_dim"]
        width = hf.get("adapter_attn_dim")
        if adapters and width is not None:
            if not found["layer_norm_first"]:
                raise ConfigError("adapter_attn_dim: without do_stable_layer_norm transformers "
                                  "leaves its adapters out")
            found |= {"layer_type": ADAPTED, "adp_num": 1, "adp_dim": width, "adp_act_fn": "relu"}
        return found

    return read


def sizes(config: EncoderKeys) -> dict[str, Any]:
    """What is written beside a table's keys."""
    if not config.has_projection:
        raise ConfigError(
            "config.model.projects_features: transformers has a projection behind the features "
            f"where this model has none (both are {config.feature_dim} wide)")
    layers = config.conv_layers
    found: dict[str, Any] = {
        "conv_dim": [x.channels for x in layers], "conv_kernel": [x.width for x in layers],
        "conv_stride": [x.stride for x in layers], "num_feat_extract_layers": len(layers)}
    if config.layer_type == ADAPTED:
        if config.adp_num != 1 or config.adp_act_fn != "relu" or not config.layer_norm_first:
            raise ConfigError("config.model.adp_num, adp_act_fn, layer_norm_first: transformers "
                              "has one adapter of each layer, with relu, in pre-norm models")
        found["adapter_attn_dim"] = config.adp_dim
    return found


UNSAID = ("conv_feature_layers", "adp_num", "adp_dim", "adp_act_fn", "w2v_path",
          "no_pretrained_weights", "normalize", "max_positions")
"""Keys here that `sizes` says in another way, or that matter to no weights."""


def renames(prefix: str) -> tuple[tuple[str, str], ...]:
    """Our names -> transformers', of the encoder under `prefix` and of a linear layer onto
    symbols."""
    p = prefix
    return (
        (r"^w2v_encoder\.proj\.", "lm_head."), (r"^w2v_encoder\.w2v_model\.", ""),
        (r"^feature_extractor\.conv_layers_(\d+)_0\.",
         p + r"feature_extractor.conv_layers.\1.conv."),
        (r"^feature_extractor\.conv_layers_(\d+)_2(_1)?\.",
         p + r"feature_extractor.conv_layers.\1.layer_norm."),
        (r"^post_extract_proj\.", f"{p}feature_projection.projection."),
        (r"^layer_norm\.", f"{p}feature_projection.layer_norm."),
        (r"^mask_emb$", f"{p}masked_spec_embed"),
        (r"^encoder\.pos_conv\.convs_(\d+)\.", p + r"encoder.pos_conv_embed.layers.\1.conv."),
        (r"^encoder\.pos_conv\.conv\.", f"{p}encoder.pos_conv_embed.conv."),
        (r"^encoder\.pos_conv\.weight$", f"{p}encoder.pos_conv_embed.batch_norm.weight"),
        (r"^encoder\.pos_conv\.shift$", f"{p}encoder.pos_conv_embed.batch_norm.bias"),
        (r"^encoder\.pos_conv\.(running_\w+)$", p + r"encoder.pos_conv_embed.batch_norm.\1"),
        (r"^encoder\.pos_conv\.weight_g$",
         f"{p}encoder.pos_conv_embed.conv.parametrizations.weight.original0"),
        (r"^encoder\.pos_conv\.weight_v$",
         f"{p}encoder.pos_conv_embed.conv.parametrizations.weight.original1"),
        (r"^encoder\.pos_conv\.bias$", f"{p}encoder.pos_conv_embed.conv.bias"),
        (r"^encoder\.layer_norm\.", f"{p}encoder.layer_norm."),
        (r"^(encoder\.layers\.\d+)\.self_attn\.", p + r"\1.attention."),
        (r"^(encoder\.layers\.\d+)\.self_attn_layer_norm\.", p + r"\1.layer_norm."),
        (r"^(encoder\.layers\.\d+)\.fc1\.", p + r"\1.feed_forward.intermediate_dense."),
        (r"^(encoder\.layers\.\d+)\.fc2\.", p + r"\1.feed_forward.output_dense."),
        (r"^(encoder\.layers\.\d+)\.final_layer_norm\.", p + r"\1.final_layer_norm."),
        (r"^(encoder\.layers\.\d+\.adapter_layer)\.W_a$", p + r"\1.linear_1.weight"),
        (r"^(encoder\.layers\.\d+\.adapter_layer)\.W_b$", p + r"\1.linear_2.weight"),
        (r"^(encoder\.layers\.\d+\.adapter_layer)\.b_a$", p + r"\1.linear_1.bias"),
        (r"^(encoder\.layers\.\d+\.adapter_layer)\.b_b$", p + r"\1.linear_2.bias"),
        (r"^(encoder\.layers\.\d+\.adapter_layer)\.ln_W$", p + r"\1.norm.weight"),
        (r"^(encoder\.layers\.\d+\.adapter_layer)\.ln_b$", p + r"\1.norm.bias"),
    )


COUNTED = r".*\.batch_norm\.num_batches_tracked"
"""A buffer of a batch norm, which nothing reads."""


def constants(prefix: str) -> Callable[[Any], State]:
    """`WeightNames.constants`: that buffer."""

    def made(config: EncoderKeys) -> State:
        if not config.conv_pos_batch_norm:
            return {}
        name = f"{prefix}encoder.pos_conv_embed.batch_norm.num_batches_tracked"
        return {name: np.zeros((), np.int64)}

    return made


TRANSFORMS: tuple[tuple[str, Transform], ...] = (
    (r".*\.original[01]", TRANSPOSED), (r".*\.adapter_layer\..*", FIRST))


def today(state: State, config: EncoderKeys, prefix: str) -> State:
    """Weight norms by torch's newer names, and what masked frames become, zeros where the folder
    has none."""
    found = {re.sub(r"\.conv\.weight_g$", ".conv.parametrizations.weight.original0",
                    re.sub(r"\.conv\.weight_v$", ".conv.parametrizations.weight.original1", name)):
             value for name, value in state.items()}
    found.setdefault(f"{prefix}masked_spec_embed", np.zeros(config.encoder_embed_dim, np.float32))
    return found


def masks(config: MaskConfig) -> bool:
    """Whether transformers keeps what masked frames become."""
    return config.mask_prob > 0 or config.mask_channel_prob > 0


def join(state: State, config: MaskConfig, prefix: str) -> State:
    """And back: without it where its keys mask nothing."""
    if masks(config):
        return state
    return {name: value for name, value in state.items() if name != f"{prefix}masked_spec_embed"}
