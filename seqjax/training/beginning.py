"""What a run begins with: checks of its configuration against the checkpoint it goes on from."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from seqjax.config import Config, ConfigError, to_plain
from seqjax.models import overrides
from seqjax.training import checkpoints


def check(config: Config) -> None:
    """Refuses layers to keep, and things to reset, where no trained model is named that has them.

    Raises:
      ConfigError: naming the keys.
    """
    if config.resume_reset and not config.resume_from:
        raise ConfigError("config.resume_reset: says what config.resume_from leaves behind; "
                          "name the checkpoint there (init_from leaves everything but the weights)")
    if overrides.kept_layers(config.model) and not config.init_from:
        raise ConfigError(
            "config.model.encoder_layers_to_keep, config.model.decoder_layers_to_keep: these are "
            "layers of a trained model; name it in config.init_from (resume_from cannot leave "
            "any out), or set encoder_layers and decoder_layers")
    if config.init_vocabulary == "match" and not config.init_from:
        raise ConfigError(
            "config.init_vocabulary=match: rows are moved when a run begins with the weights of "
            "another; name it in config.init_from (resume_from goes on with its dictionaries)")


def weights(folder: pathlib.Path, config: Config) -> Any:
    """Parameters of a checkpoint, those of the layers that the configuration keeps."""
    params = checkpoints.read_params(folder, verify=config.checkpoint.verify)
    return overrides.prune(params, overrides.kept_layers(config.model))


def saved_config(folder: pathlib.Path, config: Config) -> dict[str, Any]:
    """The configuration that a checkpoint was written under. Keys that there were not yet have
    their defaults, which change nothing."""
    saved = checkpoints.read_config(folder)
    full = {**_defaults(config), **saved}
    for name, section in saved.items():
        if isinstance(section, dict) and dataclasses.is_dataclass(getattr(config, name, None)):
            full[name] = {**_defaults(getattr(config, name)), **section}
    return full


def _defaults(section: Any) -> dict[str, Any]:
    """Plain values of the fields of a section that have a default."""
    known = {}
    for field in dataclasses.fields(section):
        if field.default is not dataclasses.MISSING:
            known[field.name] = to_plain(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            known[field.name] = to_plain(field.default_factory())
    return known
