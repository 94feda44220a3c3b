"""Training that begins with a folder of Hugging Face's: a sparse configuration in; the same with
what the folder says of the model, and the weights to begin with, out.

    --config.init_from=DIR                         its weights, everything else fresh
    --config.init_from=hf:org/name[@revision]      through huggingface_hub and its cache
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from collections.abc import Mapping
from typing import Any, cast

from seqjax import models, tasks
from seqjax.checkpoints import CheckpointError
from seqjax.config import Config, ConfigError, ModelSection, coerce, to_plain
from seqjax.data.tokenizers import HuggingFaceTokenizer, Tokenizer, TokenizerError
from seqjax.interop.fairseq.files import is_pt
from seqjax.interop.fairseq.names import USUAL
from seqjax.interop.huggingface import generation, places, symbols
from seqjax.interop.huggingface.model import (
    ARRAYS,
    MEMORY,
    HuggingFaceModel,
    read_model,
    remembered,
)
from seqjax.interop.torch.pickle_machine import CheckpointError as TorchError
from seqjax.models.overrides import resolved
from seqjax.models.parts.configs import LAYERS_TO_KEEP, changes_parameters, is_head
from seqjax.models.parts.heads_config import UNSAID
from seqjax.models.tables import HuggingFaceTable
from seqjax.settings import resolve
from seqjax.tasks.protocol import TextTask
from seqjax.training.initial_state import Start
from seqjax.training.initial_weights import Trained

_OF_HEADS = ("id2label", "label2id", "num_labels", "problem_type", "finetuning_task")
_OF_FILES = ("dtype", "torch_dtype", "_name_or_path")
"""Keys of a `config.json` that are not of the model which comes of training it."""
_CLASS = re.compile(r"(?:For[A-Z]\w*|LMHeadModel|MTModel|Model)$")
"""How a name of transformers' classes ends, behind the model's."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A folder's model that a run begins with."""

    given: str
    """As the configuration names it."""
    folder: str
    found: HuggingFaceModel = dataclasses.field(repr=False)
    said: tuple[str, ...]
    """Lines on what the configuration has of it."""


def completed(raw: Mapping[str, Any]) -> tuple[dict[str, Any], Pretrained | None]:
    """A configuration whose model is the one of the folder that `init_from` names, if it names
    one; and that folder's model. Of a folder with fairseq's `model.pt` the path of that file is
    named.

    Keys that `config.model` gives are over the folder's where they matter to training alone, or
    to heads; others must be the same. `arch` says the family, and no more.

    Args:
      raw: sparse values, sections by name.

    Raises:
      CheckpointError: files that are missing, damaged or of another model.
      ConfigError: no model that is here, or keys of another one; names them.
    """
    raw = dict(raw)
    if not all(isinstance(raw.get(name, {}), Mapping) for name in ("model", "task", "checkpoint")):
        return raw, None  # which is said when it is resolved
    for key in ("init_from", "resume_from"):
        path = raw.get(key)
        if not isinstance(path, str) or is_pt(path):
            continue
        try:
            place = places.resolve(path)
        except CheckpointError as error:
            raise type(error)(f"config.{key}: {error}") from None
        if is_pt(place):
            raw[key] = place
        elif places.is_folder(place):
            if key == "resume_from":
                raise ConfigError(f"config.resume_from: {path} is a folder of Hugging Face's: it "
                                  "has weights, and nothing to go on from; name it in "
                                  "config.init_from")
            return _with_folder(raw, path, place)
    return raw, None


def _with_folder(
    raw: dict[str, Any], given: str, folder: str
) -> tuple[dict[str, Any], Pretrained]:
    asked = {**raw.get("model", {})}
    kept = {key: asked[key] for key in LAYERS_TO_KEEP.values() if asked.get(key)}
    verify = coerce(raw.get("checkpoint", {}).get("verify", True), bool, "config.checkpoint.verify")
    try:
        found = read_model(folder, overrides=kept, verify=verify)
    except (ConfigError, CheckpointError, TorchError, TokenizerError) as error:
        message = str(error)
        place = "" if message.startswith(folder) else f"{folder}: "
        raise type(error)(f"config.init_from: {place}{message}") from None
    section = resolve(found.config).model
    task = {**raw.get("task", {})}
    said = _check_family(asked, section, folder)
    raw["model"] = _model(asked, section, folder, labelled=bool(_entry(task).labels))
    raw["task"], more = _task(task, found)
    return raw, Pretrained(given=given, folder=folder, found=found, said=(*said, *more))


def _entry(task: Mapping[str, Any]) -> tasks.TaskEntry:
    return tasks.entry_of(task.get("name", USUAL["task"]))


# ---- the model ----


def _check_family(asked: Mapping[str, Any], section: ModelSection, folder: str) -> list[str]:
    """Refuses a folder of another family than the configuration's; a line on an `arch` that has
    other sizes than the folder."""
    arch = asked.get("arch")
    family = asked.get("name") or models.ARCHS.get(arch or "", (None,))[0]
    if arch and arch not in models.ARCHS:
        return []  # which is said when it is resolved
    if family not in (None, section.name):
        by = f"config.model.name={family}" if asked.get("name") else f"config.model.arch={arch}"
        raise ConfigError(f"config.init_from: {folder} has a model of the family {section.name}, "
                          f"but {by} is one of {family}: set --config.model.name={section.name}")
    if not arch or models.ARCHS[arch][0] != section.name:
        return []
    usual = resolved(resolve({"model": {"arch": arch}}).model)
    other = [f"{f.name} {getattr(section, f.name)}, not {getattr(usual, f.name)}"
             for f in dataclasses.fields(section)
             if f.name.endswith(("_layers", "embed_dim")) and (
                 getattr(resolved(section), f.name) != getattr(usual, f.name))]
    return [f"note: the model is that of {folder}/config.json, not config.model.arch={arch}: "
            f"{'; '.join(other)}"] if other else []


