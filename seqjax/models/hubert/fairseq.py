"""fairseq's names for HuBERT: what its configuration and its weights are called."""

from __future__ import annotations

import dataclasses
from typing import Any

from seqjax.models.hubert.config import HubertConfig
from seqjax.models.parts import audio_names as names
from seqjax.models.tables import ConfigKeys, FairseqTable, State, WeightNames

LABELS = "label_embs_concat"


def upgrade(state: State, config: HubertConfig) -> tuple[State, HubertConfig]:
    """Today's names; how many lists of labels there are, where projections tell; and whether
    anything of pretraining is left."""
    state = names.weight_norms(state)
    proj = state.get("final_proj.weight")
    if proj is None:
        return state, dataclasses.replace(config, pretraining_heads=False)
    lists = proj.shape[0] // config.comparison_dim
    if config.untie_final_proj and lists > 1 and len(config.label_classes) != lists:
        rows = state[LABELS].shape[0] if LABELS in state else 0
        # Which of the classes belong to which list no file says but its dictionaries; lists of
        # one recipe are of one size.
        config = dataclasses.replace(
            config, label_classes=(rows // lists,) * (lists - 1) + (
                rows - rows // lists * (lists - 1),))
    return state, config


def derive(values: dict[str, Any], explicit: set[str]) -> None:
    """Fine-tuning's label rate, -1, says nothing of what the model was pretrained with."""
    if not values.get("label_rate") or values["label_rate"] < 0:
        values.pop("label_rate", None)


NAMES = WeightNames(
    vocabulary=lambda state: (0, state[LABELS].shape[0] if LABELS in state else 0),
    upgrade=upgrade, ignored=(names.COUNTED,), buffers=names.STATISTICS,
    constants=names.constants(),
    renames=names.RENAMES,
    transforms=names.TRANSFORMS,
    order=(*names.ENCODER_ORDER, *names.LAYER_ORDER, "target_glu", "final_proj",
           *names.ARRAY_ORDER),
)

TABLE = FairseqTable(
    keys=ConfigKeys(
        refused={"layer_type": ("transformer",)},
        derive=derive, from_task=("sample_rate", "label_rate")),
    names=NAMES,
    unsaid=("label_classes", "pretraining_heads", "projects_features", "sample_rate"),
)
