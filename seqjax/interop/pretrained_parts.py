"""Training that begins with the encoder, or the decoder, of another model: a configuration that
names checkpoints in, weights of these parts out (fairseq's `load_pretrained_component_from_model`).

    --config.model.load_pretrained_encoder_from=runs/recogniser
"""

from __future__ import annotations

from typing import Any

from seqjax.config import Config, ConfigError
from seqjax.interop.reading import read
from seqjax.training.initial_state import PARTS, Start, named_parts

_OF_WORDS = {"encoder": "ctc_proj"}
"""Of a part, what belongs to the words of its own model."""


def start_from(config: Config) -> Start | None:
    """Where the run begins, if the configuration names checkpoints for parts of its model.

    Raises:
      FileNotFoundError, CheckpointError, ConfigError: one cannot be used; the run begins with all
        weights of another model as well.
    """
    found: dict[str, Any] = {}
    lines = []
    for part, path in named_parts(config).items():
        key = f"config.model.{PARTS[part]}"
        if config.init_from or config.resume_from:
            raise ConfigError(f"{key}: {path}, but the run begins with all weights of another "
                              "model (config.init_from or config.resume_from): give one of them")
        try:
            whole = read(path)
        except ConfigError as error:
            raise type(error)(f"{key}: {path}: {error}") from None
        if not isinstance(whole.params, dict) or part not in whole.params:
            raise ConfigError(f"{key}: {path}: a model of {whole.config.model.name!r} has no "
                              f"{part}")
        found[part] = {name: value for name, value in whole.params[part].items()
                       if name != _OF_WORDS.get(part)}
        lines.append(f"the {part} is that of {whole.name}")
    return Start(params=found, partial=True, lines=lines) if found else None
