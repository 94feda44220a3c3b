"""fairseq's own names and types of what a file says to it: classes, keys and their values.

`keys.tsv` is recorded from fairseq (`scripts/record_fairseq_keys.py`). The writer
spells every value by it, because fairseq checks types where it has dataclasses, and evaluates
text where it has none: a language model's cutoffs are the text `10,20`, a recurrent decoder's
attention is the text `True`.
"""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Mapping, Sequence
from typing import Any

GROUPS = ("task", "criterion", "optimizer", "lr_scheduler", "model")
"""Groups of which a file names one component."""
_ABSENT = object()


@functools.cache
def _rows() -> tuple[tuple[str, ...], ...]:
    file = importlib.resources.files("seqjax.interop.fairseq") / "keys.tsv"
    lines = file.read_text(encoding="utf-8").splitlines()[1:]
    return tuple(tuple(line.split("\t")) for line in lines)


@functools.cache
def classes(group: str) -> Mapping[str, str]:
    """Component -> its class in fairseq: `classes("criterion")["adaptive_loss"]` is
    `AdaptiveLoss`. A run that goes on compares them."""
    return {row[1]: row[4] for row in _rows() if row[0] == group and row[2] == "class"}


@functools.cache
def model_of(arch: str) -> str:
    """The model that fairseq registers an architecture with; its own name where it is none of
    those that were recorded."""
    return next((row[1] for row in _rows() if row[2] == "arch" and row[3] == arch), arch)


@functools.cache
def types(group: str, component: str) -> Mapping[str, str]:
    """Keys of a component -> their types: `bool`, `int`, `float`, `str`, `enum`, `any` or
    `list[...]`, with `?` where None is allowed. Of the group `any`: what every run has."""
    return {row[3]: row[4] for row in _rows()
            if row[:3] == (group, component, "key")}


def chosen_types(chosen: Mapping[str, str | None]) -> dict[str, str]:
    """Types of the keys of a flat Namespace.

    Args:
      chosen: group (`GROUPS`) -> component. Where two have the same key, the stricter type
        holds: the one that does not allow None.
    """
    parts = [types("any", name) for name in ("common", "dataset", "optimization", "checkpoint")]
    parts += [types(group, name) for group, name in chosen.items() if name is not None]
    found: dict[str, str] = {}
    for part in parts:
        for key, kind in part.items():
            if key not in found or found[key].endswith("?"):
                found[key] = kind
    return found


def spelled(values: Mapping[str, Any], types: Mapping[str, str]) -> dict[str, Any]:
    """Values as fairseq has them.

    Args:
      types: as `chosen_types` gives them; keys that they lack stay as they are.

    Returns:
      None only where fairseq allows it: other keys are left out, so that its default holds.
    """
    found = {k: _spelled(v, types[k]) if k in types else v for k, v in values.items()}
    return {k: v for k, v in found.items() if v is not _ABSENT}


def _spelled(value: Any, kind: str) -> Any:
    if value is None:
        return None if kind.endswith("?") else _ABSENT
    kind = kind.removesuffix("?")
    try:
        if kind.startswith("list["):
            return [_CONVERT[kind[5:-1]](v) for v in _several(value)]
        return _CONVERT[kind](value)
    except (TypeError, ValueError):
        return value  # of another fairseq than the one that was recorded


def _several(value: Any) -> Sequence[Any]:
    if isinstance(value, str):
        return value.strip("[]()").split(",")
    return value if isinstance(value, (list, tuple)) else [value]


def boolean(value: Any) -> bool:
    """fairseq kept some booleans as text."""
    return value.lower() in ("true", "t", "1", "yes") if isinstance(value, str) else bool(value)


def _whole(value: Any) -> int:
    number = int(value) if isinstance(value, (int, str)) else int(float(value))
    if isinstance(value, float) and number != value:
        raise ValueError(value)
    return number


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value)


def _literal(value: Any) -> Any:
    """What fairseq evaluates itself: `(0.9, 0.98)`."""
    return str(tuple(value)) if isinstance(value, (list, tuple)) else value


_CONVERT = {"bool": boolean, "int": _whole, "float": float, "str": _text, "enum": str,
            "any": _literal, "NoneType": lambda v: v}
