"""Plain data become dataclasses, rejecting unknown keys (naming the nearest) and wrong types.

In go a dataclass, a dict and the key it stands under; out comes an instance, or a
`ConfigError` that names the key. The way back to plain data is `to_plain`.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import json
import pathlib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key and what to do."""


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def nearest(word: str, known: typing.Iterable[str]) -> str:
    """` Did you mean 'x'?` for the nearest known word, or the list of all known ones."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(known)}."


def coerce(value: Any, annotation: Any, path: str) -> Any:
    """`value` (plain data, or text from a command line) as the annotated type.

    Raises:
      ConfigError: naming `path`, the type wanted and the value given.
    """
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    wrong = ConfigError(f"{path}: expected {type_name(annotation)}, got {value!r}")
    if annotation is Any or getattr(annotation, "_is_protocol", False):
        return value  # of a protocol: a section that `resolving` has built
    if origin in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() in ("none", "null")):
            if type(None) in args:
                return None
        for arg in args:
            if arg is not type(None):
                try:
                    return coerce(value, arg, path)
                except ConfigError:
                    continue
        raise wrong
    if origin is Literal:
        if value in args:
            return value
        raise ConfigError(f"{path}: {value!r} is not one of {', '.join(map(str, args))}."
                          + nearest(str(value), [str(a) for a in args]))
    if origin is tuple:
        return _coerce_tuple(value, args, path, wrong)
    if origin is dict or annotation is dict:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except json.JSONDecodeError:
                raise wrong from None
        if not isinstance(value, Mapping):
            raise wrong
        if len(args) < 2:
            return dict(value)
        return {coerce(k, args[0], path): coerce(v, args[1], f"{path}.{k}")
                for k, v in value.items()}
    if annotation is bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        raise wrong
    if annotation in (int, float):
        return _coerce_number(value, annotation, wrong)
    if annotation is str:
        if isinstance(value, (str, pathlib.Path)):
            return str(value)
        raise wrong
    if dataclasses.is_dataclass(annotation):
        return build(typing.cast(type, annotation), value, path)
    raise TypeError(f"{path}: unsupported annotation {annotation!r}")


def _coerce_tuple(value: Any, args: tuple, path: str, wrong: ConfigError) -> tuple:
    if isinstance(value, str) and value.strip().startswith(("[[", "((")):
        try:
            value = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            raise wrong from None
    if isinstance(value, str):
        text = value.strip()
        if text.startswith(("[", "(")):
            text = text[1:-1]
        value = [part.strip() for part in text.split(",") if part.strip()]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise wrong
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(coerce(v, args[0], path) for v in value)
    if len(args) != len(value):
        raise wrong
    return tuple(coerce(v, a, path) for v, a in zip(value, args, strict=True))


def _coerce_number(value: Any, kind: type, wrong: ConfigError) -> int | float:
    if isinstance(value, bool):
        raise wrong
    if isinstance(value, str):
        try:
            return kind(value)
        except ValueError:
            raise wrong from None
    if isinstance(value, int) or (kind is float and isinstance(value, float)):
        return kind(value)
    raise wrong


def type_name(annotation: Any) -> str:
    """A type as people write it: `int | None`, `tuple[float, ...]`."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    return str(annotation).replace("typing.", "")


def build(cls: type, values: Any, path: str = "config") -> Any:
    """An instance of the dataclass `cls` from a mapping; every key must be a field.

    Raises:
      ConfigError: an unknown key (with the nearest known one) or a wrong type.
    """
    if dataclasses.is_dataclass(values) and isinstance(values, cls):
        return values
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: expected a section with keys, got {values!r}")
    hints = _hints(cls)
    names = {f.name for f in dataclasses.fields(cls)}
    for key in values:
        if key not in names:
            raise ConfigError(f"{path}.{key}: unknown key.{nearest(key, names)}")
    return cls(**{k: coerce(v, hints[k], f"{path}.{k}") for k, v in values.items()})


def to_plain(config: object) -> Any:
    """Dataclasses as nested dicts of JSON types; `resolve` reads them back."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, (list, tuple)):
        return [to_plain(v) for v in config]
    if isinstance(config, Mapping):
        return {k: to_plain(v) for k, v in config.items()}
    return config
