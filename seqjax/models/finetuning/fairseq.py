"""fairseq's names for models that are fine-tuned from an encoder of waveforms.

Their files have the pretrained model's whole configuration inside of theirs (`w2v_args`), whose
sizes are keys of the section here.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from seqjax.config import ConfigError
from seqjax.models.finetuning.config import FinetuningConfig
from seqjax.models.parts import audio_names as names
from seqjax.models.parts.audio_encoder_config import AudioEncoderConfig
from seqjax.models.tables import ConfigKeys, FairseqTable, WeightNames

PREFIX = "w2v_encoder"
LABELS = r"(?:w2v_encoder|encoder)\.w2v_model\.label_embs_concat"
"""HuBERT's embeddings of classes, which fine-tuned models carry along."""
ADAPTER_KEYS = ("layer_type", "adp_num", "adp_dim", "adp_act_fn")
MASKS = ("mask_prob", "mask_length", "mask_selection", "mask_other", "no_mask_overlap",
         "mask_min_space", "mask_channel_prob", "mask_channel_length", "mask_channel_selection",
         "mask_channel_other", "no_mask_channel_overlap", "mask_channel_min_space")


def inner_args(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The pretrained model's keys, of `w2v_args` in either form. None of a command, which names
    the checkpoint that has them (`w2v_path`)."""
    args = given.get("w2v_args")
    if not isinstance(args, Mapping):
        return {}
    inner = args.get("model")
    return inner if isinstance(inner, Mapping) else args


def merged(given: Mapping[str, Any], form: tuple[str, ...]) -> dict[str, Any]:
    """The checkpoint's model keys with the encoder's `form` keys of the pretrained model."""
    inner = inner_args(given)
    kept = {k: v for k, v in given.items() if k != "w2v_args"}
    for key in form:
        if inner.get(key) is not None and (key not in ADAPTER_KEYS or kept.get(key) is None):
            kept[key] = inner[key]
    return kept


NAMES = WeightNames(
    vocabulary=lambda state: (0, state[f"{PREFIX}.proj.weight"].shape[0]),
    upgrade=lambda state, config: (names.weight_norms(state), config),
    ignored=(LABELS, names.COUNTED), unused=(LABELS,), buffers=names.STATISTICS,
    constants=names.constants("w2v_encoder.w2v_model."),
    renames=names.RENAMES,
    transforms=names.TRANSFORMS,
    order=("w2v_encoder", "w2v_model", *names.ENCODER_ORDER, *names.LAYER_ORDER, "proj",
           *names.ARRAY_ORDER),
)


def own_form(config: type) -> tuple[str, ...]:
    """Keys of an encoder's section that fine-tuning does not override: its form.

    Args:
      config: the encoder's dataclass.
    """
    overridden = {*TRAINING, *MASKS, "scan_unroll", "remat", "projects_features"}
    return tuple(f.name for f in dataclasses.fields(config) if f.name not in overridden)


TRAINING = ("dropout", "attention_dropout", "activation_dropout", "dropout_input",
            "feature_grad_mult", "require_same_masks", "mask_dropout", "mask_channel_before")


def nesting(
    form: tuple[str, ...], *, arch: str, task: str, more: Mapping[str, Any]
) -> Callable[[Any, Mapping[str, Any]], Mapping[str, Any]]:
    """`FairseqTable.nest`: `w2v_args`, the configuration of the pretrained model as a flat
    Namespace, of which fairseq makes the encoder.

    Args:
      arch, task: of the pretrained model.
      more: what else it says.
    """

    def nest(config: FinetuningConfig, args: Mapping[str, Any]) -> Mapping[str, Any]:
        inner = {key: getattr(config, key) for key in form}
        about = {"arch": arch, "task": task, "normalize": config.normalize,
                 "data": args.get("data", ""), "sample_rate": args.get("sample_rate", 16000)}
        return {"w2v_args": argparse.Namespace(**about, **more, **inner)}

    return nest


def check(config: AudioEncoderConfig) -> None:
    """Raises ConfigError for an encoder that fairseq's has no switch for."""
    if config.projects_features and config.feature_dim == config.encoder_embed_dim:
        raise ConfigError("config.model.projects_features: fairseq's encoders have no projection "
                          "where features are as wide as states")


def table(
    form: tuple[str, ...], *, arch: str, task: str, names: WeightNames = NAMES,
    more: Mapping[str, Any] | None = None, refused: Mapping[str, tuple[Any, ...]] | None = None,
    said: tuple[str, ...] = (),
) -> FairseqTable:
    """Of a family whose encoder has these keys of its own (`own_form`).

    Args:
      arch, task: of the pretrained model.
      more: what else its flat configuration says.
      refused: switches of it that are not here.
      said: keys of the form that its files say in both places.
    """
    refused = refused or {}
    return FairseqTable(
        keys=ConfigKeys(
            refused=refused, from_task=("normalize",),
            merge=lambda given: merged(given, (*form, *refused))),
        names=names, nest=nesting(form, arch=arch, task=task, more=more or {}),
        check_export=check,
        unsaid=("projects_features", *(k for k in form if k not in (*ADAPTER_KEYS, *said))))
