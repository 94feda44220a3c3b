"""fairseq's names for data2vec for waveforms: what its configuration and its weights are called."""

from __future__ import annotations

import dataclasses

from seqjax.models.data2vec_audio.config import Data2VecAudioConfig
from seqjax.models.parts import audio_names as names
from seqjax.models.tables import ConfigKeys, FairseqTable, State, WeightNames


def upgrade(
    state: State, config: Data2VecAudioConfig
) -> tuple[State, Data2VecAudioConfig]:
    """Today's names, and whether the projection of pretraining is left."""
    if "final_proj.weight" not in state:
        config = dataclasses.replace(config, pretraining_heads=False)
    return names.weight_norms(state), config


TABLE = FairseqTable(
    keys=ConfigKeys(refused={
        "layer_type": ("transformer", "trf_adp"), "adp_trf_idx": ("all",),
        "conv_pos_batch_norm": (False,), "group_norm_target_layer": (False,)}),
    names=WeightNames(
        vocabulary=lambda state: (0, 0), upgrade=upgrade, ignored=(r"_ema\..*",),
        nested=("_ema",), renames=names.RENAMES, transforms=names.TRANSFORMS,
        order=(*names.ENCODER_ORDER, *names.LAYER_ORDER, "final_proj", *names.ARRAY_ORDER)),
    unsaid=("pretraining_heads", "projects_features"),
)
