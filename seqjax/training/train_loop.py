"""Training from a resolved configuration to checkpoints, top to bottom.

Whoever wants to know what a run does reads `train`, `_train` and `Run`. The pieces they call
are independent of each other: what is trained (`parts`), what it begins with (`initial_state`),
compiled programs (`programs`), batches (`data`), what is due when (`triggers`), what is saved
(`checkpoints`) and what is said (`metrics_log`, `progress`).
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from seqjax import locking
from seqjax.config import Config, to_plain
from seqjax.console import compiling
from seqjax.data.pipeline import Batch, DataState, open_batches
from seqjax.tasks import entry_of
from seqjax.training import (
    checks,
    compilation,
    failures,
    initial_state,
    run_summary,
    sharding,
    triggers,
)
from seqjax.training.checkpoints import Checkpoints, check_workdir, state_bytes
from seqjax.training.initial_state import Start
from seqjax.training.metrics import is_maximized
from seqjax.training.metrics_log import MetricsLog
from seqjax.training.parts import Parts, prepare
from seqjax.training.preemption import StopRequest
from seqjax.training.programs import Programs
from seqjax.training.progress import Reporter, duration
from seqjax.training.run_progress import Progress
from seqjax.training.train_step import Metrics


def train(
    config: Config, *, workdir: str, start: Start | None = None, command: str | None = None
) -> int | None:
    """Trains until a limit of `config.train` is reached, the data says stop, or a signal.

    A work folder that holds checkpoints is continued.

    Args:
      config: resolved.
      workdir: gets checkpoints, `metrics.jsonl`, `train.log`, `config.json` and TensorBoard
        curves. One process at a time may train there.
      start: weights from elsewhere (a fairseq checkpoint that the caller has read).
      command: what to type to go on after a signal.

    Returns:
      The signal that ended it (2: Ctrl-C, 15: SIGTERM), after saving; None if none did.

    Raises:
      ConfigError: something that cannot work, before compute is spent on it where that
        can be known.
      LockedError: another process trains in `workdir`.
      failures.TrainingError: the gradient stays non-finite, or a device's memory is too small.
    """
    checks.check(config)
    initial_state.check(config)
    check_workdir(workdir)
    # Of several processes the first writes. Whether there are, JAX knows before it has
    # taken hold of any device.
    first = not jax.distributed.is_initialized() or jax.process_index() == 0
    with (
        locking.hold(f"{workdir}/train.lock", what=workdir) if first
        else contextlib.nullcontext() as lock,
        Reporter(workdir, tensorboard=config.log.tensorboard, active=first) as out,
    ):
        return _train(config, workdir=workdir, start=start, command=command, out=out, lock=lock)


def _train(
    config: Config, *, workdir: str, start: Start | None, command: str | None, out: Reporter,
    lock: locking.Lock | None,
) -> int | None:
    """`train`, in a folder that is ours to write."""
    began, compiled = time.monotonic(), compilation.CompilationCounter()
    cache = compilation.enable_cache(config.log.compilation_cache)
    parts = prepare(config, composition_epoch=start.composition_epoch if start else 1)
    with contextlib.ExitStack() as stack:
        if jax.process_index() == 0:
            stack.enter_context(compiling.shown(out.compilation()))
        saved = stack.enter_context(Checkpoints(workdir, config.checkpoint))
        abstract = initial_state.abstract_state(parts)
        check_workdir(workdir, need_bytes=state_bytes(abstract))
        if parts.validator:
            parts.validator.check_metric(abstract)
        initial = initial_state.begin(parts, abstract, saved=saved, start=start)
        _introduce(parts, initial, workdir=workdir, out=out)
        why = triggers.finished(parts.config, initial.progress, schedule=parts.schedule,
                           seconds=initial.progress.seconds)
        if why:
            _say_nothing_to_do(parts, initial.progress, why, workdir=workdir, out=out)
            return None
        for note in checks.notes(parts.config, parts.schedule):
            out.say(f"note: {note}")

        # Batches (and TensorFlow) get ready while all shapes are compiled.
        opening = stack.enter_context(_opening(parts, initial.progress.data))
        programs = Programs(parts, abstract)
        programs.compile_planned(out, cache=cache)
        batches = opening.result()
        stop = stack.enter_context(StopRequest())
        run = Run(parts, initial, began=began, programs=programs, batches=batches, saved=saved,
                  out=out, stop=stop, lock=lock)
        out.say(f"{compilation.seconds_since(began)} to the first update; "
                f"{compiled.count} programs compiled")
        why = run.to_the_end()
        step = run.progress.step
        out.say(f"stopped at update {step}: {why} ({duration(run.elapsed())} of training, "
                f"{compiled.count} programs compiled)")
        out.say(run_summary.summary(parts, workdir))
        if stop.number is not None:
            out.say(run_summary.how_to_resume(workdir, command=command, step=step))
        return stop.number


def _introduce(
    parts: Parts, initial: initial_state.Initial, *, workdir: str, out: Reporter
) -> None:
    """Says, and writes into the work folder, what the run is."""
    out.begin(resumed_at=initial.progress.step)
    if jax.process_index() == 0:
        plain = to_plain(parts.config)
        with open(f"{workdir}/config.json", "w") as f:
            f.write(json.dumps(plain, indent=1, ensure_ascii=False) + "\n")
    for line in (initial.origin, *parts.describe(initial.state.params)):
        out.say(line)


def _say_nothing_to_do(
    parts: Parts, progress: Progress, why: str, *, workdir: str, out: Reporter
) -> None:
    missed = parts.validator is not None and not progress.validated
    out.say(f"nothing to do: the run ended at update {progress.step} ({why})"
            + (", before its last validation was done" if missed else "")
            + "; raise that limit to train on")
    out.say(run_summary.summary(parts, workdir))


@contextlib.contextmanager
def _opening(parts: Parts, data: DataState) -> Iterator[Future[Any]]:
    """Opens the batches of training in a thread, from a place in the data on; closes them."""
    shard = (jax.process_index(), jax.process_count())

    def transfer(arrays: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        rows = next(iter(arrays.values())).shape[1] * shard[1]
        return sharding.place(arrays, parts.mesh, rows_axis=1, rows=rows)

    with ThreadPoolExecutor(1) as opener:
        opening = opener.submit(
            open_batches, parts.plan, parts.dataset, batching=parts.config.batching, state=data,
            shard=shard, transfer=transfer)
        try:
            yield opening
        finally:
            if not opening.exception():
                opening.result().close()


class Run:
    """Updates with their validations and checkpoints, from a first state on.

    The device works on an update while the host waits for the next batch: metrics of an
    update are taken in when the next one has been dispatched (`update`), and only then it is
    known whether it was skipped. So whatever depends on the number of updates calls
    `collect` first.
    """

    def __init__(
        self, parts: Parts, initial: initial_state.Initial, *, began: float, programs: Programs,
        batches: Iterator[Batch], saved: Checkpoints, out: Reporter, stop: StopRequest,
        lock: locking.Lock | None,
    ) -> None:
        """
        Args:
          began: when the process did, on the monotonic clock.
          programs: compiled for the shapes that were planned.
          stop: asks for the end.
          lock: of the work folder, in the process that holds it.
        """
        self._parts, self._config, self._validator = parts, parts.config, parts.validator
        self.progress, self._state = initial.progress, initial.state
        self._assets = {**initial.assets, **parts.task.assets()}
        self._began, self._programs, self._batches = began, programs, batches
        self._saved, self._out, self._stop, self._lock = saved, out, stop, lock
        self._metrics = MetricsLog(parts.config, out, declared=parts.metrics,
                                   vocab_size=parts.task.vocab_sizes.get("target_vocab_size"))
        self._pending: tuple[Metrics, Batch] | None = None
        valid = parts.config.valid
        self._maximize = is_maximized(valid.metric, parts.metrics, chosen=valid.maximize)

    def to_the_end(self) -> str:
        """Updates until the run is over, and everything is on disk. Returns why it is over."""
        why = ""
        while not why:
            batch = self.update()
            if batch.last or self.progress.step >= self._config.train.max_update > 0:
                self.collect()  # it may turn out to have been skipped
            if batch.last:
                self._metrics.end_epoch(batch, wall=self.elapsed())
            why = self.finished()
            asked = self.asked_to_stop()
            if not asked and self.validation_is_due(batch, last=bool(why)):
                self.validate(batch)
                why = why or self.finished()
                asked = self.asked_to_stop()
            why = asked or why
            if why or self.saving_is_due(batch):
                self.save()
        self._saved.wait()
        return why

    # ---- phases ----

    def update(self) -> Batch:
        """Dispatches an update, and takes in the metrics of the one before.

        Returns:
          The batch that it learns from.

        Raises:
          CheckpointError, LockedError: a save in the background has failed, or the work folder
            is no longer ours.
        """
        batch = next(self._batches)
        if not self._programs.has(batch):
            self._out.say(f"compiling for another shape: {batch.groups} x {tuple(batch.shape)}")
            with self._metrics.paused():
                self._programs.compile(batch)
        with failures.out_of_memory_explained(self._config):
            self._state, metrics = self._programs.of(batch)(
                self._state, batch.arrays, np.int32(batch.epoch))
        self.collect()
        self._pending = (metrics, batch)
        self.progress.step, self.progress.data = self.progress.step + 1, batch.state
        self._saved.check()
        if self._lock is not None:
            self._lock.check()
        return batch

    def collect(self) -> None:
        """Takes in the metrics of the last update, if they are not yet; waits for them.

        Raises:
          TrainingError: too many gradients in a row were not finite.
        """
        if self._pending is None:
            return
        (metrics, batch), self._pending = self._pending, None
        sums = jax.device_get(metrics)
        if int(sums["skipped"][0]):
            self.progress.step -= 1
            self._out.say(failures.skipped_update(self._config, sums, batch))
        else:
            self._metrics.add(sums, batch, wall=self.elapsed())

    def validate(self, batch: Batch) -> None:
        """Validates the state as it is, unless a signal comes in.

        Args:
          batch: of the update before.
        """
        assert self._validator is not None
        with failures.out_of_memory_explained(self._config):
            self.collect()
            with self._metrics.paused():
                found = self._stop.unless_asked(
                    functools.partial(self._validator, self._state))
                if found is None:
                    self._out.say(f"{self._stop.signal} received: the validation is left off")
                else:
                    self._take_validation(*found, batch=batch)

    def _take_validation(
        self, values: dict[str, float], samples: Sequence[tuple[str, str, str]], *, batch: Batch
    ) -> None:
        """Remembers and says the result of a validation."""
        metric, subset = self._config.valid.metric, self._config.valid.subset
        progress = self.progress
        progress.take_validation(values[metric], maximize=self._maximize)
        values["num_updates"] = progress.step
        values[f"best_{metric}"] = math.nan if progress.best is None else progress.best
        progress.history.append({"epoch": batch.epoch, **values})
        self._out.summary("valid", f"epoch {batch.epoch:03d} | valid on {subset!r}", values,
                          declared=self._parts.metrics)
        self._metrics.warn_if_diverged("valid", values)
        output = entry_of(self._config.task.name).output
        for source, found, reference in samples:
            self._out.say(f"  source      {source}\n  {output:<11} {found}\n"
                          f"  reference   {reference}")

    def save(self) -> None:
        """Starts to write a checkpoint of the state as it is."""
        self.collect()
        record = self.progress.record(metric_name=self._config.valid.metric,
                                      maximize=self._maximize, seconds=self.elapsed())
        self._saved.save(self._state, record, config=to_plain(self._config),
                         assets=self._assets)

    # ---- what is due ----

    def finished(self) -> str:
        """Why no limit allows another update, or nothing."""
        return triggers.finished(self._config, self.progress, schedule=self._parts.schedule,
                            seconds=self.elapsed())

    def asked_to_stop(self) -> str:
        """The signal that asks for the end, or nothing; the same in all processes."""
        return f"{self._stop.signal} received" if self._stop.reached(self.progress.step) else ""

    def validation_is_due(self, batch: Batch, *, last: bool) -> bool:
        """Whether to validate after the update of `batch`, with which the run maybe ends."""
        return self._validator is not None and triggers.validation(
            self._config, step=self.progress.step, batch=batch, last=last)

    def saving_is_due(self, batch: Batch) -> bool:
        """Whether to save after the update of `batch`, with which the run does not end."""
        return triggers.saving(self._config, step=self.progress.step, batch=batch,
                          validated=self.progress.validated)

    def elapsed(self) -> float:
        """Seconds of training, earlier runs included."""
        return self.progress.seconds + time.monotonic() - self._began
