"""The last words of a run: its best checkpoint, and what to type next."""

from __future__ import annotations

import os
import shlex

from seqjax import checkpoints as ck
from seqjax.training.parts import Parts


def summary(parts: Parts, workdir: str) -> str:
    """`best loss 3.456: runs/demo/checkpoints/1392; next: python -m seqjax.generate ...`.

    The checkpoint is the one that is used where the work folder is named.
    """
    try:
        folder = ck.find(workdir, which="best")
    except ck.CheckpointError:
        return "no checkpoint was written"
    record = ck.read_record(folder)
    where = os.path.join(workdir, ck.FOLDER, folder.name)
    if record.metric is None:
        found = f"no validation yet; the last checkpoint, of update {record.step}: {where}"
    else:
        found = f"best {record.metric_name} {record.metric:g} at update {record.step}: {where}"
        if record.best is not None and record.best != record.metric:
            found += f" (the best ever, {record.best:g}, was not kept: checkpoint.keep_best)"
    words = parts.task.next_command(workdir, subset=parts.config.valid.subset)
    return f"{found}; next: {shlex.join(words)}"


def how_to_resume(workdir: str, *, command: str | None, step: int) -> str:
    """How a run that was ended by a signal goes on."""
    again = command or f"train with the same configuration and workdir {shlex.quote(workdir)}"
    return f"to go on from update {step}: {again}"
