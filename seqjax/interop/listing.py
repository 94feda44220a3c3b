"""A state dict and the plan of a model in, a row for every tensor out: the parameter that it
becomes and how, or why it becomes none. Also for what does not fit, which is marked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from seqjax.interop.weights import Plan, misfits
from seqjax.models.tables import State


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One tensor of a file (one row for each parameter that an old file's tensor holds)."""

    name: str
    """In the file; of what the file lacks, the name that it should have."""
    dtype: str
    """"" where the file lacks it."""
    shape: tuple[int, ...]
    parameter: str
    """Path of the parameter that it becomes; "" for none."""
    how: str
    """What becomes of it, or why nothing does, or what is wrong."""
    fits: bool = True
    """Whether the model can be loaded with it."""


def rows(
    stored: Mapping[str, np.ndarray], state: State, plan: Plan, *,
    kept: Mapping[str, Sequence[int]] | None = None,
) -> list[Row]:
    """A row for every tensor, in the file's order, and for what the file lacks behind them.

    Args:
      stored: the tensors as the file has them.
      state: those that the family's `upgrade` made of them, under today's names.
      plan: of the model with all of its layers.
      kept: side -> the layers that stay, where not all do.
    """
    wrong = {name: f"{kind}: {what}" for kind, name, what in misfits(state, plan)}
    fates = _fates(plan, kept or {})
    added = {new: (array, _bounds(array)) for new, array in state.items() if new not in stored}
    found = []
    for name, value in stored.items():
        today = _became(name, value, state, added)
        if not today:
            found.append(_row(name, value, "dropped by the rules for files of its age"))
        for new, note in today:
            parameter, how = fates.get(new) or _none(new, plan)
            if new in wrong:
                how = wrong[new]
            found.append(_row(name, value, "; ".join(filter(None, (note, how))), parameter,
                              fits=new not in wrong))
    for name in (name for name in plan.wanted if name not in state):
        parameter, how = fates.get(name) or _none(name, plan)
        found.append(Row(name=name, dtype="", shape=plan.wanted[name], parameter=parameter,
                         how=wrong.get(name, how), fits=name not in wrong))
    return found


def unplanned(stored: Mapping[str, Any]) -> list[Row]:
    """Rows of a file whose model is not known: what is there, and no more."""
    return [_row(name, value, "no model to compare it with")
            if isinstance(value, np.ndarray) else
            Row(name=str(name), dtype=type(value).__name__, shape=(), parameter="", fits=False,
                how="no tensor")
            for name, value in stored.items()]


def _row(
    name: str, value: np.ndarray, how: str, parameter: str = "", *, fits: bool = True
) -> Row:
    return Row(name=name, dtype=value.dtype.name, shape=value.shape, parameter=parameter,
               how=how, fits=fits)


def _fates(plan: Plan, kept: Mapping[str, Sequence[int]]) -> dict[str, tuple[str, str]]:
    """Today's name of each parameter's tensor -> the parameter ("" for none) and the way there."""
    found = {}
    for entry in plan.entries:
        path, layers = "/".join(entry.path), kept.get(entry.path[0])
        for layer, name in enumerate(entry.names):
            how = entry.transform.name
            if entry.stacked:
                how += f", layer {layer} of {len(entry.names)}"
            found[name] = path, how
            if entry.stacked and layers is not None:
                found[name] = (path, f"{how}, kept as layer {layers.index(layer)}") if (
                    layer in layers) else ("", f"left out: the layers to keep are {layers}")
    return found


def _none(name: str, plan: Plan) -> tuple[str, str]:
    """Why a tensor with one of today's names becomes no parameter."""
    if name in plan.copies:
        return "", f"a copy of {plan.copies[name]}"
    if name in plan.empty:
        return "", "has no element"
    if plan.unused.fullmatch(name):
        return "", "a parameter that is never used"
    return "", "holds no parameter"


def _became(
    name: str, value: np.ndarray, state: State,
    added: Mapping[str, tuple[np.ndarray, tuple[int, int]]],
) -> list[tuple[str, str]]:
    """Today's names of a tensor of the file, each with what the rules for old files did to it.

    Args:
      added: arrays of `state` under names that the file does not have, and where they lie.
    """
    low, high = _bounds(value)
    if name in state:
        today = state[name]
        start, end = _bounds(today)
        same = today.shape == value.shape and low <= start and end <= high
        return [(name, "" if same else "converted from an older form")]
    found = []
    for new, (array, (start, end)) in added.items():
        if not array.size or start < low or end > high:
            continue
        if array.shape == value.shape:
            found.append((new, f"renamed to {new}"))
        else:
            row = (start - low) // value[0].nbytes
            found.append((new, f"rows {row} to {row + array.shape[0] - 1} are {new}"))
    return found


def _bounds(array: np.ndarray) -> tuple[int, int]:
    """The addresses between which an array lies."""
    return np.lib.array_utils.byte_bounds(array)


# ---- text ----


def lines(found: Sequence[Row]) -> Iterator[str]:
    """The rows in columns, under a heading; misfits begin with `!`."""
    table = [("tensor", "type", "shape", "parameter", "transform")]
    table += [(row.name, row.dtype or "-", str(list(row.shape)), row.parameter or "-", row.how)
              for row in found]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    marks = [" ", *(" " if row.fits else "!" for row in found)]
    for mark, cells in zip(marks, table, strict=True):
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        yield f"{mark} {'  '.join(padded)}".rstrip()


def totals(found: Sequence[Row]) -> str:
    """How many there are of each sort, in a line."""
    parameters = {row.parameter for row in found if row.parameter and row.dtype and row.fits}
    tensors = {row.name for row in found if row.dtype}
    used = {row.name for row in found if row.dtype and row.parameter and row.fits}
    wrong = sum(not row.fits for row in found)
    return (f"{len(tensors)} tensors: {len(used)} become {len(parameters)} parameters, "
            f"{len(tensors - used)} do not; {wrong} do not fit")


def plain(found: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as JSON has them."""
    return [dataclasses.asdict(row) | {"shape": list(row.shape)} for row in found]
