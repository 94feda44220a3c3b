"""Training from a resolved configuration to checkpoints, top to bottom.

Whoever wants to know what a run does reads `train`. The pieces it calls know nothing of
each other: plans and batches (`data`), the step (`train_step`), where arrays live
(`sharding`), what is saved (`checkpoints`), what is said (`progress`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import math
import platform
import time
from collections.abc import Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from seqjax import locking, models, tasks
from seqjax.config import Config, ConfigError, to_plain
from seqjax.console import compiling
from seqjax.data.pipeline import Batch, DataState, open_batches
from seqjax.data.planning import make_plan
from seqjax.losses.base import LossOutput
from seqjax.training import (
    beginning,
    checks,
    compilation,
    divergence,
    due,
    ending,
    resuming,
    sharding,
    starting_weights,
)
from seqjax.training import checkpoints as ck
from seqjax.training.metrics import MAXIMIZE, Meters
from seqjax.training.optimizers import make_optimizer
from seqjax.training.preemption import StopRequest
from seqjax.training.progress import Reporter, duration
from seqjax.training.schedules import make_schedule
from seqjax.training.state import TrainState, new_state
from seqjax.training.train_step import make_train_step, sentence_average
from seqjax.training.validation import Validator, batch_spec


class TrainingError(ConfigError):
    """Training cannot go on; the message says why and what to try."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """Where a run begins when it is neither fresh nor from one of our checkpoints."""

    params: Any
    """Parameters, host arrays, shaped as the model's."""
    opt_state: Any = None
    """The optimizer's state (None: fresh)."""
    step: int = 0
    data: DataState = DataState()
    composition_epoch: int = 1
    """See `planning.make_plan`."""
    trained: starting_weights.Trained | None = None
    """Its dictionaries, where they are known."""
    seconds: float = 0.0
    """Training time before."""


