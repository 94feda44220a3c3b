"""Whole conversions: a `.pt` as a checkpoint folder of ours, and such a folder as a `.pt`.

A folder made from a `.pt` remembers what the file said beyond the model
(`about/assets/fairseq.json`), so that the way back gives fairseq its own keys again.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checkpoints, models, tasks
from seqjax.config import CheckpointConfig, Config, ConfigError, to_plain
from seqjax.interop.fairseq import recipe as fairseq_recipe
from seqjax.interop.fairseq.export import save_fairseq
from seqjax.interop.fairseq.files import FairseqModel, read_model
from seqjax.interop.fairseq.keys import classes, types
from seqjax.interop.fairseq.names import USUAL
from seqjax.interop.fairseq.optimizer_state import updates, write_state
from seqjax.models.protocol import Params
from seqjax.models.tables import State
from seqjax.settings import resolve
from seqjax.tasks.entry import FairseqTask
from seqjax.tasks.protocol import Task
from seqjax.training.checkpoints import Checkpoints, read_state
from seqjax.training.optimizers import make_optimizer
from seqjax.training.schedules import make_schedule
from seqjax.training.state import new_state

MEMORY, ARRAYS = "fairseq.json", "fairseq.bin"
"""Assets with fairseq's own keys, and with the entries of its file that hold no parameter."""
_ARGS = "facts"
"""In `MEMORY`: fairseq's own arguments. A name on disk, in checkpoints that exist."""


def write_folder(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *,
    data: str | None = None, bpe: str | None = None, tokenizer: str | None = None,
    tokenizer_options: Mapping[str, Any] | None = None, verify: bool = True,
) -> pathlib.Path:
    """A work folder with one checkpoint, from a `.pt`: weights, dictionaries, tokenizers.

    The optimizer is fresh; `train --config.resume_from=model.pt` carries it over.

    Args:
      data, bpe, tokenizer, tokenizer_options, verify: see `read_model`.

    Returns:
      The checkpoint's folder.

    Raises:
      ConfigError: see `read_model`; or `target` holds checkpoints already.
    """
    if checkpoints.steps_in(pathlib.Path(target) / checkpoints.FOLDER):
        raise ConfigError(f"{target}: holds checkpoints already; name another folder")
    if os.path.isfile(target):
        raise ConfigError(f"{target}: is a file; name a folder")
    found = read_model(source, data=data, bpe=bpe, tokenizer=tokenizer,
                       tokenizer_options=tokenizer_options, verify=verify)
    raw = _training(found)
    if "train" in found.config:
        raw["train"] = raw.get("train", {}) | found.config["train"]
    config = resolve(found.config | raw | {k: found.config[k] for k in ("task", "model", "loss")})
    return save_folder(target, config, found.params, {**found.assets, **_memory(found)},
                       step=updates(found.checkpoint.extra))


def save_folder(
    target: str | os.PathLike[str], config: Config, params: Params, named: Mapping[str, bytes], *,
    step: int = 0,
) -> pathlib.Path:
    """A work folder with one checkpoint of a model that came from elsewhere; the optimizer is
    fresh.

    Args:
      named: vocabularies, tokenizers and what else a checkpoint keeps.
      step: updates that it was trained for.

    Returns:
      The checkpoint's folder.

    Raises:
      ConfigError: `target` holds checkpoints already, or is a file.
    """
    if checkpoints.steps_in(pathlib.Path(target) / checkpoints.FOLDER):
        raise ConfigError(f"{target}: holds checkpoints already; name another folder")
    if os.path.isfile(target):
        raise ConfigError(f"{target}: is a file; name a folder")
    state = new_state(jax.tree.map(jnp.asarray, params), make_optimizer(config.optimizer),
                      step=step)
    record = checkpoints.Record(step=step, data={"epoch": 1, "batch": 0})
    with Checkpoints(target, CheckpointConfig(asynchronous=False)) as store:
        store.save(state, record, config=to_plain(config), assets=dict(named))
    return checkpoints.find(target)


