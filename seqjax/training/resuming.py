"""The checkpoint that a run goes on from: the newest that is whole."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from seqjax import checkpoints as ck
from seqjax.checkpoints.checksums import NotFiniteError
from seqjax.config import Config, DataclassInstance, to_plain
from seqjax.models.protocol import Params
from seqjax.tasks.protocol import Task
from seqjax.training import initial_weights
from seqjax.training.checkpoints import Checkpoints, check_config, read_extra, read_state
from seqjax.training.state import TrainState


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Resumed:
    """What was read."""

    folder: pathlib.Path
    record: ck.Record
    state: TrainState
    lines: list[str]
    """What is to be said of it, warnings first."""


def named(path: str) -> tuple[pathlib.Path, bool]:
    """The checkpoint that `resume_from` means, and whether it is named itself, so that no
    other will do.

    Raises:
      CheckpointError: there is none.
    """
    root = pathlib.Path(path)
    inner = root / ck.FOLDER if (root / ck.FOLDER).is_dir() else root
    newest = ck.newest_in(inner)
    if newest is not None:
        return newest, False
    return ck.find(path, which="last"), True


def read(
    folder: pathlib.Path, config: Config, abstract: TrainState, task: Task, *,
    store: Checkpoints, fall_back: bool = True,
    new_state: Callable[[Params], TrainState] | None = None,
) -> Resumed:
    """A checkpoint, or the newest before it that is whole.

    Damaged checkpoints of the run's own folder get another name, so that their updates can
    be saved again; those of another run stay as they are.

    Args:
      folder: the one wanted.
      store: of this run.
      fall_back: whether an earlier one will do.
      new_state: parameters -> the state that begins with them, where the optimizer's of the
        checkpoint is left behind.

    Raises:
      CheckpointError: none is whole, or they are of another configuration.
      ConfigError: they are of other dictionaries.
    """
    earlier = sorted((step, f) for step, f in ck.steps_in(folder.parent).items()
                     if step < _step(folder)) if fall_back else []
    candidates = [folder, *(f for _, f in reversed(earlier))]
    bad: list[tuple[pathlib.Path, str]] = []
    for each in candidates:
        found, why = None, ""
        try:
            found = _read(each, config, abstract, task, new_state)
        except (ck.DamagedError, NotFiniteError) as error:
            why = str(error)
        if not _agreed(found is not None):
            bad.append((each, why or f"{each}: damaged, as another process says"))
            continue
        assert found is not None
        record, state, notes = found
        lines = []
        for other, why in bad:
            place = other
            if other.parent == store.root:
                place = store.set_aside(other)
            kept = f" (kept as {place})" if place != other else ""
            lines.append(f"warning: {why}{kept}")
        if bad:
            lines.append(f"warning: falling back to the checkpoint before, {each}")
        return Resumed(folder=each, record=record, state=state, lines=[*lines, *notes])
    if len(bad) == 1:
        raise ck.DamagedError(bad[0][1])
    raise ck.DamagedError(
        f"{folder.parent}: no checkpoint is whole: " + "; ".join(why for _, why in bad)
        + ". To begin afresh, use another --workdir")


def _agreed(whole: bool) -> bool:
    """Whether a checkpoint is whole to every process: each can look at its own pieces only."""
    if jax.process_count() == 1:
        return whole
    from jax.experimental import multihost_utils

    return bool(np.all(multihost_utils.process_allgather(np.int32(whole))))


def _step(folder: pathlib.Path) -> int:
    return int(folder.name) if folder.name.isdigit() else 0


def _read(
    folder: pathlib.Path, config: Config, abstract: TrainState, task: Task,
    new_state: Callable[[Params], TrainState] | None,
) -> tuple[ck.Record, TrainState, list[str]]:
    verify = config.checkpoint.verify
    if verify:
        ck.check_files(folder)
    record = ck.read_record(folder)
    saved, plain = _saved_config(folder, config), to_plain(config)
    if new_state is not None:
        saved = {**saved, "optimizer": plain["optimizer"]}
    notes = check_config(saved, plain, str(folder))
    notes = [f"  changed: {note}" for note in notes]
    notes += initial_weights.check_same(
        initial_weights.of_folder(folder), config, task,
        way_out=initial_weights.BEGIN_ANEW.format(folder))
    if new_state is not None:
        fresh = new_state(ck.read_params(folder, verify=verify))
        extra = read_extra(folder, abstract, verify=verify)  # the model's, not the optimizer's
        return record, dataclasses.replace(fresh, extra=extra), notes
    return record, read_state(folder, abstract, verify=verify), notes


def _saved_config(folder: pathlib.Path, config: Config) -> dict[str, Any]:
    """The configuration that a checkpoint was written under. Keys that there were not yet have
    their defaults, which change nothing."""
    saved = ck.read_config(folder)
    full = {**_defaults(config), **saved}
    for name, section in saved.items():
        if isinstance(section, dict) and dataclasses.is_dataclass(getattr(config, name, None)):
            full[name] = {**_defaults(getattr(config, name)), **section}
    return full


def _defaults(section: DataclassInstance) -> dict[str, Any]:
    """Plain values of the fields of a section that have a default."""
    known = {}
    for field in dataclasses.fields(section):
        if field.default is not dataclasses.MISSING:
            known[field.name] = to_plain(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            known[field.name] = to_plain(field.default_factory())
    return known