@dataclasses.dataclass(kw_only=True)
class Course:
    """What the loop remembers between updates; `Record` is its form in a checkpoint."""

    step: int = 0
    """Updates dispatched, less those known to have been skipped."""
    data: DataState = DataState()
    best: float | None = None
    bad_validations: int = 0
    seconds: float = 0.0
    """Training time of earlier runs."""
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    validated: int = -1
    """Update of the last validation."""
    metric: float | None = None
    """Its result."""


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
      TrainingError: the gradient stays non-finite.
    """
    checks.check(config)
    beginning.check(config)
    ck.check_workdir(workdir)
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
    began = time.monotonic()
    cache = compilation.enable_cache(config.log.compilation_cache)
    programs = compilation.CompilationCounter()

    # -- What is learned, from what, on which devices ---------------------------------
    mesh = sharding.make_mesh(config.mesh)
    task = tasks.setup(config)
    config = dataclasses.replace(config, task=task.config)  # languages are known now
    starting_weights.check_joined(config, task)
    dtype = models.compute_dtype(config.train.compute_dtype)
    model = models.build(config.model, **task.vocab_sizes, compute_dtype=dtype)
    optimizer = make_optimizer(config.optimizer)
    schedule = make_schedule(config.schedule, lr=config.train.lr,
                             max_update=config.train.max_update)
    dataset, limits = task.train_dataset(), task.max_positions(model)
    plan = make_plan(
        dataset.lengths, config.batching, seed=config.seed,
        update_freq=config.train.update_freq, row_multiple=sharding.rows_multiple(mesh),
        max_source_positions=limits[0], max_target_positions=limits[1],
        composition_epoch=start.composition_epoch if start else 1,
    )

    def task_loss(params: Any, batch: Any, rng: Any) -> LossOutput:
        return task.loss(model, params, batch, rng)

    loss_fn = sentence_average(task_loss) if config.train.sentence_avg else task_loss
    validator = None
    if config.valid.enabled:
        validator = Validator(config, task, model, mesh, loss_fn, max_positions=limits)
    step_fn = make_train_step(loss_fn, optimizer, schedule, seed=config.seed,
                              clip_norm=config.train.clip_norm)

    with contextlib.ExitStack() as stack:
        if jax.process_index() == 0:
            stack.enter_context(compiling.shown(out.compilation()))
        # -- The state: continued, or fresh and born where it will live ---------------
        saved = stack.enter_context(ck.Checkpoints(workdir, config.checkpoint))
        key = jax.random.key(config.seed, impl="threefry2x32")

        def initial_state() -> TrainState:
            return new_state(model.init(key), optimizer)

        shapes = jax.eval_shape(initial_state)
        ck.check_workdir(workdir, need_bytes=ck.state_bytes(shapes))
        placed = sharding.shardings(shapes, mesh)
        abstract = jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, placed
        )
        if validator:
            validator.check_metric(abstract.params)
        course, state, origin = _begin(
            config, saved, abstract, start, task,
            fresh=lambda: jax.jit(initial_state, out_shardings=placed)(),
            with_params=lambda params: _with_params(params, optimizer, abstract),
        )
        out.begin(resumed_at=course.step)
        plain = to_plain(config)
        _write_config(workdir, plain)
        for line in (
            origin,
            f"{config.model.name}: {sum(x.size for x in jax.tree.leaves(shapes.params)):,} "
            f"parameters, {dtype.name} compute, mesh "
            + " x ".join(f"{k}={v}" for k, v in mesh.shape.items())
            + f" on {jax.devices()[0].device_kind}",
            f"train: {plan.describe()}",
            *([f"{config.valid.subset}: {validator.plan.describe()}"] if validator else []),
        ):
            out.say(line)
        why = _finished(config, course, schedule, course.seconds)
        if why:
            missed = validator is not None and course.validated != course.step
            out.say(f"nothing to do: the run ended at update {course.step} ({why})"
                    + (", before its last validation was done" if missed else "")
                    + "; raise that limit to train on")
            out.say(ending.best(config, workdir))
            return None
        for note in checks.notes(config, schedule):
            out.say(f"note: {note}")

        # -- Batches (and TensorFlow) get ready while all shapes are compiled ------------
        shard = (jax.process_index(), jax.process_count())
        opener = stack.enter_context(ThreadPoolExecutor(1))
        opening = opener.submit(
            open_batches, plan, dataset, batching=config.batching, state=course.data,
            shard=shard, transfer=lambda arrays: sharding.place(
                arrays, mesh, rows_axis=1,
                rows=next(iter(arrays.values())).shape[1] * shard[1]),
        )
        stack.callback(lambda: opening.result().close() if not opening.exception() else None)
        jitted = jax.jit(step_fn, donate_argnums=0, out_shardings=(placed, None))
        packed = plan.packed
        number = jax.ShapeDtypeStruct((), np.int32, sharding=sharding.replicated(mesh))
        jobs: dict[Hashable, compilation.Job] = {}
        for groups, shape in plan.shapes:
            spec = batch_spec(dataset, shape, mesh, packed=packed, groups=groups)
            jobs[groups, shape] = compilation.Job(
                function=jitted, arguments=(abstract, spec, number), size=2**40 + shape.tokens)
        if validator:
            jobs |= validator.jobs(abstract.params)
        compiled = _compile(jobs, out, config, cache)
        if validator:
            validator.take(compiled)

        # -- Updates ----------------------------------------------------------------------
        batches = opening.result()
        interval, epoch_meters = Meters(), Meters()
        pending: tuple[Any, Batch] | None = None
        last_line = time.monotonic()
        watch = divergence.Watch(vocab_size=task.vocab_sizes["target_vocab_size"])

        def say_if(text: str | None) -> None:
            if text:
                out.say(text)
        maximize = config.valid.maximize
        if maximize is None:
            maximize = config.valid.metric in MAXIMIZE

        def elapsed() -> float:
            return course.seconds + time.monotonic() - began

        def collect() -> None:
            """Takes in the metrics of the update before the one just dispatched."""
            nonlocal pending, last_line
            if pending is None:
                return
            (metrics, batch), pending = pending, None
            sums = jax.device_get(metrics)
            skipped = int(sums["skipped"][0])
            if skipped:
                course.step -= 1
                _check_finite(skipped, config, batch, sums, out)
                return
            for meters in (interval, epoch_meters):
                meters.add(sums, padding=batch.padding)
            done = int(sums["num_updates"][0])
            late = time.monotonic() - last_line > config.log.interval_seconds > 0
            line = done % config.log.interval_updates == 0 or (late and not out.live)
            if line or (out.live and time.monotonic() - last_line > 0.2):
                values = interval.results() | {"wall": elapsed()}
                values["epoch"] = batch.epoch
                left = _updates_left(config, done, batch)
                head = (f"epoch {batch.epoch:03d}: {batch.step + 1:6d} / {batch.updates} "
                        f"eta={duration(left / max(values['ups'], 1e-9))}")
                out.train(head, values, line=line)
                if line:
                    say_if(watch("training", values))
                    interval.reset()
                last_line = time.monotonic()

        def validate(batch: Batch) -> None:
            assert validator is not None
            collect()
            paused = time.monotonic()
            found = stop.unless_asked(functools.partial(validator, state.params))
            if found is None:
                out.say(f"{stop.signal} received: the validation is left off")
                return
            values, samples = found
            course.metric = round(values[config.valid.metric], 3)
            course.validated = course.step
            better = _better(course.metric, course.best, maximize)
            course.best = course.metric if better else course.best
            course.bad_validations = 0 if better else course.bad_validations + 1
            values["num_updates"] = course.step
            values[f"best_{config.valid.metric}"] = math.nan if course.best is None else course.best
            course.history.append({"epoch": batch.epoch, **values})
            out.summary("valid", f"epoch {batch.epoch:03d} | valid on {config.valid.subset!r}",
                        values)
            say_if(watch("valid", values))
            for source, translation, reference in samples:
                out.say(f"  source      {source}\n  translation {translation}\n"
                        f"  reference   {reference}")
            for meters in (interval, epoch_meters):
                meters.pause(time.monotonic() - paused)

        def save() -> None:
            collect()
            here = course.validated == course.step
            record = ck.Record(
                step=course.step, data=dataclasses.asdict(course.data),
                metric_name=config.valid.metric, metric=course.metric if here else None,
                maximize=maximize, best=course.best, bad_validations=course.bad_validations,
                seconds=elapsed(), history=course.history, versions=_versions(),
            )
            saved.save(state, record, config=plain, assets=task.assets())

        stop = stack.enter_context(StopRequest())
        out.say(f"{compilation.seconds_since(began)} to the first update; "
                f"{programs.count} programs compiled")
        while not why:
            batch = next(batches)
            program = compiled.get((batch.groups, batch.shape))
            if program is None:
                out.say(f"compiling for another shape: {batch.groups} x {tuple(batch.shape)}")
                spec = batch_spec(dataset, batch.shape, mesh, packed=packed, groups=batch.groups)
                paused = time.monotonic()
                program = jitted.lower(abstract, spec, number).compile()
                for meters in (interval, epoch_meters):
                    meters.pause(time.monotonic() - paused)
                compiled[batch.groups, batch.shape] = program
            with _out_of_memory_explained(config):
                state, metrics = program(state, batch.arrays, np.int32(batch.epoch))
            collect()
            pending = (metrics, batch)
            course.step, course.data = course.step + 1, batch.state
            saved.check()
            if lock is not None:
                lock.check()

            if course.step >= config.train.max_update > 0 or batch.last:
                collect()  # an update may turn out to have been skipped
            if batch.last:
                values = epoch_meters.results() | {"wall": elapsed(), "epoch": batch.epoch}
                out.summary("train", f"epoch {batch.epoch:03d} | train", values)
                say_if(watch("training", values))
                epoch_meters.reset()
            why = _finished(config, course, schedule, elapsed())
            asked = stop.reached(course.step)
            if validator and not asked and due.validation(
                    config, step=course.step, batch=batch, last=bool(why)):
                with _out_of_memory_explained(config):
                    validate(batch)
                why = why or _finished(config, course, schedule, elapsed())
                asked = stop.reached(course.step)
            if asked:
                why = f"{stop.signal} received"
            if why or due.saving(config, step=course.step, batch=batch,
                                 validated=course.validated == course.step):
                save()
        collect()
        saved.wait()
        out.say(f"stopped at update {course.step}: {why} ({duration(elapsed())} of training, "
                f"{programs.count} programs compiled)")
        out.say(ending.best(config, workdir))
        if stop.number is not None:
            out.say(ending.go_on(workdir, command=command, step=course.step))
        return stop.number


def _begin(
    config: Config, saved: ck.Checkpoints, abstract: TrainState, start: Start | None,
    task: Any, *, fresh: Any, with_params: Any,
) -> tuple[Course, TrainState, str]:
    """The first state, what is remembered with it, and a line on where it comes from."""
    folder, named, reset = saved.latest(), False, ()
    if folder is None and start is None and config.resume_from:
        folder, named = resuming.named(_ours(config.resume_from, "resume_from"))
        reset = config.resume_reset
    if folder is not None:
        found = resuming.read(folder, config, abstract, task, store=saved, fall_back=not named,
                              new_state=with_params if "optimizer" in reset else None)
        record = found.record
        course = Course(
            step=record.step, data=DataState(**record.data), best=record.best,
            bad_validations=record.bad_validations, seconds=record.seconds,
            history=list(record.history),
            validated=record.step if record.metric is not None else -1, metric=record.metric,
        )
        if record.metric_name != config.valid.metric:  # of another metric nothing is known
            course = dataclasses.replace(course, best=None, bad_validations=0, validated=-1)
        if "optimizer" in reset:  # updates count from 0 again, and with them all that is of them
            course = Course(data=course.data, seconds=course.seconds)
        if "dataloader" in reset:
            course.data = DataState()
        left = f" without its {' and '.join(reset)}" if reset else ""
        return course, found.state, "\n".join(
            [f"continuing {found.folder}{left} at update {course.step}", *found.lines])
    if start is not None:
        params, lines = starting_weights.of_start(start, config, task)
        state = with_params(params)
        if start.opt_state is not None:
            opt_state = _placed(start.opt_state, abstract.opt_state)
            step = jax.device_put(np.int32(start.step), abstract.step.sharding)
            state = state.replace(opt_state=opt_state, step=step)
        return (Course(step=start.step, data=start.data, seconds=start.seconds), state,
                "\n".join([f"starting from {config.resume_from or config.init_from} at update "
                           f"{start.step}", *lines]))
    if config.init_from:
        folder = ck.find(_ours(config.init_from, "init_from"))
        params, lines = starting_weights.fitted(
            beginning.weights(folder, config), starting_weights.of_folder(folder), config, task)
        return (Course(), with_params(params),
                "\n".join([f"starting from weights of {folder}", *lines]))
    return Course(), fresh(), "starting afresh"


def _ours(path: str, key: str) -> str:
    if path.endswith(".pt"):
        raise ConfigError(f"config.{key}: {path} is a fairseq checkpoint; this way of starting "
                          "takes folders of seqjax (python -m seqjax.convert makes one)")
    return path


def _with_params(params: Any, optimizer: Any, abstract: TrainState) -> TrainState:
    """A state of given parameters with a fresh optimizer, placed as `abstract` is."""
    ck.check_shapes(params, abstract.params, "the weights to start from")
    placed = _placed(params, abstract.params)
    where = jax.tree.map(lambda a: a.sharding, abstract)
    return jax.jit(lambda p: new_state(p, optimizer), out_shardings=where)(placed)


def _placed(tree: Any, abstract: Any) -> Any:
    return jax.tree.map(
        lambda x, a: jax.device_put(np.asarray(x, a.dtype), a.sharding), tree, abstract)


def _compile(
    jobs: dict[Hashable, compilation.Job], out: Reporter, config: Config, cache: str | None
) -> dict[Hashable, Any]:
    """All programs, with progress; the largest shape's memory is checked first."""
    began, checked = time.monotonic(), False
    programs = compilation.CompilationCounter()

    def done(key: Any, program: Any, left: int) -> None:
        nonlocal checked
        if key[0] != "valid" and not checked and key[1] == largest:
            checked = True
            memory = compilation.memory_of(program)
            if memory is not None:
                out.say(f"largest update ({key[0]} x {tuple(key[1])}): {memory}")
                compilation.check_memory(memory, what="The largest update",
                                         max_tokens=config.batching.max_tokens)

    out.say(f"compiling {len(jobs)} shapes ...")
    largest = max((key[1] for key in jobs if key[0] != "valid"), key=lambda s: s.tokens)  # type: ignore[index]
    with _out_of_memory_explained(config):
        compiled = compilation.compile_all(jobs, conclude=False, on_done=done)
    where = f"{programs.cached} of them from {cache}" if cache else "no cache"
    out.say(f"compiled {len(jobs)} shapes in {compilation.seconds_since(began)} ({where})")
    return compiled


