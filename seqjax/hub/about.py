"""What a loaded model is, in one line: which checkpoint, which search, on what.

Records and configurations go in, one line of text comes out.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from seqjax import checkpoints
from seqjax.config import GenerationConfig
from seqjax.interop.fairseq.checkpoint import FairseqCheckpoint
from seqjax.models.protocol import Model, Params
from seqjax.tasks.protocol import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """Where one model came from."""

    path: str
    """As it was given."""
    update: int | None
    """Updates that it was trained for, where that is known."""
    chosen: str = ""
    """Why it is this one: `best by loss (3.21) of 4 checkpoints`."""

    def __str__(self) -> str:
        update = "an unknown update" if self.update is None else f"update {self.update}"
        return f"{self.path}: {', '.join(filter(None, (update, self.chosen)))}"


def origin_of_folder(path: str | os.PathLike[str], *, which: str) -> Origin:
    """The origin of a checkpoint of ours, as `checkpoints.find` chooses it."""
    folder = checkpoints.find(path, which=which)
    record = checkpoints.read_record(folder)
    name = record.metric_name or "the metric of validation"
    judged = None if record.metric is None else f"{name} ({record.metric:.6g})"
    if folder == pathlib.Path(path):
        return Origin(path=os.fspath(path), update=record.step,
                      chosen="" if judged is None else f"{name} {record.metric:.6g}")
    count = len(checkpoints.steps_in(folder.parent))
    of = f" of {count} checkpoint{'s' if count > 1 else ''}"
    if which == "best" and judged is not None:
        chosen = f"best by {judged}{of}"
    elif which == "best":
        chosen = f"the last{of}, as none was validated"
    else:
        chosen = f"the last{of}" + ("" if judged is None else f", {name} {record.metric:.6g}")
    return Origin(path=os.fspath(path), update=record.step, chosen=chosen)


def origin_of_pt(path: str | os.PathLike[str], checkpoint: FairseqCheckpoint) -> Origin:
    """The origin of a fairseq checkpoint, as far as the file says."""
    history = checkpoint.extra.get("optimizer_history") or [{}]
    state = checkpoint.extra.get("extra_state") or {}
    update = history[-1].get("num_updates") if isinstance(history[-1], Mapping) else None
    metric = checkpoint.fairseq.get("checkpoint", "best_checkpoint_metric") or "loss"
    value, best = state.get("val_loss"), state.get("best")
    chosen = "a .pt of fairseq"
    if isinstance(value, (int, float)):
        chosen += f", valid {metric} {value:.6g}" + (", the best so far" if value == best else "")
    return Origin(path=os.fspath(path), update=None if update is None else int(update),
                  chosen=chosen)


def family(task: Task, models: Sequence[Model], params: Sequence[Params]) -> str:
    """`transformer de-en, 4.2M parameters`, of one model or several of a task."""
    names = dict.fromkeys(str(m.config.name) for m in models)
    size = sum(int(np.prod(x.shape)) for p in params for x in jax.tree.leaves(p))
    source, target = task.languages or ("", "")
    languages = f" {source}-{target}" if source else ""
    many = f", {len(models)} models" if len(models) > 1 else ""
    return f"{' + '.join(names)}{languages}, {_count(size)} parameters{many}"


def _count(size: int) -> str:
    return f"{size / 1e6:.1f}M" if size >= 1e6 else f"{size:,}"


def search(settings: GenerationConfig, options: Mapping[str, Any]) -> str:
    """`beam 5 (default), outputs of at most 200 tokens (default)`.

    Args:
      settings: of the search.
      options: those of them that were asked for.
    """
    defaults = GenerationConfig()

    def origin(*names: str) -> str:
        if any(name in options for name in names):
            return "as asked"
        changed = any(getattr(settings, n) != getattr(defaults, n) for n in names)
        return "of the checkpoint" if changed else "default"

    beam = f"beam {settings.beam} ({origin('beam')})"
    if settings.match_source_len:
        return f"{beam}, outputs as long as their sources ({origin('match_source_len')})"
    length = f"{settings.max_len_b}"
    if settings.max_len_a:
        length = f"{settings.max_len_a:g} x source + {length}"
    return f"{beam}, outputs of at most {length} tokens ({origin('max_len_a', 'max_len_b')})"


def device(models: Sequence[Model]) -> str:
    """`cpu, float32`: where models compute, and in what type."""
    dtypes = dict.fromkeys(
        np.dtype(getattr(m, "compute_dtype", np.float32)).name for m in models)
    return f"{jax.devices()[0].device_kind}, {' + '.join(dtypes)}"
