"""Hugging Face's Data2VecAudio: keys of `config.json` and names of weights. It has no projection
of pretraining, which is left out where a model with it is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from seqjax.models import audio_huggingface as hf
from seqjax.models.data2vec_audio.config import Data2VecAudioConfig
from seqjax.models.finetuning.huggingface import several_sizes
from seqjax.models.tables import HuggingFaceTable, State, WeightNames
from seqjax.models.transformer.huggingface import writer

PREFIX = "data2vec_audio."
KEYS = hf.keys({"layerdrop": ("encoder_layerdrop",)}, norms=False, always={
    "extractor_mode": "layer_norm", "layer_norm_first": False})


def read(said: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of `config.model`."""
    width, depth = said.get("conv_pos_kernel_size", 19), said.get("num_conv_pos_embeddings", 5)
    return {**hf.reader(KEYS)(said), "conv_pos": width * depth, "pos_conv_depth": depth}


def upgrade(
    state: State, config: Data2VecAudioConfig
) -> tuple[State, Data2VecAudioConfig]:
    """Today's names, and no projection of pretraining."""
    return hf.today(state, config, PREFIX), dataclasses.replace(config, pretraining_heads=False)


TABLE = HuggingFaceTable(
    model_types=("data2vec-audio",), architectures=("Data2VecAudioModel",), config_from=read,
    config_to=writer(KEYS, read, more=several_sizes, unsaid=(
        *hf.UNSAID, "conv_pos", "pretraining_heads")),
    names=WeightNames(
        vocabulary=lambda state: (0, 0), upgrade=upgrade, renames=hf.renames(PREFIX),
        transforms=hf.TRANSFORMS),
    join=lambda state, config: hf.join(state, config, PREFIX),
    prefix=PREFIX, kind="waveform", special=hf.SPECIAL, vocabularies=("", ""),
)