def _better(value: float, best: float | None, maximize: bool) -> bool:
    if math.isnan(value):
        return False
    return best is None or (value > best if maximize else value < best)


def _finished(config: Config, course: Course, schedule: Any, seconds: float) -> str:
    """Why the run is over, or nothing."""
    limits = config.train
    if 0 < limits.max_update <= course.step:
        return f"train.max_update={limits.max_update}"
    if 0 < limits.max_epoch < course.data.epoch:
        return f"train.max_epoch={limits.max_epoch}"
    if _agreed(0 < limits.stop_time_hours <= seconds / 3600, course.step):
        return f"train.stop_time_hours={limits.stop_time_hours}"
    if 0 < config.valid.patience <= course.bad_validations:
        return f"no better {config.valid.metric} in {course.bad_validations} validations"
    if limits.stop_min_lr >= 0 and course.step > 0 and course.data.batch == 0:  # between epochs
        lr = float(schedule(course.step, course.data.epoch))
        if lr <= limits.stop_min_lr:
            return f"learning rate {lr:.3g} <= train.stop_min_lr={limits.stop_min_lr}"
    return ""


def _agreed(flag: bool, step: int) -> bool:
    """The first process's answer, for all (asked at every 100th update only)."""
    if jax.process_count() == 1:
        return flag
    if step % 100:
        return False
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(np.int32(flag)))


