"""A model of ours, with its vocabulary and tokenizer, as a folder that transformers loads."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import shutil
from collections.abc import Mapping
from typing import Any, cast

from seqjax import tasks
from seqjax.config import Config, ConfigError, ModelSection
from seqjax.interop.huggingface import (
    files,
    generation,
    speech,
    symbols,
    tokenizer_files,
    waveforms,
)
from seqjax.interop.huggingface.model import GENERATION_MEMORY, remembered
from seqjax.interop.huggingface.weights import Kind, choose, to_state
from seqjax.interop.reading import Whole
from seqjax.models.overrides import resolved
from seqjax.models.parts.heads_config import CLASS
from seqjax.tasks.protocol import Task, TextTask, class_names

_WRITING = ("encoder-decoder", "speech")
"""Kinds of models that read one thing and write another."""
SHARD = 5 << 30
"""Bytes of a file of weights at most, as transformers has it."""


def write_folder(
    whole: Whole, target: str | os.PathLike[str], *, max_shard_size: int = SHARD
) -> None:
    """Writes `config.json`, weights by the names of transformers 5, `generation_config.json` and
    the tokenizer's files; all of it or nothing.

    Args:
      target: a folder that is not there yet, or is empty.
      max_shard_size: bytes of a file of weights at most (unless one tensor is larger).

    Raises:
      ConfigError: a model that transformers has not; the folder holds something.
    """
    target = pathlib.Path(target)
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise ConfigError(f"{target}: is there already; name a folder that is not, or is empty")
    task = whole.task()
    about, kept = remembered(whole.assets)
    whole = _with_labels(whole, task)
    model = resolved(whole.config.model)
    try:
        kind = choose(model, place=about.get("table"))
    except ConfigError as error:
        raise type(error)(f"{whole.name}: {error}") from None
    architecture = _architecture(kind, model, about)
    state = to_state(
        whole.params, model, kind, kept=kept, dtypes=about.get("dtypes"),
        with_heads=not is_bare(architecture), **task.vocab_sizes)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        temporary.mkdir(parents=True)
        files.write_tensors(temporary, state, max_shard_size=max_shard_size)
        _write_configs(temporary, whole, task, kind=kind, architecture=architecture)
        made = symbols.unpacked(whole.assets)
        if not made and made_here(about):  # a folder that came without a tokenizer goes back so
            if kind.table.kind == "waveform":
                made = waveforms.files_of(task, model)
            elif kind.table.kind == "speech":
                made = speech.files_of(task)
            else:
                made = tokenizer_files.make(cast(TextTask, task))
        for name, content in made.items():
            (temporary / name).write_bytes(content)
        if target.is_dir():
            target.rmdir()
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def made_here(about: Mapping[str, Any]) -> bool:
    """Whether a model was made here, of one of Hugging Face's or of nothing, and is not such a
    folder's as it was."""
    return not about or bool(about.get("trained"))


def _architecture(kind: Kind, model: ModelSection, about: Mapping[str, Any]) -> str:
    """The class that the folder says its weights are of: the one that it came with, if it came
    from such a folder, has such weights still."""
    table = kind.table
    usual = table.architectures[0] if table.architecture is None else table.architecture(model)
    there = (about.get("config", {}).get("architectures") or [usual])[0]
    if about.get("table") != kind.place:
        return usual
    if usual.endswith(CLASS) == there.endswith(CLASS):
        return there
    # A head was registered: the class with one of the same kind of model (XLMRoberta...).
    stem = re.sub(r"(For[A-Z]\w+|Model)$", "", there)
    return next((name for name in table.architectures if name == stem + CLASS), usual)


def _with_labels(whole: Whole, task: Task) -> Whole:
    """The model with the names of its head's classes, where its task alone knows them."""
    config: Any = whole.config.model
    heads = getattr(config, "classification_heads", {})
    names = class_names(task)
    if len(heads) != 1 or config.classification_labels or {len(names)} != set(heads.values()):
        return whole
    named = dataclasses.replace(config, classification_labels=dict.fromkeys(heads, names))
    return dataclasses.replace(whole, config=dataclasses.replace(whole.config, model=named))