def _training(found: FairseqModel) -> dict[str, Any]:
    """How it was trained, as far as a configuration of ours can say it."""
    try:
        return fairseq_recipe.from_fairseq(
            found.checkpoint.fairseq, stored=found.checkpoint.config).raw
    except (ConfigError, ValueError, TypeError):
        return {}  # an optimizer or criterion that is not here: the model is usable all the same


def _memory(found: FairseqModel) -> dict[str, bytes]:
    """fairseq's keys, precisions and further entries, as files."""
    fairseq = found.checkpoint.fairseq
    kept = found.checkpoint.kept
    about = {_ARGS: fairseq.flat(), "dtypes": found.checkpoint.dtypes,
             "kept": {k: [v.dtype.name, *v.shape] for k, v in kept.items()}}
    return {MEMORY: json.dumps(about, default=str).encode(),
            ARRAYS: b"".join(np.ascontiguousarray(v).tobytes() for v in kept.values())}


def _kept(memory: Mapping[str, Any], content: bytes) -> State | None:
    """The entries that `_memory` wrote; None for a model that is not from a `.pt`."""
    found: State = {}
    at = 0
    for name, (dtype, *shape) in memory.get("kept", {}).items():
        array = np.frombuffer(
            content, jnp.dtype(dtype), count=math.prod(shape), offset=at).reshape(shape)
        found[name], at = array, at + array.nbytes
    return found or None


# ---- to fairseq ----


def write_file(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *,
    which: str = "best", optimizer_state: bool = False, verify: bool = True,
) -> None:
    """A `.pt` for fairseq from a checkpoint of ours.

    Args:
      which: of a work folder, its `best` or `last` checkpoint.
      optimizer_state: also the moments, the update count and the place in the data.
      verify: see `checkpoints.read_params`.

    Raises:
      ConfigError: a model or an optimizer that fairseq has not.
    """
    folder = checkpoints.find(source, which=which)
    params = checkpoints.read_params(folder, verify=verify)
    assets = checkpoints.read_assets(folder)
    config = resolve(checkpoints.read_config(folder))
    record = checkpoints.read_record(folder)
    state = None
    if optimizer_state:
        task = tasks.from_assets(config, assets)
        state = _optimizer_state(folder, config, task, verify=verify)
    save_file(target, config, params, assets, name=os.fspath(folder), record=record,
              optimizer_state=state)


def save_file(
    target: str | os.PathLike[str], config: Config, params: Params, assets: Mapping[str, bytes], *,
    name: str, record: checkpoints.Record, optimizer_state: dict[str, Any] | None = None,
) -> Task:
    """A `.pt` for fairseq from what a checkpoint holds.

    Args:
      assets: its vocabularies and what it remembers of the `.pt` that it came from.
      name: of the checkpoint, for messages.
      record: where it stands.
      optimizer_state: fairseq's `last_optimizer_state`.

    Returns:
      The model's task.

    Raises:
      ConfigError: a model that fairseq has not.
    """
    folder, task = name, tasks.from_assets(config, assets)
    if models.family(config.model.name).fairseq is None:
        raise ConfigError(f"{folder}: fairseq has no model {config.model.name!r}")
    entry = tasks.entry_of(config.task.name)
    if entry.fairseq is None:
        raise ConfigError(f"{folder}: fairseq has no task {config.task.name!r}")
    check_dictionaries(task, str(folder))
    memory = json.loads(assets[MEMORY]) if MEMORY in assets else {}
    extra: dict[str, Any] = {
        "extra_state": {
            "train_iterator": {"version": 2, "epoch": record.data["epoch"], "shuffle": True,
                               "iterations_in_epoch": record.data["batch"]},
            "val_loss": record.metric},
        "optimizer_history": [{
            "criterion_name": classes("criterion").get(config.loss.name, ""),
            "optimizer_name": classes("optimizer").get(config.optimizer.name, ""),
            "lr_scheduler_state": {"best": None}, "num_updates": record.step}],
    }
    if optimizer_state is not None:
        extra["last_optimizer_state"] = optimizer_state
    save_fairseq(
        target, params, config.model, **task.vocab_sizes,
        extra_args={**_extra_args(config, entry.fairseq), **memory.get(_ARGS, {})},
        kept=_kept(memory, assets.get(ARRAYS, b"")), dtypes=memory.get("dtypes"), extra=extra)
    return task