def _updates_left(config: Config, done: int, batch: Batch) -> float:
    limits = []
    if config.train.max_update:
        limits.append(config.train.max_update - done)
    if config.train.max_epoch:
        epochs = config.train.max_epoch - batch.epoch
        limits.append(epochs * batch.updates + batch.updates - batch.step - 1)
    return min(limits, default=math.inf)


def _check_finite(skipped: int, config: Config, batch: Batch, sums: Any, out: Reporter) -> None:
    ids = batch.ids[batch.ids >= 0].tolist()
    few = f"{ids[:16]}" + (f" and {len(ids) - 16} more" if len(ids) > 16 else "")
    text = (f"epoch {batch.epoch}, update {batch.step + 1} of it: the gradient is not finite "
            f"(norm {float(sums['gnorm'][0])}); the update was skipped. Training sentences {few}")
    if skipped > config.train.nan_patience:
        raise TrainingError(
            f"{text}\n{skipped} in a row is more than train.nan_patience="
            f"{config.train.nan_patience}: lower train.lr, set train.clip_norm, or look at these "
            "sentences; the last checkpoint is from before"
        )
    out.say(f"warning: {text}")


@contextlib.contextmanager
def _out_of_memory_explained(config: Config) -> Iterator[None]:
    try:
        yield
    except jax.errors.JaxRuntimeError as e:
        if "RESOURCE_EXHAUSTED" not in str(e):
            raise
        first = str(e).splitlines()[0][:300]
        raise TrainingError(
            f"the device is out of memory ({first}); try a smaller config.batching.max_tokens "
            f"(it is {config.batching.max_tokens}) with a larger config.train.update_freq, "
            "config.model.remat=dots, or config.mesh.fsdp"
        ) from e


def _write_config(workdir: str, plain: dict[str, Any]) -> None:
    if jax.process_index() == 0:
        with open(f"{workdir}/config.json", "w") as f:
            f.write(json.dumps(plain, indent=1, ensure_ascii=False) + "\n")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "backend": jax.default_backend()}
    for package in ("seqjax", "jax", "flax", "orbax-checkpoint"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
