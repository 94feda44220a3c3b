"""Whether every id of a token store is a word of the dictionary.

An id beyond the last embedding row would not fail: JAX reads the last row instead. All ids
of a store are looked at once; what was found is kept beside it, in `PREFIX.ids.json`, or
in the user's cache folder where the data folder cannot be written, until the store changes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Any

import numpy as np

from seqjax.config import ConfigError
from seqjax.data import indexed, whole_files

_CHUNK = 1 << 22  # ids that are looked at together


class IdError(ConfigError):
    """A store with ids that its dictionary does not have."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limit:
    """The dictionary of a store."""

    path: str
    """Its file, for messages."""
    entries: int
    """Ids must be smaller than this."""


def check(prefix: str, limit: Limit, *, store: indexed.IndexedDataset | None = None) -> None:
    """Refuses a store with ids that are no words.

    Args:
      prefix: of its `.bin` and `.idx`.
      limit: its dictionary.
      store: the same, if it is open already.

    Raises:
      IdError: naming the first sentence, the id and the dictionary.
    """
    smallest, largest = id_range(prefix, store=store)
    if 0 <= smallest and largest < limit.entries:
        return
    store = indexed.IndexedDataset(prefix) if store is None else store
    place = _first_beyond(store, limit.entries)
    if place is None:
        return
    sentence = int(np.searchsorted(store.offsets, place, side="right")) - 1
    raise IdError(
        f"{prefix}.bin: sentence {sentence} (counted from 0) has the id {store.tokens[place]}, "
        f"but {limit.path} has {limit.entries:,} entries (ids 0 to {limit.entries - 1}): these "
        "sentences were made with another dictionary. Run seqjax.preprocess again, or put the "
        "right dictionary into the folder")


def id_range(prefix: str, *, store: indexed.IndexedDataset | None = None) -> tuple[float, float]:
    """Smallest and largest id of a store (0 and -1 of one without tokens), remembered."""
    key = _key(prefix)
    places = (pathlib.Path(f"{prefix}.ids.json"), _in_cache(prefix))
    for place in places:
        found = _remembered(place, key)
        if found is not None:
            return found
    store = indexed.IndexedDataset(prefix) if store is None else store
    found = _computed(store.tokens)
    for place in places:
        try:
            _write(place, {**key, "smallest": found[0], "largest": found[1]})
            break
        except OSError:
            continue  # looked at again next time
    return found


def _computed(tokens: np.ndarray) -> tuple[float, float]:
    smallest, largest = [], []
    for start in range(0, len(tokens), _CHUNK):
        part = tokens[start : start + _CHUNK]
        smallest.append(part.min().item())
        largest.append(part.max().item())
    if not smallest:
        return 0, -1
    # `min` and `max` of Python would lose a NaN, which a damaged store of floats may hold.
    return np.min(smallest).item(), np.max(largest).item()


def _first_beyond(store: indexed.IndexedDataset, entries: int) -> int | None:
    for start in range(0, len(store.tokens), _CHUNK):
        part = store.tokens[start : start + _CHUNK]
        wrong = np.flatnonzero(~((part >= 0) & (part < entries)))
        if len(wrong):
            return start + int(wrong[0])
    return None


def _key(prefix: str) -> dict[str, Any]:
    about = [os.stat(f"{prefix}.{end}") for end in ("bin", "idx")]
    return {"format": 1, "bytes": [a.st_size for a in about],
            "changed": [a.st_mtime_ns for a in about]}


def _remembered(place: pathlib.Path, key: dict[str, Any]) -> tuple[float, float] | None:
    try:
        found = json.loads(place.read_text())
        if all(found[name] == value for name, value in key.items()):
            return found["smallest"], found["largest"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _in_cache(prefix: str) -> pathlib.Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    name = hashlib.sha256(os.path.realpath(prefix).encode()).hexdigest()[:32]
    return pathlib.Path(home, "seqjax", "ids", f"{name}.json")


def _write(place: pathlib.Path, values: dict[str, Any]) -> None:
    """Whole or not at all; several processes may do it at once."""
    if place.parent.name == "ids":
        place.parent.mkdir(parents=True, exist_ok=True)
    whole_files.write(place, json.dumps(values).encode())
