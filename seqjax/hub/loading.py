"""From a path to a model that is ready to use."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from seqjax import config as configuration
from seqjax import losses, models, tasks
from seqjax.config import Config, ConfigError
from seqjax.data import folder
from seqjax.hub import about
from seqjax.hub.language_model import LanguageModel
from seqjax.hub.translator import Translator
from seqjax.interop import fairseq_files
from seqjax.models import overrides
from seqjax.tasks.language_modeling import LanguageModelingTask
from seqjax.training import checkpoints, compilation


def resolve(raw: Mapping[str, Any]) -> Config:
    """The full configuration from sparse plain data, with every family known."""
    return configuration.resolve(
        raw, tasks=tasks.CONFIGS, models=models.CONFIGS, losses=losses.CONFIGS,
        archs=models.ARCHS,
    )


def load(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *,
    data: str | os.PathLike[str] | None = None, which: str = "best", dtype: str = "auto",
    bpe: str | None = None, tokenizer: str | None = None,
    lm: str | os.PathLike[str] | LanguageModel | None = None,
    model_overrides: Mapping[str, Any] | None = None,
    tokenizer_options: Mapping[str, Any] | None = None, quiet: bool = False,
) -> Any:
    """A trained model, ready to use: a `Translator`, or a `LanguageModel`. A line on stderr,
    its `describe()`, says what was loaded.

    Compiled programs are kept in the user's cache folder, as training does
    (`log.compilation_cache`), so that the next process starts quickly.

    Args:
      path: a work folder of `seqjax.train`, one checkpoint in it, or a fairseq `.pt`;
        several, as a list or joined by colons, make an ensemble.
      data: folder with the dictionaries of a `.pt` (default: its own folder, else the one
        that it was trained on). A checkpoint of ours has its own; they must be the same.
      which: of a work folder, its `best` or its `last` checkpoint.
      dtype: of matrix products: `float32`, `bfloat16`, or `auto` (float32 on a CPU).
      bpe, tokenizer: of a `.pt`: fairseq's names of its subword model and tokenizer, where
        it does not say them itself (`bpe="fastbpe", tokenizer="moses"`).
      lm: a language model with the same target vocabulary, loaded or where it is, whose
        log-probabilities times `lm_weight` searches add (fairseq's `--lm-path`).
      model_overrides: keys of `config.model` that are to be others than the model was trained
        with, by name: `{"decoder_layers_to_keep": "0,2,4"}` leaves layers out, of a model that
        was trained with `decoder_layerdrop`; `{"max_target_positions": 2048}` lets outputs be
        longer. Keys of training only are refused. Of an ensemble, for every member.
      tokenizer_options: of a `.pt`: fairseq's options of both, by name: `{"bpe_codes":
        "codes", "sentencepiece_model": "spm.model", "moses_no_escape": True}`.
      quiet: say nothing on stderr.

    Raises:
      seqjax.training.checkpoints.CheckpointError: there is no checkpoint at `path`.
      ConfigError: the members of an ensemble have different vocabularies; a model, task
        or tokenizer that seqjax does not have; no dictionaries, or those of another model;
        an `lm` that is none, or whose vocabulary is another; `model_overrides` that the
        model does not have, or that do not fit its weights.
    """
    paths = _paths(path)
    if (bpe or tokenizer or tokenizer_options) and not any(map(fairseq_files.is_pt, paths)):
        raise ConfigError("bpe, tokenizer: these are for fairseq's .pt files, and so are their "
                          "options; a folder of seqjax holds its own tokenizer")
    changes = dict(model_overrides or {})
    members = [
        _load_one(each, data=data, which=which, dtype=dtype, bpe=bpe, tokenizer=tokenizer,
                  tokenizer_options=tokenizer_options or {}, changes=changes) for each in paths]
    task, config = members[0][0], members[0][1]
    compilation.enable_cache(config.log.compilation_cache)
    for (other, *_), name in zip(members[1:], paths[1:], strict=True):
        if other.target_vocab != task.target_vocab or other.source_vocab != task.source_vocab:
            raise ConfigError(f"{name}: its vocabularies are not those of {paths[0]}")
    kind = LanguageModel if isinstance(task, LanguageModelingTask) else Translator
    model = kind(
        task=task, config=config, models=tuple(member[2] for member in members),
        params=tuple(member[3] for member in members),
        origins=tuple(member[4] for member in members),
        identity=" ".join(_identity(p, which) for p in paths) + (f" {changes}" if changes else ""),
    )
    if lm is not None:
        if not isinstance(lm, LanguageModel):
            lm = _load_lm(os.fspath(lm), data=data, which=which, dtype=dtype)
        model = _fused(model, lm, name=paths[0])
    if not quiet:
        print(model.describe(), file=sys.stderr)
    return model


def _load_lm(path: str, *, data: Any, which: str, dtype: str) -> Any:
    """The model of `lm`; a `.pt` finds its dictionary in `data` if there is one for it."""
    place = None
    if data is not None and fairseq_files.is_pt(path):
        place = data if os.path.isfile(folder.dict_path(os.fspath(data), None)) else None
    return load(path, data=place, which=which, dtype=dtype, quiet=True)


def _fused(model: Any, lm: Any, *, name: str) -> Translator:
    """A translator that searches with a language model."""
    about = getattr(lm, "identity", lm)
    if not isinstance(model, Translator):
        raise ConfigError(f"{name}: is a language model itself, and takes no lm: several of "
                          "them, joined by colons, make an ensemble")
    if not isinstance(lm, LanguageModel) or len(lm.models) != 1:
        raise ConfigError(f"lm: {about} is not one language model")
    ours, theirs = model.task.target_vocab, lm.task.target_vocab
    if ours != theirs:
        raise ConfigError(
            f"lm: the vocabulary of {about} ({len(theirs)} entries) is not the target vocabulary "
            f"of {name} ({len(ours)} entries); train it on text that was preprocessed with "
            "that model's dictionary (--srcdict)")
    return dataclasses.replace(model, lm=lm, identity=f"{model.identity} lm={about}")


def _paths(path: Any) -> list[str]:
    if isinstance(path, (list, tuple)):
        return [os.fspath(p) for p in path]
    path = os.fspath(path)
    return [path] if os.path.exists(path) else path.split(os.pathsep)


def _identity(path: str, which: str) -> str:
    """Which checkpoint exactly this is."""
    if fairseq_files.is_pt(path):
        about = os.stat(path)
        return f"{os.path.realpath(path)}@{about.st_size}@{about.st_mtime_ns}"
    return str(checkpoints.find(path, which=which).resolve())


def _load_one(
    path: str, *, data: Any, which: str, dtype: str, bpe: str | None, tokenizer: str | None,
    tokenizer_options: Mapping[str, Any], changes: Mapping[str, Any],
) -> tuple[Any, Config, Any, Any, about.Origin]:
    if fairseq_files.is_pt(path):
        found = fairseq_files.portable(
            path, data=data, bpe=bpe, tokenizer=tokenizer, overrides=changes,
            tokenizer_options=tokenizer_options)
        config, assets, params = resolve(found.config), found.assets, found.params
        origin = about.origin_of_pt(path, found.checkpoint)
    else:
        raw, assets, params = checkpoints.load_for_inference(path, which=which)
        config, params = _overridden(resolve(raw), params, changes)
        origin = about.origin_of_folder(path, which=which)
    task = tasks.from_assets(config, assets)
    if data is not None and not fairseq_files.is_pt(path):
        task.check_folder(os.fspath(data))
    model = models.build(
        config.model, **task.vocab_sizes, compute_dtype=models.compute_dtype(dtype)
    )
    if changes:
        checkpoints.check_shapes(params, jax.eval_shape(model.init, jax.random.key(0)),
                                 f"{path} under model_overrides")
    return task, config, model, jax.tree.map(jnp.asarray, params), origin


def _overridden(config: Config, params: Any, changes: Mapping[str, Any]) -> tuple[Config, Any]:
    """A model of ours with keys changed and layers left out."""
    model, kept = overrides.override(config.model, changes)
    model = overrides.with_layers(model, {side: len(layers) for side, layers in kept.items()})
    return dataclasses.replace(config, model=model), overrides.prune(params, kept)
