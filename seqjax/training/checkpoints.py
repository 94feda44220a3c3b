"""Writes the checkpoints of a run: a state, a record and files go in, folders come of it.

Writing is asynchronous and atomic: a folder gets its name when all of it is on disk, so
killing the process at any time leaves the earlier ones. What is in a folder, and reading it
without training, is `seqjax.checkpoints`; here are the ways back that need a `TrainState`
or a run's configuration (`read_state`, `check_config`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import math
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from seqjax import models
from seqjax.checkpoints import (
    FOLDER,
    CheckpointError,
    Record,
    checksums,
    newest_in,
    read_arrays,
    read_record,
    steps_in,
)
from seqjax.config import CheckpointConfig, ConfigError
from seqjax.models.parts.configs import changes_parameters
from seqjax.models.protocol import Extra
from seqjax.training.state import TrainState


def read_state(
    folder: pathlib.Path, target: TrainState, *, verify: bool = True
) -> TrainState:
    """A whole training state, placed as `target` says.

    Args:
      target: shapes with shardings (`jax.ShapeDtypeStruct`), of any mesh.
      verify: as for `checkpoints.read_params`; the optimizer's arrays are compared too.

    Raises:
      CheckpointError: the checkpoint has other parameters or another optimizer.
      DamagedError, checksums.NotFiniteError: naming what is wrong.
    """
    parts = _parts(target)
    _check_extra(folder, parts)
    found = read_arrays(folder, parts, verify=verify)
    return TrainState(params=found["params"], extra=found.get("extra", {}), **found["state"])


def read_extra(folder: pathlib.Path, target: TrainState, *, verify: bool = True) -> Extra:
    """What the model kept beside its parameters (`TrainState.extra`), without the optimizer; {}
    of most. Arguments and errors are as for `read_state`."""
    parts = _parts(target)
    _check_extra(folder, parts)
    wanted = {name: tree for name, tree in parts.items() if name == "extra"}
    return read_arrays(folder, wanted, verify=verify)["extra"] if wanted else {}


def _check_extra(folder: pathlib.Path, parts: Mapping[str, Any]) -> None:
    if ("extra" in parts) == (folder / "extra").is_dir() or not folder.is_dir():
        return
    has, hasnt = ("it", "this model") if "extra" not in parts else ("this model", "it")
    raise CheckpointError(
        f"{folder}: {has} has a state beside its parameters (extra/), and {hasnt} has none: it is "
        "of another model; begin with its weights alone (config.init_from)")


def _parts(state: TrainState) -> dict[str, Any]:
    """What is written of a state, folder by folder. What most models have none of is not."""
    counters = {"step": state.step, "skipped": state.skipped, "opt_state": state.opt_state}
    parts = {"params": state.params, "state": counters}
    return parts | ({"extra": state.extra} if jax.tree.leaves(state.extra) else {})


def check_config(saved: Mapping[str, Any], current: Mapping[str, Any], where: str) -> list[str]:
    """Whether a checkpoint's run may go on under `current`: a model section may differ in keys
    that declare that they change no parameter (`models.parts.configs`).

    Returns:
      Lines about the other keys that differ, to be shown.

    Raises:
      CheckpointError: the model or the optimizer is another; lists the differing keys.
    """
    differing = _differences(saved, current)
    model = current["model"]
    section = models.family(model["name"]).config

    def must_match(key: str) -> bool:
        if key.startswith("model."):
            return changes_parameters(section, key.removeprefix("model."), model)
        return key in ("optimizer.name", "task.name")

    lines = {key: f"{key}: {a!r} there, {b!r} here" for key, (a, b) in differing.items()}
    fatal = [line for key, line in lines.items() if must_match(key)]
    if fatal:
        raise CheckpointError(
            f"{where} is a checkpoint of another configuration:\n  " + "\n  ".join(fatal)
            + "\nUse another --workdir, or give these keys the checkpoint's values"
        )
    places = ("resume_from", "init_from", "init_parts")
    return [line for key, line in lines.items() if key not in places]


def _differences(
    a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = ""
) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> both values, where they differ; a missing key is no value (None)."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted(a.keys() | b.keys()):
        x, y = a.get(key), b.get(key)
        if isinstance(x, Mapping) and isinstance(y, Mapping):
            found |= _differences(x, y, f"{prefix}{key}.")
        elif x != y:
            found[prefix + key] = (x, y)
    return found


def check_workdir(workdir: str | os.PathLike[str], *, need_bytes: int = 0) -> pathlib.Path:
    """Makes the folder and tries to write there.

    Args:
      need_bytes: what one checkpoint takes.

    Raises:
      CheckpointError: it cannot be made or written, or the disk is too full.
    """
    root = pathlib.Path(workdir)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=root, prefix=".write-test-") as f:
            f.write(bytes(4096))
            f.flush()
            os.fsync(f.fileno())
        free = shutil.disk_usage(root).free
    except OSError as e:
        raise CheckpointError(
            f"{workdir}: cannot write there ({e.strerror or e})"
        ) from e
    if free < need_bytes:
        raise CheckpointError(
            f"{workdir}: {free / 2**20:.0f} MiB free, but a checkpoint takes "
            f"{need_bytes / 2**20:.0f} MiB; make room or choose another folder"
        )
    return root


class Checkpoints:
    """The checkpoints of one run: written in the background, pruned by the policy.

    Keeps the last `keep_last`, the best `keep_best`, every multiple of `keep_every_updates`,
    and the last `keep_last_epochs` and `keep_interval_updates` of their kinds. Use as a context
    manager; leaving it waits for what is under way.
    """

    def __init__(self, workdir: str | os.PathLike[str], config: CheckpointConfig) -> None:
        from orbax.checkpoint import CheckpointManager, CheckpointManagerOptions
        from orbax.checkpoint.checkpoint_managers import preservation_policy as keep

        from seqjax.training.checkpoint_files import quiet_orbax
        from seqjax.training.preservation import NewestOf

        quiet_orbax()
        self.root = (pathlib.Path(workdir) / FOLDER).resolve()
        policies: list[Any] = [
            keep.LatestN(n=max(config.keep_last, 1)),
            keep.BestN(n=config.keep_best, get_metric_fn=lambda m: m["rank"],
                       keep_checkpoints_without_metrics=False),
        ]
        if config.keep_every_updates:
            policies.append(keep.EveryNSteps(interval_steps=config.keep_every_updates))
        # Which checkpoints are of ends of epochs: those here already, and those to come.
        self._epoch_ends = {step for step, folder in steps_in(self.root).items()
                            if _ended_epoch(folder)}
        every = config.every_updates
        policies += [
            NewestOf(n=config.keep_last_epochs, kind=lambda step: step in self._epoch_ends),
            NewestOf(n=config.keep_interval_updates, kind=lambda step: (
                bool(every) and step % every == 0 and step not in self._epoch_ends)),
        ]
        with self._writing():
            self._manager = CheckpointManager(
                self.root,
                options=CheckpointManagerOptions(
                    enable_async_checkpointing=config.asynchronous,
                    cleanup_tmp_directories=True,
                    preservation_policy=keep.AnyPreservationPolicy(policies),
                ),
            )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            self.close()
        else:  # an error is on its way: do not replace it
            with contextlib.suppress(Exception):
                self._manager.close()

    def latest(self) -> pathlib.Path | None:
        """The newest checkpoint."""
        return newest_in(self.root)

    def set_aside(self, folder: pathlib.Path) -> pathlib.Path:
        """Gives a damaged checkpoint another name, `STEP.damaged`, so that its update can be
        saved again; what is in it stays as it is.

        Returns:
          Where it is now.
        """
        target = folder.with_name(f"{folder.name}.damaged")
        number = 1
        while target.exists():
            number += 1
            target = folder.with_name(f"{folder.name}.damaged{number}")
        if jax.process_index() == 0:
            folder.rename(target)
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices(f"set aside {folder.name}")
        self._manager.reload()
        return target

    def save(
        self, state: TrainState, record: Record, *, config: Mapping[str, Any],
        assets: Mapping[str, bytes],
    ) -> None:
        """Starts to write. Returns when `state` may be donated; the rest happens behind.
        An update that is saved already is not saved again.

        Raises:
          CheckpointError: this or the save before it failed.
        """
        import orbax.checkpoint as ocp

        from seqjax.training.checkpoint_files import FilesSave

        # What orbax would find out in a thread, minutes later, is said at once.
        check_workdir(self.root, need_bytes=state_bytes(state))
        record = dataclasses.replace(record, checksums=jax.process_count())
        files = {"config.json": _json(config), "record.json": _json(dataclasses.asdict(record)),
                 **{f"assets/{name}": content for name, content in assets.items()}}
        parts = _parts(state)
        metrics = None
        if record.metric is not None:
            rank = record.metric if record.maximize else -record.metric
            metrics = {"rank": -math.inf if math.isnan(rank) else rank}
        with self._writing():
            self._manager.wait_until_finished()
            if record.step in self._manager.all_steps():
                return  # updates are what a checkpoint is of; this one is on disk
            if _ends_epoch(record):
                self._epoch_ends.add(record.step)
            self._manager.save(
                record.step, metrics=metrics, force=True,
                args=ocp.args.Composite(
                    **{name: ocp.args.PyTreeSave(tree) for name, tree in parts.items()},
                    about=FilesSave(files=_with_checksums(files, parts)),
                ),
            )

    def check(self) -> None:
        """Raises CheckpointError if a save in the background has failed."""
        with self._writing():
            self._manager.check_for_errors()

    def wait(self) -> None:
        """Until everything is on disk."""
        with self._writing():
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def close(self) -> None:
        """Waits, and lets go of threads."""
        self.wait()
        self._manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except ConfigError:
            raise
        except Exception as e:
            full = isinstance(e, OSError) and e.errno == errno.ENOSPC
            full = full or "No space left" in str(e) or "RESOURCE_EXHAUSTED" in str(e)
            reason = "the disk is full" if full else f"{type(e).__name__}: {e}"
            raise CheckpointError(
                f"{self.root}: writing a checkpoint failed ({reason}); "
                "checkpoints written before are intact"
            ) from e


def _with_checksums(files: dict[str, bytes], parts: Mapping[str, Any]) -> dict[str, bytes]:
    """What this process writes: its checksums, and, of process 0, the files."""
    first = jax.process_index() == 0
    mine = files if first else {}
    own = checksums.to_json(checksums.of_arrays(parts), mine)
    return {**mine, checksums.file_name(jax.process_index()): own}


def _ends_epoch(record: Record) -> bool:
    return record.data.get("batch") == 0


def _ended_epoch(folder: pathlib.Path) -> bool:
    """Whether an existing checkpoint is of the end of an epoch, as far as it says."""
    try:
        return _ends_epoch(read_record(folder))
    except CheckpointError:
        return False  # damaged: resuming says so


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def state_bytes(state: Any) -> int:
    """Size of a pytree of arrays or shapes."""
    return sum(int(np.prod(x.shape)) * np.dtype(x.dtype).itemsize for x in jax.tree.leaves(state))
