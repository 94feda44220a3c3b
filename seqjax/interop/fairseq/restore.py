"""Which checkpoint a run of fairseq's begins with, and what of it: its flags as ours.

fairseq's `load_checkpoint` reads `--restore-file`, or SAVE_DIR/checkpoint_last.pt where none is
given, or, where that does not exist yet, `--continue-once` or `--finetune-from-model`. Of it
the weights are always taken; moments and update count with the schedule's place unless
`--reset-optimizer`; the place in the data unless `--reset-dataloader`. Schedules here are
functions of the update count, so that `--reset-lr-scheduler` alone changes nothing, there or
here.
"""

from __future__ import annotations

import ast
import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from seqjax.config import ConfigError

LAST = "checkpoint_last.pt"
RESETS = ("optimizer", "lr_scheduler", "meters", "dataloader")
_OVERRIDES = {
    "adam": {"betas": "adam_betas", "eps": "adam_eps", "weight_decay": "weight_decay"},
    "nag": {"momentum": "momentum", "weight_decay": "weight_decay"},
    "sgd": {"momentum": "momentum", "weight_decay": "weight_decay"},
}
"""Optimizer -> its numbers in `--optimizer-overrides` -> keys of ours."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RestoreOptions:
    """Where a run begins."""

    raw: dict[str, Any]
    """`init_from` or `resume_from`, `resume_reset`; nothing for a fresh run."""
    optimizer: dict[str, Any]
    """Keys of the optimizer section that `--optimizer-overrides` sets."""
    notes: tuple[str, ...]
    unsupported: tuple[str, ...]


def restore_options(flat: Mapping[str, Any]) -> RestoreOptions:
    """What a command's flags ask for, in our keys.

    Raises:
      ConfigError: values that fairseq refuses together.
    """
    reset = [name for name in RESETS if flat.get(f"reset_{name}")]
    tuned, once = flat.get("finetune_from_model"), flat.get("continue_once")
    encoder = flat.get("load_pretrained_encoder_from")
    file = flat.get("restore_file")
    file = None if file in (None, "", LAST) else str(file)
    names = ", ".join(_flag(f"reset_{name}") for name in reset)
    if tuned and (reset or file):
        raise ConfigError(f"--finetune-from-model and {names or '--restore-file'}: fairseq refuses "
                          "them together; it resets all but the weights by itself")
    notes: list[str] = []
    unsupported: list[str] = []
    if once and file:
        notes.append(f"--continue-once {once}: without effect beside --restore-file.")
    source, flag = (file, "--restore-file") if file else (once, "--continue-once")
    overrides = _overrides(flat)
    if source:
        raw = _taken(str(source), reset)
        notes += _of_resets(reset, raw)
        if file:
            notes.append("--restore-file: fairseq begins with it at every start; here a work "
                         "folder that holds checkpoints goes on from its own last one.")
    elif tuned:
        raw = {"init_from": str(tuned)}
    elif encoder:
        raw = {"init_from": str(encoder), "init_parts": "encoder"}
    else:
        raw = {}
        if reset or overrides:
            unsupported.append(_of_the_last(flat, reset, bool(overrides)))
    if encoder and (source or tuned):
        notes.append(f"--load-pretrained-encoder-from {encoder}: without effect beside "
                     f"{flag if source else '--finetune-from-model'}, which has all weights.")
    if once and tuned:
        notes.append(f"--finetune-from-model {tuned}: without effect beside --continue-once.")
    if "init_from" in raw and float(flat.get("stop_time_hours") or 0) > 0:
        notes.append("--stop-time-hours: fairseq counts the hours of the checkpoint's own "
                     "training as well; here they begin with this run.")
    optimizer: dict[str, Any] = {}
    if source and "optimizer" in reset:
        if overrides:
            notes.append("--optimizer-overrides: without effect beside --reset-optimizer.")
    elif source:
        optimizer = _overriding(flat, overrides, notes, unsupported)
        notes.append(f"{flag}: fairseq goes on with the checkpoint's own betas, eps, momentum and "
                     "weight decay; here those of this configuration hold.")
    return RestoreOptions(raw=raw, optimizer=optimizer, notes=tuple(notes),
                          unsupported=tuple(unsupported))


def _flag(dest: str) -> str:
    return "--" + dest.replace("_", "-")


def _taken(source: str, reset: list[str]) -> dict[str, Any]:
    """What is read of a checkpoint, in our keys."""
    parts = [name for name in ("optimizer", "dataloader") if name in reset]
    if len(parts) == 2:
        return {"init_from": source}
    return {"resume_from": source, **({"resume_reset": parts} if parts else {})}


def _of_resets(reset: list[str], raw: Mapping[str, Any]) -> list[str]:
    notes = []
    left = [_flag(f"reset_{name}") for name in ("optimizer", "dataloader") if name in reset]
    if "init_from" in raw:
        notes.append(f"{' and '.join(left)}: the weights alone are taken (init_from).")
    elif left:
        part = left[0].removeprefix("--reset-")
        notes.append(f"{left[0]}: the {part} is left behind (resume_reset).")
    if "lr_scheduler" in reset:
        notes.append("--reset-lr-scheduler: " + (
            "implied: the schedule begins with --reset-optimizer's update 0."
            if "optimizer" in reset else
            "changes nothing in fairseq or here: the rate follows the update count, which only "
            "--reset-optimizer sets back."))
    if "meters" in reset:
        notes.append("--reset-meters: implied: averages and the best metric of the checkpoint are "
                     "never taken over here.")
    elif "optimizer" not in reset:
        notes.append("fairseq without --reset-meters goes on with the best metric of the "
                     "checkpoint; here the best is of this run's own validations.")
    return notes


def _of_the_last(flat: Mapping[str, Any], reset: list[str], overrides: bool) -> str:
    """Resets of the run's own last checkpoint, which we always take whole."""
    names = [_flag(f"reset_{name}") for name in reset]
    names += ["--optimizer-overrides"] if overrides else []
    last = os.path.join(str(flat.get("save_dir") or "checkpoints"), LAST)
    taken = _taken(last, reset)
    how = " ".join(f"--config.{k}={','.join(v) if isinstance(v, list) else v}"
                   for k, v in taken.items())
    return (f"{' '.join(names)}: without --restore-file fairseq does so to {last} whenever it is "
            "there; a work folder goes on from its own last checkpoint whole. To begin with that "
            f"file: python -m seqjax.train {how} and a new --workdir")


def _overrides(flat: Mapping[str, Any]) -> dict[str, Any]:
    text = flat.get("optimizer_overrides") or "{}"
    try:
        found = ast.literal_eval(text) if isinstance(text, str) else text
        return dict(found)
    except (ValueError, SyntaxError, TypeError):
        raise ConfigError(f"--optimizer-overrides: {text!r} is not a dict as Python writes "
                          "it") from None


def _overriding(
    flat: Mapping[str, Any], overrides: Mapping[str, Any], notes: list[str],
    unsupported: list[str],
) -> dict[str, Any]:
    known = _OVERRIDES.get(str(flat.get("optimizer") or "adam"), {})
    found = {}
    for key, value in overrides.items():
        if key == "lr":
            notes.append("--optimizer-overrides: lr changes nothing in fairseq or here: the "
                         "schedule sets it before every update.")
        elif key in known:
            found[known[key]] = value
        else:
            unsupported.append(f"--optimizer-overrides {key}={value!r}: no such number of the "
                               "optimizer here")
    return found
