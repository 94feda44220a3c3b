"""Configuration files, and `--config.key=value` on top of them, as plain data."""

from __future__ import annotations

import importlib.util
import pathlib
from collections.abc import Mapping
from typing import Any

from seqjax.config.building import ConfigError, to_plain


def load_file(path: str) -> dict[str, Any]:
    """Runs `get_config()` of a Python file; `file.py:argument` passes the argument.

    Returns:
      Plain nested dicts of the `ml_collections.ConfigDict` that it returned.
    """
    name, _, argument = path.partition(":")
    file = pathlib.Path(name)
    if not file.is_file():
        raise ConfigError(f"--config {name}: no such file")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise ConfigError(f"{name}: defines no get_config()")
    config = module.get_config(argument) if argument else module.get_config()
    return config.to_dict() if hasattr(config, "to_dict") else dict(config)


def apply_overrides(raw: dict[str, Any], overrides: Mapping[str, str]) -> dict[str, Any]:
    """`raw` with dotted keys set: `{'train.lr': '5e-4'}`."""
    result = to_plain(raw)
    for dotted, value in overrides.items():
        *parents, last = dotted.split(".")
        node = result
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(f"config.{dotted}: config.{parent} has no keys of its own")
        node[last] = value
    return result
