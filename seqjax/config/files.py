"""Configuration files as plain data, and `--config.key=value` on top of them.

Python files with `get_config()`, JSON (a run's own `config.json` too) and YAML. Where a file
cannot be used the error names it and, if it can be known, the line.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import sys
import traceback
from collections.abc import Mapping
from typing import Any

from seqjax.config.building import ConfigError, to_plain

KINDS = "a Python file with get_config(), JSON (.json) or YAML (.yaml, .yml)"


def load_file(path: str) -> dict[str, Any]:
    """The configuration of a file, as nested plain dicts.

    Args:
      path: a `.json`, `.yaml` or `.yml` file, or a Python file, whose `get_config()` is
        called; `file.py:argument` passes it the argument.

    Raises:
      ConfigError: no such file, another kind of file, or something wrong in it, by its line.
    """
    name, argument = path, ""
    if not os.path.exists(path):
        name, _, argument = path.partition(":")
    file = pathlib.Path(name)
    kind = file.suffix.lower()
    _check(file, kind)
    if argument and kind != ".py":
        raise ConfigError(f"--config {path}: only a Python file takes an argument (:{argument})")
    if kind == ".py":
        found = _python(file, argument)
    elif kind == ".json":
        found = _json(file)
    else:
        found = _yaml(file)
    if found is None:
        raise ConfigError(f"--config {name}: holds no configuration")
    if not isinstance(found, Mapping):
        raise ConfigError(f"--config {name}: expected sections with keys, found "
                          f"{type(found).__name__} {str(found)[:60]!r}")
    _check_keys(found, name, "config")
    return to_plain(found)


def _check(file: pathlib.Path, kind: str) -> None:
    """Refuses what is no configuration, saying what may have been meant."""
    if file.is_dir():
        inside = file / "config.json"
        advice = f"; its own configuration: --config {inside}" if inside.is_file() else ""
        raise ConfigError(f"--config {file}: is a folder, expected {KINDS}{advice}")
    if not file.exists():
        raise ConfigError(f"--config {file}: no such file")
    if kind == ".pt":
        raise ConfigError(
            f"--config {file}: is a checkpoint of fairseq's, expected {KINDS}; its configuration: "
            f"python -m seqjax.convert args {file} > {file.stem}.py")
    if kind not in (".py", ".json", ".yaml", ".yml"):
        raise ConfigError(f"--config {file}: expected {KINDS}")


def _text(file: pathlib.Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"--config {file}: not text in UTF-8 ({error.reason} at byte "
                          f"{error.start})") from None


def _python(file: pathlib.Path, argument: str) -> Any:
    """What `get_config` returns; an error in the file names its line."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise ConfigError(f"{file}: defines no get_config()")
        config = module.get_config(argument) if argument else module.get_config()
    except ConfigError:
        raise
    except SyntaxError as error:
        raise ConfigError(f"--config {error.filename}, line {error.lineno}: {error.msg}") from None
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(sys.exc_info()[2])
                 if os.path.abspath(frame.filename) == os.path.abspath(file)]
        where = f", line {lines[-1]}" if lines else ""
        raise ConfigError(
            f"--config {file}{where}: {type(error).__name__}: {error}") from error
    return config.to_dict() if hasattr(config, "to_dict") else config


def _json(file: pathlib.Path) -> Any:
    def section(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise ConfigError(f"--config {file}: {key!r} is there twice in one section")
            found[key] = value
        return found

    try:
        return json.loads(_text(file), object_pairs_hook=section)
    except json.JSONDecodeError as error:
        raise ConfigError(f"--config {file}, line {error.lineno}: {error.msg} (column "
                          f"{error.colno})") from None


def _yaml(file: pathlib.Path) -> Any:
    import yaml

    from seqjax.config.yaml_text import Loader

    try:
        return yaml.load(_text(file), Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"--config {file}{line}: {problem}") from None


def _check_keys(values: Mapping[Any, Any], name: str, path: str) -> None:
    for key, value in values.items():
        if not isinstance(key, str):
            raise ConfigError(f"--config {name}: {path} has a key {key!r}, which is no text")
        if isinstance(value, Mapping):
            _check_keys(value, name, f"{path}.{key}")


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
