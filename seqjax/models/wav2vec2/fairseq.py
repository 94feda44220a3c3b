"""fairseq's names for wav2vec 2.0: what its configuration and its weights are called."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping
from typing import Any

from seqjax.config import ConfigError
from seqjax.models.parts import audio_names as names
from seqjax.models.tables import ConfigKeys, FairseqTable, State, WeightNames
from seqjax.models.wav2vec2.config import Wav2Vec2Config


def upgrade(state: State, config: Wav2Vec2Config) -> tuple[State, Wav2Vec2Config]:
    """Today's names, and whether anything of pretraining is left."""
    if "final_proj.weight" not in state:
        config = dataclasses.replace(config, pretraining_heads=False)
    return names.weight_norms(state), config


def copies(config: Wav2Vec2Config) -> Mapping[str, str]:
    """A quantizer that serves targets and inputs is written under both names."""
    if not config.shares_quantizer:
        return {}
    names = ["vars"]
    last = f".{config.quantizer_depth - 1}" if config.quantizer_depth > 1 else ""
    modules = [f"weight_proj.{i}.0" for i in range(config.quantizer_depth - 1)]
    for module in [*modules, f"weight_proj{last}"]:
        names += [f"{module}.weight", f"{module}.bias"]
    return {f"input_quantizer.{name}": f"quantizer.{name}" for name in names}


def derive(values: dict[str, Any], explicit: set[str]) -> None:
    """A schedule of temperatures that was given on a command line is text."""
    given = values.get("latent_temp")
    if isinstance(given, str):
        try:
            values["latent_temp"] = tuple(float(x) for x in ast.literal_eval(given))
        except (SyntaxError, TypeError, ValueError):
            raise ConfigError(f"the checkpoint's latent_temp is no three numbers: {given!r}"
                              ) from None


NAMES = WeightNames(
    vocabulary=lambda state: (0, 0),
    upgrade=upgrade,
    copies=copies,
    renames=(
        *names.RENAMES,
        (r"\bweight_proj_(\d+)_last\.", r"weight_proj.\1."),
        (r"\bweight_proj_(\d+)\.", r"weight_proj.\1.0."),
    ),
    transforms=names.TRANSFORMS,
    order=(*names.ENCODER_ORDER, "quantizer", "project_q", "input_quantizer", "project_inp", "vars",
           "weight_proj", *names.LAYER_ORDER, "target_glu", "final_proj", *names.ARRAY_ORDER),
)

TABLE = FairseqTable(
    keys=ConfigKeys(
        refused={"layer_type": ("transformer", "trf_adp"), "conv_pos_batch_norm": (False,),
                 "adp_trf_idx": ("all",)}, derive=derive),
    names=NAMES,
    unsaid=("pretraining_heads", "projects_features"),
)
