"""How a folder's waveforms are prepared: `preprocessor_config.json` in, a task's section out, and
back."""

from __future__ import annotations

import json
import os
from typing import Any

from seqjax import tasks
from seqjax.config import ConfigError, ModelSection
from seqjax.interop.huggingface.files import read_json
from seqjax.interop.huggingface.weights import Stored
from seqjax.tasks.protocol import Task

EPS = 1e-7
"""What transformers adds to a waveform's variance; fairseq adds 1e-5."""
FILE, WHOLE = "preprocessor_config.json", "processor_config.json"


def sections(folder: str | os.PathLike[str], stored: Stored) -> dict[str, Any]:
    """Sections task and loss of a model of waveforms.

    Raises:
      ConfigError: samples are prepared in a way that is not here.
    """
    said = read_json(folder, FILE) or (read_json(folder, WHOLE) or {}).get("feature_extractor", {})
    if said.get("feature_size", 1) != 1:
        raise ConfigError(f"{FILE}: feature_size {said['feature_size']!r}: only waveforms are here")
    entry = tasks.of_huggingface(stored.kind.table.kind)
    section = {
        "name": entry.name, "sample_rate": said.get("sampling_rate", 16000),
        "normalize": said.get("do_normalize", True), "normalize_eps": EPS,
        "classes": stored.target_vocab_size}
    return {"task": section, "loss": {"name": entry.loss}}


def files_of(task: Task, model: ModelSection) -> dict[str, bytes]:
    """The file that says it, of a model (its section) that did not come from such a folder. A
    group norm sees padding whatever is masked, so that transformers masks nothing then."""
    config: Any = task.config
    normed = getattr(model, "extractor_mode", "") == "layer_norm"
    said = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor", "feature_size": 1,
        "sampling_rate": config.sample_rate, "do_normalize": config.normalize,
        "padding_side": "right", "padding_value": 0.0, "return_attention_mask": normed}
    return {FILE: (json.dumps(said, indent=2) + "\n").encode()}
