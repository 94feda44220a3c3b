"""From a path to a model that is ready to use."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from seqjax import checkpoints, models, tasks
from seqjax.config import Config, ConfigError, import_object
from seqjax.console import compiling
from seqjax.data import folder
from seqjax.data.dictionaries import first_difference
from seqjax.hub import about, arguments
from seqjax.hub.loaded import Loaded
from seqjax.interop.fairseq import files as fairseq_files
from seqjax.interop.huggingface import places as hf_places
from seqjax.interop.huggingface.model import read_model as read_huggingface
from seqjax.models import overrides
from seqjax.models.protocol import Model, Params
from seqjax.settings import resolve
from seqjax.tasks.protocol import Task, check_model
from seqjax.training import compilation


def load(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *,
    data: str | os.PathLike[str] | None = None, which: str = "best", dtype: str = "auto",
    bpe: str | None = None, tokenizer: str | None = None,
    lm: str | os.PathLike[str] | Loaded | None = None,
    model_overrides: Mapping[str, Any] | None = None,
    tokenizer_options: Mapping[str, Any] | None = None,
    task_overrides: Mapping[str, Any] | None = None, verify: bool = True, quiet: bool = False,
) -> Any:
    """A trained model, ready to use: what its task's entry names, a `Translator`, a
    `LanguageModel`, an `Encoder`. A line on stderr, its `describe()`, says what was loaded, and
    another that programs are compiled (`seqjax.console.compiling.hide()`); they are cached.

    Args:
      path: a work folder or a checkpoint in it, fairseq's `.pt` or the folder of its `model.pt`, a
        folder of Hugging Face's, or `hf:org/name[@revision]`, which huggingface_hub fetches or has
        in its cache; several, as a list or joined by colons, make an ensemble.
      data: folder with the dictionaries of a `.pt` (default: its own folder, else the one
        that it was trained on). A checkpoint of ours has its own; they must be the same.
      which: of a work folder, its `best` or its `last` checkpoint.
      dtype: of matrix products: `float32`, `bfloat16`, or `auto` (float32 on a CPU).
      bpe, tokenizer: of a `.pt`: fairseq's names of its subword model and tokenizer, where
        it does not say them itself (`bpe="fastbpe", tokenizer="moses"`).
      lm: a language model with the same target vocabulary, loaded or where it is, whose
        log-probabilities times `lm_weight` searches add (fairseq's `--lm-path`).
      model_overrides: keys of `config.model` that differ from the trained model's, by name:
        `{"decoder_layers_to_keep": "0,2,4"}` leaves layers out, `{"max_target_positions": 2048}`
        lets outputs be longer. Keys of training only are refused. Of an ensemble, for all.
      tokenizer_options: of a `.pt`: fairseq's options of both, by name: `{"bpe_codes": "codes"}`.
      task_overrides: of a `.pt`: keys of its task that it says otherwise: `{"langs": "en,de"}`.
      quiet: say nothing on stderr.
      verify: compare everything that is read with the checkpoint's checksums, and refuse
        weights that are not finite.

    Raises:
      TypeError: a path or folder that is no path.
      seqjax.checkpoints.CheckpointError: no checkpoint at `path`, or a damaged one.
      ConfigError: members of an ensemble with different vocabularies; a model, task or
        tokenizer that is not here; no dictionaries, or those of another model; an `lm` that is
        none, or of another vocabulary; `model_overrides` that do not fit.
    """
    paths = [hf_places.resolve(one) for one in arguments.paths(path)]
    arguments.choice(which, ("best", "last"), name="which")
    arguments.choice(dtype, ("auto", "float32", "bfloat16"), name="dtype")
    data = None if data is None else arguments.path(data, name="data")
    _check_options(paths, which=which, model_overrides=model_overrides,
                   of_pt=(bpe, tokenizer, tokenizer_options, task_overrides))
    if not quiet:
        compiling.show()
    reading: dict[str, Any] = {"data": data, "which": which, "dtype": dtype, "verify": verify}
    model = _ensemble(paths, bpe=bpe, tokenizer=tokenizer, changes=dict(model_overrides or {}),
                      tokenizer_options=tokenizer_options or {},
                      task_overrides=task_overrides or {}, **reading)
    if lm is not None:
        model = model.fused(lm if isinstance(lm, Loaded) else _load_lm(
            arguments.path(lm, name="lm"), **reading))
    if not quiet:
        print(model.describe(), file=sys.stderr)
    return model


def _check_options(
    paths: Sequence[str], *, which: str, model_overrides: object, of_pt: Sequence[Any]
) -> None:
    """Refuses options that none of the paths can honour.

    Args:
      of_pt: options that are for fairseq's files only.
    """
    if model_overrides is not None and not isinstance(model_overrides, Mapping):
        raise ConfigError(f"model_overrides: got {model_overrides!r}; give a dict of keys of the "
                          "model and their values")
    if any(of_pt) and not any(map(fairseq_files.is_pt, paths)):
        raise ConfigError("bpe, tokenizer: these are for fairseq's .pt files, and so are their "
                          "options and task_overrides; a folder of seqjax holds its own tokenizer "
                          "and task")
    if which != "best" and all(map(_is_one, paths)):
        raise ConfigError(f"which: {which!r}, but {paths[0]} is one checkpoint")


def _ensemble(
    paths: Sequence[str], *, which: str, changes: Mapping[str, Any], **options: Any
) -> Loaded:
    """The model of one path, or of several.

    Args:
      **options: what `_load_one` takes beside these.
    """
    members = [_load_one(each, which=which, changes=changes, **options) for each in paths]
    task, config = members[0][0], members[0][1]
    compilation.enable_cache(config.log.compilation_cache)
    for (other, *_), name in zip(members[1:], paths[1:], strict=True):
        _check_ensemble(task, other, first=paths[0], name=name)
    facade = import_object(tasks.entry_of(config.task.name).facade, "facade")
    return facade(
        task=task, config=config, models=tuple(member[2] for member in members),
        params=tuple(member[3] for member in members), assets=members[0][5],
        origins=tuple(member[4] for member in members),
        identity=" ".join(_identity(p, which) for p in paths) + (f" {changes}" if changes else ""),
    )


def _check_ensemble(task: Task, other: Task, *, first: str, name: str) -> None:
    """Refuses a member with other dictionaries than the first one's."""
    if len(task.dictionaries) != len(other.dictionaries):
        raise ConfigError(f"{name}: is of another task than {first}")
    for there, here in zip(task.dictionaries, other.dictionaries, strict=True):
        difference = first_difference(there.symbols, here.symbols, names=("there", "in this"))
        if difference is not None:
            raise ConfigError(f"{name}: its vocabularies are not those of {first}: in the "
                              f"{there.side} dictionary {difference}")


def _is_one(path: str) -> bool:
    """Whether it is one checkpoint of another toolkit, where a folder of ours may hold several."""
    return fairseq_files.is_pt(path) or hf_places.is_folder(path)


def _load_lm(path: str, *, data: str | None, which: str, dtype: str, verify: bool) -> Loaded:
    """The model of `lm`; a `.pt` finds its dictionary in `data` if there is one for it."""
    place = None
    if data is not None and fairseq_files.is_pt(path):
        place = data if os.path.isfile(folder.dict_path(os.fspath(data), None)) else None
    which = "best" if _is_one(path) else which
    return load(path, data=place, which=which, dtype=dtype, verify=verify, quiet=True)


def _identity(path: str, which: str) -> str:
    """Which checkpoint exactly this is."""
    if fairseq_files.is_pt(path):
        about = os.stat(path)
        return f"{os.path.realpath(path)}@{about.st_size}@{about.st_mtime_ns}"
    if hf_places.is_folder(path):
        return hf_places.identity(path)
    return str(checkpoints.find(path, which=which).resolve())


def _load_one(
    path: str, *, data: str | None, which: str, dtype: str, bpe: str | None, tokenizer: str | None,
    tokenizer_options: Mapping[str, Any], task_overrides: Mapping[str, Any],
    changes: Mapping[str, Any], verify: bool,
) -> tuple[Task, Config, Model, Params, about.Origin, Mapping[str, bytes]]:
    if fairseq_files.is_pt(path):
        found = fairseq_files.read_model(
            path, data=data, bpe=bpe, tokenizer=tokenizer, overrides=changes,
            tokenizer_options=tokenizer_options, task_overrides=task_overrides, verify=verify)
        config, assets, params = resolve(found.config), found.assets, found.params
        origin = about.origin_of_pt(path, found.checkpoint)
    elif hf_places.is_folder(path):
        found = read_huggingface(path, overrides=changes, verify=verify)
        config, assets, params = resolve(found.config), found.assets, found.params
        origin = about.Origin(path=path, update=None, chosen="a folder of Hugging Face's")
    else:
        raw, assets, params = checkpoints.load_for_inference(path, which=which, verify=verify)
        config, params = _overridden(resolve(raw), params, changes)
        origin = about.origin_of_folder(path, which=which)
    try:
        task = tasks.from_assets(config, assets)
    except KeyError as error:
        raise checkpoints.CheckpointError(
            f"{path}: damaged: about/assets/{error.args[0]} is missing") from None
    if data is not None and not fairseq_files.is_pt(path):
        try:
            task.check_folder(os.fspath(data))
        except ConfigError as error:  # of an ensemble, which member does not fit
            raise type(error)(f"{path}: {error}") from None
    model = models.build(
        config.model, **task.vocab_sizes, compute_dtype=models.compute_dtype(dtype)
    )
    check_model(task, model)
    if changes:
        checkpoints.check_shapes(params, jax.eval_shape(model.init, jax.random.key(0)),
                                 f"{path} under model_overrides")
    return task, config, model, jax.tree.map(jnp.asarray, params), origin, assets


def _overridden(
    config: Config, params: Params, changes: Mapping[str, Any]
) -> tuple[Config, Params]:
    """A model of ours with keys changed and layers left out."""
    model, kept = overrides.override(config.model, changes)
    model = overrides.with_layers(model, {side: len(layers) for side, layers in kept.items()})
    return dataclasses.replace(config, model=model), overrides.prune(params, kept)
