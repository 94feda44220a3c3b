"""The full configuration from sparse values: families chosen by name, architectures.

The dataclasses of models, tasks and losses are passed to `resolve` as literal dicts.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import typing
from collections.abc import Mapping
from typing import Any

from seqjax.config.building import ConfigError, build, nearest
from seqjax.config.sections import Config


def import_object(name: str, path: str) -> Any:
    """The object of `package.module:Object`, which a config may name instead of a family.

    Raises:
      ConfigError: there is no such module or object; `path` is the key that named it.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{path}: cannot import {name!r} ({error}; it must be installed, or its "
                          "folder be on PYTHONPATH)") from None
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{path}: cannot import {name!r} ({error})") from None


def family_config(name: str, families: Mapping[str, type], path: str) -> type:
    """The dataclass of a named family, or the `Config` of a `package.module:Object`."""
    if ":" in name:
        found = import_object(name, path)
        if not dataclasses.is_dataclass(getattr(found, "Config", None)):
            raise ConfigError(f"{path}: {name!r} has no dataclass named Config")
        if "name" not in {field.name for field in dataclasses.fields(found.Config)}:
            raise ConfigError(f"{path}: the Config of {name!r} has no field name, a str, which "
                              "says whose it is")
        return found.Config
    if name not in families:
        raise ConfigError(f"{path}: {name!r} is unknown." + nearest(name, families))
    return families[name]


def with_own(
    families: Mapping[str, Mapping[str, type]], raw: Mapping[str, Any]
) -> dict[str, Mapping[str, type]]:
    """Dataclasses by section and name, those of a caller's own objects among them.

    Args:
      families: section -> name -> dataclass.
      raw: sparse values, in which `package.module:Object` may be a section's name.

    Raises:
      ConfigError: see `family_config`.
    """
    found = dict(families)
    for section, classes in families.items():
        values = raw.get(section)
        name = values.get("name") if isinstance(values, Mapping) else None
        if isinstance(name, str) and ":" in name:
            found[section] = {
                **classes, name: family_config(name, classes, f"config.{section}.name")}
    return found


def resolve(
    raw: Mapping[str, Any],
    *,
    tasks: Mapping[str, type],
    models: Mapping[str, type],
    losses: Mapping[str, type],
    archs: Mapping[str, tuple[str, Mapping[str, Any]]],
) -> Config:
    """The full configuration from sparse values.

    Args:
      raw: nested plain data, as `load_file` and `apply_overrides` give.
      tasks, models, losses: dataclass per name.
      archs: fairseq architecture name -> (model name, defaults that it changes).
        Explicit keys win over the architecture's, those over the dataclass's.

    Raises:
      ConfigError: an unknown key or name (with the nearest) or a wrong type; sections that the
        task finds to contradict each other.
    """
    raw = dict(raw)
    _check_keys(raw, {"task": tasks, "model": models, "loss": losses})
    _complete(raw, tasks=tasks, models=models, archs=archs)
    sections: dict[str, Any] = {}
    for section, families, default in (
        ("task", tasks, "translation"),
        ("loss", losses, "label_smoothed_cross_entropy"),
    ):
        values = dict(raw.pop(section, {}))
        name = values.setdefault("name", default)
        cls = family_config(name, families, f"config.{section}.name")
        sections[section] = build(cls, values, f"config.{section}")
    sections["model"] = resolve_model(raw.pop("model", {}), models=models, archs=archs)
    return build(Config, {**raw, **sections})


def _complete(
    raw: dict[str, Any], *, tasks: Mapping[str, type], models: Mapping[str, type],
    archs: Mapping[str, tuple[str, Mapping[str, Any]]],
) -> None:
    """Keys of other sections that follow the task's, of a task whose dataclass has a method
    `complete(raw, model=, models=)`: told the dataclass of the model, and those of all models."""
    task, model = ({**raw.get(name, {})} for name in ("task", "model"))
    name = task.setdefault("name", "translation")
    complete = getattr(family_config(name, tasks, "config.task.name"), "complete", None)
    if complete is None:
        return
    family, _ = archs.get(model.get("arch", ""), ("transformer", {}))
    cls = family_config(model.get("name", family), models, "config.model.name")
    raw |= {"task": task, "model": model, "loss": {**raw.get("loss", {})}}
    complete(raw, model=cls, models=models)


def _check_keys(raw: Mapping[str, Any], families: Mapping[str, Mapping[str, type]]) -> None:
    """Refuses keys that belong to another section or to none; what is wrong inside of a
    section is found when it is built."""
    hints = typing.get_type_hints(Config)
    sections = {name: {f.name for f in dataclasses.fields(hints[name])}
                for name in hints if dataclasses.is_dataclass(hints[name])}
    for name, classes in families.items():
        sections[name] = {f.name for cls in classes.values() for f in dataclasses.fields(cls)}

    def elsewhere(key: str) -> list[str]:
        return [f"config.{name}.{key}" for name in sorted(sections) if key in sections[name]]

    for key, values in raw.items():
        if key not in hints:
            found = elsewhere(key)
            if not found and nearest(key, hints).startswith(" Known"):
                inner = {name for names in sections.values() for name in names}
                found = [k for near in difflib.get_close_matches(key, inner, n=1, cutoff=0.75)
                         for k in elsewhere(near)]
            raise ConfigError(f"config.{key}: unknown key." + (
                f" Did you mean {' or '.join(found)}?" if found else nearest(key, hints)))
        if key not in sections or not isinstance(values, Mapping) or (
            key in families and ":" in str(values.get("name"))
        ):
            continue
        for inner in set(values) - sections[key]:
            found = [*elsewhere(inner), *([f"config.{inner}"] if inner in hints else [])]
            if found and not difflib.get_close_matches(inner, sections[key], n=1, cutoff=0.75):
                raise ConfigError(f"config.{key}.{inner}: unknown key. Did you mean "
                                  f"{' or '.join(found)}?")


def resolve_model(
    raw: Mapping[str, Any],
    *,
    models: Mapping[str, type],
    archs: Mapping[str, tuple[str, Mapping[str, Any]]],
) -> Any:
    """The model section: explicit keys over the architecture's over the family's.

    A family whose keys follow one another, where they are not given, says so in a method
    `follow(values)` of its dataclass.
    """
    values = dict(raw)
    arch = values.get("arch")
    defaults: Mapping[str, Any] = {}
    if arch is not None:
        if arch not in archs:
            raise ConfigError(f"config.model.arch: {arch!r} is unknown." + nearest(arch, archs))
        family, defaults = archs[arch]
        if values.setdefault("name", family) != family:
            raise ConfigError(
                f"config.model.name: {values['name']!r}, but arch {arch!r} is of {family!r}"
            )
    name = values.setdefault("name", "transformer")
    cls = family_config(name, models, "config.model.name")
    values = {**defaults, **values}
    getattr(cls, "follow", lambda values: None)(values)
    return build(cls, values, "config.model")