def _model(
    asked: Mapping[str, Any], section: ModelSection, folder: str, *, labelled: bool
) -> dict[str, Any]:
    """The model section: the folder's, with what the configuration may say of it.

    Args:
      labelled: the task trains a head of its own, so that no other one is needed.
    """
    cls = type(section)
    own = {f.name: f for f in dataclasses.fields(section)}
    found = {k: v for k, v in to_plain(section).items() if k not in ("arch", *UNSAID)}
    if not labelled:  # a head that the folder has not begins anew
        found = {k: v for k, v in found.items() if not is_head(cls, k) or v == own[k].default}
    hints = typing.get_type_hints(cls)
    whole, wrong = resolved(section), []
    for key, value in asked.items():
        if key in ("name", "arch"):
            continue
        if key in own and key not in UNSAID and not is_head(cls, key) and changes_parameters(
                cls, key, to_plain(section)):
            value = coerce(value, hints[key], f"config.model.{key}")
            if value != getattr(section, key) and not _same(whole, key, value):
                wrong.append(f"{key} is {getattr(whole, key)!r} there, {value!r} here")
                continue
        found[key] = value
    if wrong:
        raise ConfigError(f"config.init_from: {folder}: config.model is another model: "
                          f"{'; '.join(wrong)}. Leave these keys out: its config.json says them")
    return found


def _same(whole: ModelSection, key: str, value: Any) -> bool:
    """Whether a model is what it was with another value of a key, which then follows another."""
    try:
        return resolved(dataclasses.replace(whole, **{key: value})) == whole
    except ValueError:
        return False


# ---- the task ----


def _task(task: dict[str, Any], found: HuggingFaceModel) -> tuple[dict[str, Any], list[str]]:
    """The task section with what stands around the folder's texts, where it does not say it; and
    lines on where it says something else."""
    theirs = found.config["task"]
    entry = _entry(task)
    if entry.name == theirs["name"]:
        return {**theirs, **task}, []
    names = {f.name for f in dataclasses.fields(entry.config)}
    if not {"init_token", "separator_token"} <= names:
        return task, []
    whole = cast(TextTask, tasks.from_assets(resolve(found.config), found.assets))
    around = _around(whole.source_tokenizer, eos=whole.source_vocab.eos)
    notes = []
    for key, value in around.items():
        if key not in task:
            task[key] = value
        elif task[key] != value and str(task[key]) != str(value):
            word = "none" if value is None else value
            notes.append(f"note: config.task.{key} is {task[key]}, but the folder's tokenizer puts "
                         f"{word} there (--config.task.{key}={word})")
    return task, notes


def _around(tokenizer: Tokenizer | None, *, eos: int) -> dict[str, int | None]:
    """Ids in front of a text and of a second one, by keys of tasks of sentences; nothing of a
    tokenizer that does not say them."""
    if not isinstance(tokenizer, HuggingFaceTokenizer):
        return {}
    try:
        around = tokenizer.around(pair=True)
    except TokenizerError:
        return {}
    if len(around.first) != 1 or around.between[:1] != (eos,) or len(around.between) > 2:
        return {}
    return {"init_token": around.first[0], "separator_token": (*around.between, None)[1]}


# ---- the weights ----


def start_from(config: Config, pretrained: Pretrained) -> Start:
    """Where the run begins.

    Args:
      config: resolved, of what `completed` gave.
    """
    found = pretrained.found
    task = cast(TextTask, tasks.from_assets(resolve(found.config), found.assets))
    tokenizers = (task.source_tokenizer, task.target_tokenizer)
    named = any(tokenizers)
    trained = Trained(
        name=pretrained.folder, dictionaries=task.dictionaries, named=named,
        places=[pretrained.folder] * len(task.dictionaries), sides=tokenizers if named else None,
        task=found.config["task"]["name"] if named else "",
        preprocess=f"--tokenizer hf:{pretrained.given.removeprefix(places.SCHEME)}")
    return Start(params=found.params, trained=trained, partial=True, lines=pretrained.said,
                 assets=_carried(found, config.model))


def _carried(found: HuggingFaceModel, model: ModelSection) -> dict[str, bytes]:
    """What goes along with the run, for the way back: the tokenizer's files and the keys of
    `config.json` that training leaves as they are."""
    about, _ = remembered(found.assets)
    table = models.import_object(about["table"], "table")
    left = {*generation.KEYS, *_OF_HEADS, *_OF_FILES}
    hf = {key: value for key, value in about["config"].items() if key not in left}
    hf["architectures"] = [_architecture(table, model, hf.get("architectures"))]
    kept = {**about, "config": hf, "dtypes": {}, "kept": {}, "trained": True}
    files = symbols.packed(symbols.unpacked(found.assets))
    return {MEMORY: json.dumps(kept).encode(), ARRAYS: b"", **files}


def _architecture(table: HuggingFaceTable, model: ModelSection, before: Any) -> str:
    """The class of the trained model: of the folder's kind (`XLMRoberta...`), with the heads that
    there are now."""
    usual = table.architectures[0] if table.architecture is None else (
        table.architecture(resolved(model)))
    ending = _CLASS.search(usual)
    stem = _CLASS.sub("", before[0]) if before else ""
    name = stem + (ending[0] if ending else "")
    return name if name in table.architectures else usual
