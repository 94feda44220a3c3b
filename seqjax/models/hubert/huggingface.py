"""Hugging Face's HuBERT: keys of `config.json` and names of weights. It has no heads of
pretraining, which are left out where a model with them is written."""

from __future__ import annotations

import dataclasses

from seqjax.models import audio_huggingface as hf
from seqjax.models.hubert.config import HubertConfig
from seqjax.models.tables import HuggingFaceTable, State, WeightNames
from seqjax.models.transformer.huggingface import writer

PREFIX = "hubert."
KEYS = hf.keys({"layerdrop": ("encoder_layerdrop",),
                "conv_pos_batch_norm": ("conv_pos_batch_norm",)})
read = hf.reader(KEYS)


def upgrade(state: State, config: HubertConfig) -> tuple[State, HubertConfig]:
    """Today's names, and no heads."""
    return hf.today(state, config, PREFIX), dataclasses.replace(config, pretraining_heads=False)


TABLE = HuggingFaceTable(
    model_types=("hubert",), architectures=("HubertModel",), config_from=read,
    config_to=writer(KEYS, read, more=hf.sizes, unsaid=(
        *hf.UNSAID, "pretraining_heads", "label_classes", "final_dim", "untie_final_proj",
        "logit_temp", "target_glu")),
    names=WeightNames(
        vocabulary=lambda state: (0, 0), upgrade=upgrade, renames=hf.renames(PREFIX),
        ignored=(hf.COUNTED,), constants=hf.constants(PREFIX),
        transforms=hf.TRANSFORMS),
    join=lambda state, config: hf.join(state, config, PREFIX),
    prefix=PREFIX, kind="waveform", special=hf.SPECIAL, vocabularies=("", ""),
)
