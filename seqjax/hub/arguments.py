"""What people give to a loaded model, checked: texts, ids, and lists of them.

Errors say what was given, where, and what belongs there.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from seqjax.config import ConfigError, nearest
from seqjax.tasks.inputs import Encoded

Checked = str | np.ndarray | Encoded
"""A text, or ids [T] int32, or both."""


def several(values: object, *, name: str, what: str = "texts or lists of ids") -> list[Any]:
    """A list of inputs, of any iterable that has an order.

    Args:
      name: the argument's.
      what: what belongs in it, for errors.

    Raises:
      TypeError: one text or one input's ids where a list belongs, or something else.
    """
    if isinstance(values, str):
        raise TypeError(f"{name}: got the text {_shown(values)}; give a list of {what}: "
                        f"[{_shown(values)}]")
    if isinstance(values, np.ndarray):
        if values.ndim == 0 or (values.ndim == 1 and values.dtype.kind in "iuf" and len(values)):
            raise TypeError(f"{name}: got one array of shape {list(values.shape)}; give a list of "
                            f"{what}: [array]")
        return list(values)
    if isinstance(values, (bytes, bytearray, Mapping, set, frozenset)) or not isinstance(
        values, Iterable
    ):
        raise TypeError(f"{name}: {_given(values)}; give a list of {what}")
    return list(values)


@dataclasses.dataclass(frozen=True)
class Listed:
    """Inputs as a list."""

    items: list[Any]
    single: bool
    """Whether one was given, not a list of them."""


def listed(
    values: Any, *, name: str, what: str = "texts, pairs of texts or lists of ids"
) -> Listed:
    """Inputs as a list: one text, one pair of texts (a tuple) and one row of ids are lists of one.

    Raises:
      TypeError: something else.
    """
    single = isinstance(values, (str, Encoded))
    if isinstance(values, (list, tuple)) and values:
        single = all(isinstance(x, (int, np.integer)) and not isinstance(x, bool) for x in values)
        single |= isinstance(values, tuple) and all(isinstance(x, str) for x in values)
    if isinstance(values, np.ndarray):
        single = values.ndim == 1 and values.dtype.kind in "iu"
    return Listed([values] if single else several(values, name=name, what=what), single)


def inputs(
    values: object, *, name: str, size: int, empty: bool = False, texts: bool = True,
) -> list[Any]:
    """A list of texts and of arrays of ids.

    Args:
      name: the argument's.
      size: entries of the dictionary.
      empty: whether there may be no ids.
      texts: whether there may be texts.

    Raises:
      TypeError: what is neither text nor ids; names its place.
      ValueError: ids that no word has.
    """
    what = "texts or lists of ids" if texts else "lists of ids"
    return [one(x, name=f"{name}[{i}]", size=size, empty=empty, texts=texts)
            for i, x in enumerate(several(values, name=name, what=what))]


def one(
    value: object, *, name: str, size: int, empty: bool = False, texts: bool = True
) -> Checked:
    """A text as it is, or ids as an int32 array [T]; what is encoded already stays so."""
    if isinstance(value, Encoded):
        return value
    if isinstance(value, str):
        if texts:
            return text(value, name=name)
        raise TypeError(f"{name}: got the text {_shown(value)}; give ids: model.encode(text)")
    return ids(value, name=name, size=size, empty=empty, texts=texts)


def text(value: object, *, name: str) -> str:
    """A text.

    Raises:
      TypeError: anything else.
    """
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"{name}: {_given(value)}; give a text (str)")


def ids(
    value: object, *, name: str, size: int | None, empty: bool = False, texts: bool = False
) -> np.ndarray:
    """Ids as an int32 array [T].

    Args:
      size: entries of the dictionary (None: any id that is not negative).
      empty: whether there may be none.

    Raises:
      TypeError: no list of whole numbers.
      ValueError: none at all, or ids that no word has.
    """
    wanted = "a text or a list of ids" if texts else "a list of ids"
    if value is None or isinstance(value, (bytes, bytearray, str, Mapping, set, frozenset, bool)) \
            or not isinstance(value, (Iterable, np.ndarray)):
        raise TypeError(f"{name}: {_given(value)}; give {wanted}")
    try:
        array = np.asarray(value if hasattr(value, "__array__") else list(value))
    except ValueError:  # lists of different lengths
        raise TypeError(f"{name}: lists in a list; give {wanted}") from None
    if array.ndim != 1:
        raise TypeError(f"{name}: has {array.ndim} axes; give {wanted}, of one axis")
    if not array.size:
        if empty:
            return np.zeros(0, np.int32)
        raise ValueError(f"{name}: has no tokens (not even eos)")
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: holds {_kind(array)}, not whole numbers; give {wanted}")
    if int(array.min()) < 0 or (size is not None and int(array.max()) >= size):
        wrong = array[(array < 0) | (array >= (size or np.iinfo(np.int64).max))][0]
        upto = f"; the dictionary has {size:,} entries (ids 0 to {size - 1})" if size else ""
        raise ValueError(f"{name}: has the id {int(wrong)}, which no word has{upto}")
    return array.astype(np.int32)


def pairs(first: Sequence[Any], second: Sequence[Any], *, name: str, what: tuple[str, str]) -> None:
    """Refuses lists of two lengths."""
    if len(first) != len(second):
        raise ValueError(f"{name}: {len(first)} {what[0]} but {len(second)} {what[1]}")


# ---- of `load` ----


def paths(value: object) -> list[str]:
    """Checkpoints: one path, several joined by colons, or a list of paths.

    Raises:
      TypeError: something else.
      ConfigError: no path at all.
    """
    if isinstance(value, (list, tuple)):
        found = [path(p, name=f"path[{i}]") for i, p in enumerate(value)]
        if not found:
            raise ConfigError("path: got an empty list; name at least one checkpoint")
        return found
    only = path(value, name="path")
    # The colon of `hf:org/name` joins nothing.
    found = [only] if os.path.exists(only) else re.split(
        rf"(?<!^hf)(?<!{os.pathsep}hf){os.pathsep}", only)
    if "" in found:
        raise ConfigError(f"path: {only!r} has an empty part between colons; take it out")
    return found


def path(value: object, *, name: str) -> str:
    """One path.

    Raises:
      TypeError, ConfigError: it is none.
    """
    if not isinstance(value, (str, os.PathLike)) or not isinstance(os.fspath(value), str):
        raise TypeError(f"{name}: {_given(value)}; give a path (str or pathlib.Path)")
    if not os.fspath(value):
        raise ConfigError(f"{name}: is empty; give a path")
    return os.fspath(value)


def choice(value: str, among: Sequence[str], *, name: str) -> str:
    """One of a few words.

    Raises:
      ConfigError: another, with the nearest.
    """
    if value not in among:
        close = nearest(value, among) if isinstance(value, str) else ""
        raise ConfigError(f"{name}: {value!r} is not one of {', '.join(among)}.{close}")
    return value


def _given(value: object) -> str:
    """What it is, for errors."""
    if isinstance(value, (bytes, bytearray)):
        return f"got bytes {_shown(bytes(value))} (text is str: decode it)"
    if value is None:
        return "got None"
    return f"got {type(value).__name__} {_shown(value)}"


def _kind(array: np.ndarray) -> str:
    return {"f": "fractions", "b": "True and False", "U": "texts", "S": "bytes"}.get(
        array.dtype.kind, "None or other objects")


def _shown(value: object) -> str:
    found = repr(value)
    return found if len(found) <= 40 else found[:37] + "..."
