"""How a folder's features of audio are made: `preprocessor_config.json` (of
`Speech2TextFeatureExtractor`) in, the files of a task out, and back."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from seqjax.config import ConfigError
from seqjax.data.audio.s2t_config import S2TDataConfig
from seqjax.interop.huggingface.files import read_json
from seqjax.tasks.protocol import Task

FILE, WHOLE = "preprocessor_config.json", "processor_config.json"
ASSET = "speech.json"
"""What the task keeps of `config.yaml`."""
_NORMS = {"norm_means": "normalize_means", "norm_vars": "normalize_vars"}


def assets_of(folder: str | os.PathLike[str], hf: Mapping[str, Any]) -> dict[str, bytes]:
    """Files of a checkpoint that say how features are made.

    Args:
      hf: the folder's `config.json`.

    Raises:
      ConfigError: features of another width than the model's, or noise that is added to them.
    """
    said = read_json(folder, FILE) or (read_json(folder, WHOLE) or {}).get("feature_extractor", {})
    width = hf.get("input_feat_per_channel", 80)
    bins = said.get("num_mel_bins", said.get("feature_size", width))
    if bins != width:
        raise ConfigError(f"{FILE}: num_mel_bins {bins}, but config.json says "
                          f"input_feat_per_channel {width}")
    if said.get("dither", 0.0):
        raise ConfigError(f"{FILE}: dither {said['dither']}: features are made without noise here")
    about: dict[str, Any] = {
        "input_feat_per_channel": width, "input_channels": hf.get("input_channels", 1),
        "sample_rate": said.get("sampling_rate", 16000)}
    if said.get("do_ceptral_normalize", True):
        about["chains"] = {"feature": {"*": ["utterance_cmvn"]}}
        about["options"] = {"utterance_cmvn": {
            ours: said.get(theirs, True) for ours, theirs in _NORMS.items()}}
    return {ASSET: json.dumps(about).encode()}


def files_of(task: Task) -> dict[str, bytes]:
    """The file that says it, of a model that did not come from such a folder.

    Raises:
      ConfigError: transforms of features that no such file can say.
    """
    audio: S2TDataConfig = task.audio  # type: ignore[attr-defined]
    chain = audio.transforms("feature", "", train=False)
    if chain not in ((), ("utterance_cmvn",)):
        raise ConfigError(f"{FILE} knows no features that are made by {', '.join(chain)}")
    norms = audio.options.get("utterance_cmvn", {})
    said = {
        "feature_extractor_type": "Speech2TextFeatureExtractor",
        "feature_size": audio.input_feat_per_channel, "num_mel_bins": audio.input_feat_per_channel,
        "sampling_rate": audio.sample_rate, "padding_side": "right", "padding_value": 0.0,
        "return_attention_mask": True, "do_ceptral_normalize": bool(chain),
        **{theirs: norms.get(ours, True) for ours, theirs in _NORMS.items()}}
    return {FILE: (json.dumps(said, indent=2) + "\n").encode()}