def check_dictionaries(task: Task, where: str) -> None:
    """Refuses a model whose vocabulary no dictionary of fairseq's can be.

    Raises:
      ConfigError: naming the special symbols' ids.
    """
    for dictionary in task.dictionaries:
        if not dictionary.vocabulary.is_fairseq:
            ids = ", ".join(map(str, dictionary.vocabulary.special_ids))
            raise ConfigError(
                f"{where}: cannot become a file of fairseq's: its {dictionary.side} vocabulary has "
                f"bos, pad, eos and unk at {ids}, where dictionaries of fairseq's have them at "
                "0, 1, 2, 3 as <s>, <pad>, </s>, <unk>")


def save_dictionaries(task: Task, folder: str) -> list[str]:
    """Writes the dictionaries of a model, which a `.pt` does not hold, where there are none; gives
    the paths of those that were written."""
    written = []
    for dictionary in task.dictionaries:
        path = os.path.join(folder, dictionary.name)
        if not os.path.exists(path):
            dictionary.vocabulary.save(path)
            written.append(path)
    return written


def _extra_args(config: Config, task: FairseqTask) -> dict[str, Any]:
    """What fairseq wants to know beside the model, in its own keys."""
    schedule = to_plain(config.schedule)
    schedule["warmup_steps"] = schedule["warmup_updates"]  # as tri_stage calls them
    schedule["total_num_update"] = schedule["total_num_update"] or config.train.max_update
    return {
        **_of("lr_scheduler", config.schedule.name, schedule),
        **_of("optimizer", config.optimizer.name, to_plain(config.optimizer)),
        **_of("criterion", config.loss.name, to_plain(config.loss)),
        **task.always, **_of("task", task.name, to_plain(config.task)),
        "task": task.name, "criterion": _criterion(config),
        "optimizer": config.optimizer.name, "lr_scheduler": config.schedule.name,
        "seed": config.seed, "lr": config.train.lr, "update_freq": config.train.update_freq,
        "clip_norm": config.train.clip_norm, "sentence_avg": config.train.sentence_avg,
        "max_update": config.train.max_update, "max_epoch": config.train.max_epoch,
        "max_tokens": config.batching.max_tokens, "batch_size": config.batching.max_sentences,
        # A direction that is not said is none: of "" a task of several pairs would take it for one.
        **{key: getattr(config.task, key) or (None if task.shared else "")
           for key in task.languages}}


def _criterion(config: Config) -> str:
    """fairseq's name of the loss. Of one that it has not, plain cross entropy's, with a warning:
    it builds one whenever it loads a model."""
    if config.loss.name in classes("criterion"):
        return config.loss.name
    warnings.warn(f"fairseq has no criterion {config.loss.name!r}: the file says "
                  f"{USUAL['criterion']}", stacklevel=2)
    return USUAL["criterion"]


def _of(group: str, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of our keys that fairseq's component has too; None where it goes by its default."""
    known = types(group, name)
    return {k: v for k, v in values.items() if k in known and v is not None}


def _optimizer_state(
    folder: pathlib.Path, config: Config, task: Task, *, verify: bool
) -> dict[str, Any]:
    model = models.build(config.model, **task.vocab_sizes, compute_dtype=jnp.float32)
    optimizer = make_optimizer(config.optimizer)
    shapes = jax.eval_shape(lambda: new_state(model.init(jax.random.key(0)), optimizer))
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), shapes)
    state = jax.device_get(read_state(folder, target, verify=verify))
    schedule = make_schedule(config.schedule, lr=config.train.lr,
                             max_update=config.train.max_update)
    epoch = checkpoints.read_record(folder).data["epoch"]
    return write_state(
        state.opt_state, config.model, optimizer=config.optimizer, **task.vocab_sizes,
        lr=float(schedule(int(state.step), epoch)))
