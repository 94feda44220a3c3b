"""A folder of Hugging Face's as what our own checkpoint folders hold: a configuration, named
files and parameters, from which `tasks.from_assets` and `models.build` make a model.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import warnings
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from seqjax import tasks
from seqjax.checkpoints import CheckpointError
from seqjax.checkpoints.checksums import check_finite
from seqjax.config import ConfigError, to_plain
from seqjax.interop.huggingface import files, forms, generation, speech, symbols, waveforms
from seqjax.interop.huggingface.weights import Stored, describe
from seqjax.interop.torch.pickle_machine import CheckpointError as TorchError
from seqjax.interop.weights import Params
from seqjax.models import overrides as model_overrides
from seqjax.models.tables import State
from seqjax.tasks import assets

MEMORY, ARRAYS = "huggingface.json", "huggingface.bin"
"""Assets with the folder's own configuration, and with its tensors that hold no parameter."""
GENERATION_MEMORY = f"{symbols.FOLDER}.{files.GENERATION}"
"""Asset with its `generation_config.json`, if it had one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HuggingFaceModel:
    """What a folder of ours holds, made from one of Hugging Face's."""

    config: dict[str, Any]
    """Sections task, model, loss and, where it generates, generation; plain data."""
    assets: dict[str, bytes] = dataclasses.field(repr=False)
    """Files for `tasks.from_assets`, and what `write` remembers by."""
    params: Params = dataclasses.field(repr=False)
    """float32 numpy arrays."""


def read_model(
    folder: str | os.PathLike[str], *, overrides: Mapping[str, Any] | None = None,
    verify: bool = True,
) -> HuggingFaceModel:
    """A folder of Hugging Face's and all that is needed to use it.

    Args:
      overrides: keys of the model that are to be others, and layers to keep.
      verify: refuse weights that are not finite.

    Raises:
      CheckpointError: files that are missing or damaged, or of another model.
      ConfigError: a model that we do not have.
      WeightsError: weights that do not fit the configuration.
    """
    hf = files.read_config(folder)
    try:
        stored = describe(hf, files.read_tensors(folder))
        params = stored.params()
        if verify:
            check_finite(params, os.fspath(folder))
        config, kept = model_overrides.override(stored.config, overrides or {})
        config = model_overrides.with_layers(config, {k: len(v) for k, v in kept.items()})
        sections, named = _around(folder, hf, stored)
    except (ConfigError, TorchError) as error:
        message = str(error)
        known = message.startswith(os.fspath(folder))
        raise type(error)(message if known else f"{folder}: {message}") from None
    return HuggingFaceModel(
        config={**sections, "model": to_plain(config)}, assets={**named, **memory(hf, stored)},
        params=model_overrides.prune(params, kept))


def _around(
    folder: str | os.PathLike[str], hf: Mapping[str, Any], stored: Stored
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What is around the model: sections of its configuration, and its vocabulary's files."""
    table = stored.kind.table
    if table.kind == "waveform":
        return _around_waveforms(folder, hf, stored)
    said = files.read_json(folder, files.GENERATION)
    given = {k: v for k, v in hf.items() if k in generation.KEYS} if said is None else said
    place = os.fspath(folder)
    sizes = (stored.source_vocab_size or stored.target_vocab_size, stored.target_vocab_size)
    source, target = symbols.sides(
        place, model_type=str(hf["model_type"]), layout=table.layout, sizes=sizes)
    special = symbols.special_ids(
        hf, given, table, size=sizes[1], symbols=target.symbols,
        said=symbols.special_names(place))
    named = symbols.packed(symbols.token_files(place))
    if said is not None:
        named[GENERATION_MEMORY] = json.dumps(said).encode()
    entry, masks = tasks.of_huggingface(table.kind), table.kind == "encoder"
    words = tuple(symbols.vocabulary(side, size=size, special=special, masks=masks)
                  for side, size in zip((source, target), sizes, strict=True))
    sides = (("source", words[0], source.tokenizer), ("target", words[1], target.tokenizer))
    for name, vocabulary, tokenizer in sides:
        named |= assets.pack_vocabulary("" if words[0] == words[1] else name, vocabulary)
        if tokenizer is not None:
            named |= assets.pack_tokenizer(
                "" if source.tokenizer is target.tokenizer else name, tokenizer)
    given = {**table.generation, **given}
    section: dict[str, Any] = {"name": entry.name}
    loss = {"name": entry.loss}
    if masks:
        return {"task": section, "loss": loss}, named
    search = generation.from_huggingface(
        given, language_model=table.kind == "decoder", start=special.start)
    for phrase in search.ignored:
        warnings.warn(f"{folder}: not honoured: {phrase}", stacklevel=4)
    notes = symbols.special_names(place)
    if table.kind == "speech":
        named |= speech.assets_of(folder, hf)
        search.section.pop("bos_token", None)
    elif table.kind == "decoder":
        section["prompt_start"] = symbols.prompt_start(target.tokenizer, special, notes)
    else:
        usual = hf.get("tokenizer_class") or table.tokenizer_class
        section = {**section, **forms.section(
            words[1], source, special, given, notes, usual_class=usual), **table.languages(hf)}
        search.section.pop("bos_token", None)  # which the task says
        if section.get("decoder_first") or section["decoder_start"] == "{target}":
            search.section.pop("first_tokens", None)
    return {"task": section, "loss": loss, "generation": search.section}, named


def _around_waveforms(
    folder: str | os.PathLike[str], hf: Mapping[str, Any], stored: Stored
) -> tuple[dict[str, Any], dict[str, bytes]]:
    sections = waveforms.sections(folder, stored)
    named = symbols.packed(symbols.token_files(os.fspath(folder)))
    heard = waveforms.symbols_of(folder, hf, size=stored.target_vocab_size)
    if heard is not None:
        vocabulary, said = heard
        named |= assets.pack_vocabulary("", vocabulary)
        sections["task"] |= said
    return sections, named


def memory(hf: Mapping[str, Any], stored: Stored) -> dict[str, bytes]:
    """What the way back needs, as files: the folder's configuration, types of tensors, and those
    that hold no parameter."""
    kept = stored.kept()
    about = {"config": dict(hf), "table": stored.kind.place, "dtypes": stored.dtypes(),
             "kept": {k: [v.dtype.name, *v.shape] for k, v in kept.items()}}
    return {MEMORY: json.dumps(about).encode(),
            ARRAYS: b"".join(np.ascontiguousarray(v).tobytes() for v in kept.values())}


def remembered(named: Mapping[str, bytes]) -> tuple[dict[str, Any], State | None]:
    """What `memory` wrote: ({}, None) for a model that is not from such a folder.

    Of a model that was trained since (`trained`), no tensors: they are not its own.

    Raises:
      CheckpointError: the files are damaged.
    """
    if MEMORY not in named:
        return {}, None
    about = json.loads(named[MEMORY])
    if about.get("trained"):
        return about, None
    content = named.get(ARRAYS, b"")
    kept: State = {}
    at = 0
    for name, (dtype, *shape) in about["kept"].items():
        array = np.frombuffer(content, jnp.dtype(dtype), count=math.prod(shape), offset=at)
        kept[name], at = array.reshape(shape), at + array.nbytes
    if at != len(content):
        raise CheckpointError(f"{ARRAYS}: has {len(content)} bytes, where {at} belong")
    return about, kept
