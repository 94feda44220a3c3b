"""The folder of a checkpoint: which one is meant, and the plain files that describe it.

A path goes in; a folder, a `Record`, a configuration or assets come out. No array is read.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import warnings
from typing import Any

from seqjax.checkpoints import checksums
from seqjax.config import ConfigError

FOLDER = "checkpoints"


class CheckpointError(ConfigError):
    """A checkpoint that cannot be written or read; the message says what to do."""


class DamagedError(CheckpointError):
    """A checkpoint of which a file is missing or not what was written."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """What a checkpoint holds beside arrays and assets; JSON throughout."""

    step: int
    """Updates applied."""
    data: dict[str, int]
    """Place in the data: the fields of `DataState`."""
    metric_name: str | None = None
    metric: float | None = None
    """Validation result at this update, rounded as it is compared (None: none here)."""
    maximize: bool = False
    """Whether a higher metric is better."""
    best: float | None = None
    """Best metric up to here."""
    bad_validations: int = 0
    """Validations in a row without improvement (patience)."""
    seconds: float = 0.0
    """Training time up to here, earlier runs included."""
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """Every validation so far: step, epoch and metrics."""
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    checksums: int = 0
    """Files with checksums, one per process that wrote it (0: from before there were any)."""


def find(path: str | os.PathLike[str], *, which: str = "best") -> pathlib.Path:
    """The folder of one checkpoint.

    Args:
      path: a work folder, its `checkpoints` folder, or one checkpoint.
      which: of several, `best` (by the validation metric; the last if none has one) or
        `last`.

    Raises:
      CheckpointError: there is none.
    """
    root = pathlib.Path(path)
    if not root.exists():
        raise CheckpointError(f"{path}: no such file or folder")
    if (root / "about").is_dir() or (root / "params").is_dir():
        return root
    inner = root / FOLDER if (root / FOLDER).is_dir() else root
    _check_complete(inner)
    folders = steps_in(inner)
    if not folders:
        raise CheckpointError(f"{path}: holds no complete checkpoint")
    last = folders[max(folders)]
    if which == "last":
        return last
    found = {step: record for step, folder in folders.items()
             if (record := read_record(folder)).metric is not None
             and not math.isnan(record.metric)}
    # A run may go on with another valid.metric; values of two metrics cannot be compared.
    name = found[max(found)].metric_name if found else None
    scored = [(r.metric if r.maximize else -r.metric, step)  # type: ignore[operator]
              for step, r in found.items() if r.metric_name == name]
    return folders[max(scored)[1]] if scored else last


def steps_in(root: pathlib.Path) -> dict[int, pathlib.Path]:
    """Checkpoints in a folder, by update."""
    return {step: folder for step, folder in _named(root).items() if _has_record(folder)}


def newest_in(root: pathlib.Path) -> pathlib.Path | None:
    """The checkpoint of the last update, whole or not."""
    folders = _named(root)
    return folders[max(folders)] if folders else None


def _named(root: pathlib.Path) -> dict[int, pathlib.Path]:
    if not root.is_dir():
        return {}
    return {int(f.name): f for f in sorted(root.iterdir()) if f.name.isdigit() and f.is_dir()}


def _has_record(folder: pathlib.Path) -> bool:
    return (folder / "about" / "record.json").is_file()


def _check_complete(root: pathlib.Path) -> None:
    """Folders get their names when all of them is on disk, so that one without a record is
    not unfinished: it is damaged, or, if others are newer, perhaps only half deleted."""
    newest = newest_in(root)
    for folder in _named(root).values():
        if _has_record(folder):
            continue
        if folder == newest:
            raise damaged(folder, "about/record.json is missing", force=False)
        warnings.warn(f"{folder}: about/record.json is missing (it is damaged, or was being "
                      "deleted): left out", stacklevel=3)


def damaged(folder: pathlib.Path, what: str, *, force: bool = True) -> DamagedError:
    """The error of a checkpoint that cannot be used; it names the others that are there.

    Args:
      what: what is wrong with it.
      force: whether it can be read all the same.
    """
    others = [str(n) for n in steps_in(folder.parent) if str(n) != folder.name]
    beside = f" (beside it: {', '.join(others)})" if others else ""
    anyway = ", or read it all the same with --no-verify (verify=False)" if force else ""
    return DamagedError(f"{folder}: damaged: {what}. Use another checkpoint{beside}{anyway}")


def read_record(folder: pathlib.Path) -> Record:
    """The `Record` of one checkpoint folder."""
    values = _read_json(folder, "record.json")
    known = {f.name for f in dataclasses.fields(Record)}
    try:
        record = Record(**{k: v for k, v in values.items() if k in known})
        whole = isinstance(record.data, dict) and isinstance(record.history, list) and all(
            isinstance(x, int) for x in (record.step, record.checksums, *record.data.values()))
    except (TypeError, AttributeError, KeyError, ValueError):
        whole, record = False, None
    if record is None or not whole:
        raise damaged(folder, "about/record.json lacks what a record has", force=False)
    return record


def read_config(folder: pathlib.Path) -> dict[str, Any]:
    """The resolved configuration that trained it, as plain data."""
    found = _read_json(folder, "config.json")
    if not isinstance(found, dict):
        raise damaged(folder, "about/config.json holds no configuration", force=False)
    return found


def read_assets(folder: pathlib.Path) -> dict[str, bytes]:
    """Name -> content of the vocabularies and tokenizer models."""
    return {name.removeprefix("assets/"): content
            for name, content in _about(folder).items() if name.startswith("assets/")}


def _about(folder: pathlib.Path) -> dict[str, bytes]:
    """Every file that describes a checkpoint, by its name in `about/`."""
    root = folder / "about"
    return {f.relative_to(root).as_posix(): f.read_bytes()
            for f in sorted(root.rglob("*")) if f.is_file()}


def _read_json(folder: pathlib.Path, name: str) -> Any:
    try:
        return json.loads((folder / "about" / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise damaged(folder, f"about/{name} is missing", force=False) from None
    except ValueError as e:
        raise damaged(folder, f"about/{name} is not readable as JSON ({e})", force=False) from None


def check_files(folder: pathlib.Path) -> checksums.Checksums:
    """Refuses a checkpoint whose small files are not what was written; gives the checksums
    of its arrays, which `read_params` and `read_state` look at.

    Raises:
      DamagedError: naming the file.
    """
    record = read_record(folder)
    try:
        found = checksums.Checksums(folder, processes=record.checksums)
    except ValueError as e:
        raise damaged(folder, str(e)) from None
    wrong = found.wrong_files(_about(folder))
    if wrong:
        missing = wrong[0].endswith("is missing")
        raise damaged(folder, ", ".join(wrong), force=not missing)
    return found
