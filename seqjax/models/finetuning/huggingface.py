"""Hugging Face's classes for CTC, of encoders of three kinds: keys of `config.json` and names of
weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from seqjax.config import ConfigError
from seqjax.models import audio_huggingface as hf
from seqjax.models.parts.audio_encoder_config import EncoderKeys
from seqjax.models.tables import HuggingFaceKeys, HuggingFaceTable, WeightNames
from seqjax.models.transformer.huggingface import writer

FINE = {"layerdrop": ("layerdrop",), "final_dropout": ("final_dropout",)}
KEYS = hf.keys(FINE)
SEVERAL_KEYS = hf.keys(FINE, norms=False, always={
    "extractor_mode": "layer_norm", "layer_norm_first": False})
"""Of a model whose positions are several convolutions."""


def several_read(hf_keys: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of `config.model`, of a model with several convolutions for positions."""
    width = hf_keys.get("conv_pos_kernel_size", 19)
    depth = hf_keys.get("num_conv_pos_embeddings", 5)
    return {**hf.reader(SEVERAL_KEYS)(hf_keys), "conv_pos": width * depth,
            "pos_conv_depth": depth}


def several_sizes(config: EncoderKeys) -> dict[str, Any]:
    """And back."""
    if config.pos_conv_depth < 2:
        raise ConfigError("config.model.pos_conv_depth: 1, where such models have several")
    width = max(3, config.conv_pos // config.pos_conv_depth)
    return {**hf.sizes(config), "conv_pos_kernel_size": width,
            "num_conv_pos_embeddings": config.pos_conv_depth}


def table(
    model_type: str, architecture: str, *, keys: HuggingFaceKeys = KEYS,
    read: Callable[[Mapping[str, Any]], dict[str, Any]],
    more: Callable[[Any], dict[str, Any]] = hf.sizes, unsaid: tuple[str, ...] = (),
) -> HuggingFaceTable:
    """The table of one class, whose parts without a head are under its `model_type`."""
    prefix = model_type.replace("-", "_") + "."
    return HuggingFaceTable(
        model_types=(model_type,), architectures=(architecture,), config_from=read,
        config_to=writer(keys, read, more=more, unsaid=(*hf.UNSAID, *unsaid)),
        names=WeightNames(
            vocabulary=lambda state: (0, state["lm_head.weight"].shape[0]),
            upgrade=lambda state, config: (hf.today(state, config, prefix), config),
            ignored=(hf.COUNTED,), constants=hf.constants(prefix),
            renames=hf.renames(prefix), transforms=hf.TRANSFORMS),
        join=lambda state, config: hf.join(state, config, prefix),
        prefix=prefix, kind="waveform", special=hf.SPECIAL, vocabularies=("", "vocab_size"))


SEVERAL = table(
    "data2vec-audio", "Data2VecAudioForCTC", keys=SEVERAL_KEYS,
    read=several_read, more=several_sizes, unsaid=("conv_pos",))
