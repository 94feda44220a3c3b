"""Hugging Face's Wav2Vec2 without a head or with those of pretraining: keys of `config.json` and
names of weights."""

from __future__ import annotations

import dataclasses

from seqjax.models import audio_huggingface as hf
from seqjax.models.tables import HuggingFaceTable, State, WeightNames
from seqjax.models.transformer.huggingface import writer
from seqjax.models.wav2vec2.config import Wav2Vec2Config

PREFIX = "wav2vec2."
KEYS = hf.keys(
    {"layerdrop": ("encoder_layerdrop",), "feat_quantizer_dropout": ("dropout_features",),
     "num_codevectors_per_group": ("latent_vars",), "num_codevector_groups": ("latent_groups",),
     "contrastive_logits_temperature": ("logit_temp",), "num_negatives": ("num_negatives",),
     "codevector_dim": ("latent_dim",), "proj_codevector_dim": ("final_dim",)},
    always={"quantize_targets": True})
read = hf.reader(KEYS, adapters=True)


def upgrade(state: State, config: Wav2Vec2Config) -> tuple[State, Wav2Vec2Config]:
    """Today's names; whether there are heads, the weights say."""
    heads = "project_hid.weight" in state
    return hf.today(state, config, PREFIX), dataclasses.replace(config, pretraining_heads=heads)


TABLE = HuggingFaceTable(
    model_types=("wav2vec2",),
    architectures=("Wav2Vec2ForPreTraining", "Wav2Vec2Model"),
    architecture=lambda config: (
        "Wav2Vec2ForPreTraining" if config.pretraining_heads else "Wav2Vec2Model"),
    config_from=read,
    config_to=writer(KEYS, read, more=hf.sizes, elsewhere={"pretraining_heads": (True, False)},
                     unsaid=hf.UNSAID),
    names=WeightNames(
        vocabulary=lambda state: (0, 0), upgrade=upgrade,
        renames=(*hf.renames(PREFIX), (r"^final_proj\.", "project_hid."),
                 (r"^quantizer\.vars$", "quantizer.codevectors")),
        transforms=hf.TRANSFORMS),
    join=lambda state, config: hf.join(state, config, PREFIX),
    prefix=PREFIX, kind="waveform", special=hf.SPECIAL, vocabularies=("", ""),
)