def is_bare(architecture: str) -> bool:
    """Whether a class of transformers' is one without heads, such as `BartModel`, whose weights
    have no prefix; `GPT2LMHeadModel` and `MarianMTModel` are none."""
    return architecture.endswith("Model") and not architecture.endswith(("LMHeadModel", "MTModel"))


def _write_configs(
    folder: pathlib.Path, whole: Whole, task: Task, *, kind: Kind, architecture: str
) -> None:
    """`config.json` and, of a model that generates, `generation_config.json`."""
    about, _ = remembered(whole.assets)
    table = kind.table
    hf: dict[str, Any] = dict(about.get("config", {}))
    said = table.config_to(resolved(whole.config.model))
    class_of = {"architectures": [architecture]}
    same = bool(hf) and table.config_from({**hf, **class_of}) == table.config_from(
        {**said, **_ids(hf), **class_of})
    hf = {**said, **hf} if same else {**hf, **said}
    if hf.get("model_type") not in table.model_types:
        hf["model_type"] = table.model_types[0]
    sizes = (task.vocab_sizes["source_vocab_size"], task.vocab_sizes["target_vocab_size"])
    hf |= {key: size for key, size in zip(table.vocabularies, sizes, strict=True) if key}
    hf["architectures"] = [architecture]
    if "torch_dtype" not in hf:
        hf.setdefault("dtype", "float32")
    special = dict(table.special) if table.kind == "waveform" else (
        _special(task, whole, encoder_decoder=table.kind in _WRITING))
    if made_here(about):
        hf |= special
    hf.setdefault("is_encoder_decoder", table.kind in _WRITING)
    files.write_json(folder / files.CONFIG, hf)
    if table.kind not in ("encoder", "waveform"):
        stored = whole.assets.get(GENERATION_MEMORY)
        if stored is None and not made_here(about):
            return  # there was none
        files.write_json(folder / files.GENERATION, generation.to_huggingface(
            whole.config.generation, special=special,
            remembered=None if stored is None else json.loads(stored)))


def _ids(hf: Mapping[str, Any]) -> dict[str, Any]:
    """The special ids of a `config.json`, on which other keys may depend."""
    return {key: value for key, value in hf.items() if key.endswith("_token_id")}


def _start(task: Task) -> int:
    """What the decoder reads first; of a model of several languages, which differ in it, eos."""
    try:
        return task.target_form.start  # type: ignore[attr-defined]
    except (ConfigError, AttributeError):
        return task.dictionaries[-1].vocabulary.eos


def _special(task: Task, whole: Whole, *, encoder_decoder: bool) -> dict[str, int | None]:
    """Special ids by their names in `config.json`."""
    vocabulary = task.dictionaries[-1].vocabulary
    size = len(vocabulary)
    found: dict[str, int | None] = {
        "bos_token_id": vocabulary.bos, "eos_token_id": vocabulary.eos,
        "pad_token_id": vocabulary.pad if vocabulary.pad < size else None}
    if encoder_decoder:
        start = whole.config.generation.bos_token
        found["decoder_start_token_id"] = _start(task) if start is None else start
    return found


def as_fairseq(config: Config) -> Config:
    """The configuration with a task that fairseq has: sequences to sequences are translation
    there."""
    if tasks.entry_of(config.task.name).fairseq is not None:
        return config
    usual = next((e for e in tasks.TASKS.values()
                  if e.fairseq and type(config.task).__base__ is e.config), None)
    if usual is None:
        return config
    values = {f.name: getattr(config.task, f.name) for f in dataclasses.fields(usual.config)}
    return dataclasses.replace(config, task=usual.config(**{**values, "name": usual.name}))
