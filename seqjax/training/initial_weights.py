"""Weights of one run for the data of another: their dictionaries compared, or rows moved.

Every way of starting from weights that exist passes through here: a work folder that is
continued, `resume_from`, `init_from`, and fairseq's files where their dictionaries are found.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import jax

from seqjax import checkpoints, models, settings, tasks
from seqjax.config import Config, ConfigError
from seqjax.data import folder
from seqjax.data.dictionaries import Dictionary, first_difference, match
from seqjax.data.tokenizers import Tokenizer
from seqjax.data.vocabulary import Vocabulary
from seqjax.models import vocabulary_rows
from seqjax.models.protocol import Model, Params
from seqjax.tasks import assets
from seqjax.tasks.protocol import Task, TextTask

if TYPE_CHECKING:
    from seqjax.training.initial_state import Start


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """What is known of the words of weights."""

    name: str
    """Where the weights are."""
    dictionaries: Sequence[Dictionary]
    places: Sequence[str]
    """The file of each dictionary."""
    tokenizers: dict[str, bytes] | None = None
    """Files of their tokenizers (None: not known)."""
    sides: tuple[Tokenizer | None, Tokenizer | None] | None = None
    """Or the tokenizers of source and target themselves (None: not known)."""
    named: bool = True
    """Whether the words are known. False: how many there are, and the ids of special ones."""
    preprocess: str = ""
    """What `seqjax.preprocess` is given to make data of these words ("": `places`)."""
    task: str = ""
    """The task that adds no word to them ("": not known)."""


def of_folder(path: pathlib.Path) -> Trained | None:
    """The dictionaries of a checkpoint folder; None for a task without any.

    Raises:
      CheckpointError: it cannot be read.
    """
    files = checkpoints.read_assets(path)
    try:
        saved = settings.resolve(checkpoints.read_config(path))
        task = tasks.from_assets(saved, files)
    except KeyError as error:
        raise checkpoints.damaged(path, f"about/assets/{error.args[0]} is missing",
                                  force=False) from None
    except checkpoints.CheckpointError:
        raise
    except ValueError as error:
        raise checkpoints.CheckpointError(f"{path}: {error}") from None
    found = task.dictionaries
    if not found:
        return None
    return Trained(name=str(path), dictionaries=found, tokenizers=_tokenizers(files),
                   places=[str(path / "about" / "assets" / d.name) for d in found])


def _tokenizers(files: dict[str, bytes]) -> dict[str, bytes]:
    return {k: v for k, v in files.items() if k.startswith("tokenizer")}


# ---- compared ----


def check_same(trained: Trained | None, config: Config, task: Task, *, way_out: str) -> list[str]:
    """Refuses data whose dictionaries are not those of the weights.

    Args:
      way_out: what to do beside preprocessing with the dictionaries of the weights.

    Returns:
      Lines about what else differs.

    Raises:
      ConfigError: naming the dictionary and the first difference.
    """
    if trained is None:
        return []
    here = task.dictionaries
    if len(here) != len(trained.dictionaries):
        raise ConfigError(f"{trained.name}: its weights are of another task than "
                          f"config.task.name={config.task.name}")
    for old, new, place in zip(trained.dictionaries, here, trained.places, strict=True):
        difference = _difference(old, new, named=trained.named)
        if difference is None:
            continue
        path = os.path.join(config.task.data, new.name)
        if not trained.named:
            raise ConfigError(f"{path} does not fit {trained.name}: {difference}. That has no "
                              "tokenizer to preprocess with: give data a dictionary of its words")
        if trained.task and not _other_tokenizers(trained, task):
            raise ConfigError(
                f"{path} and the words that config.task.name={config.task.name} adds are not those "
                f"of {trained.name}: {difference}. Set config.task.name={trained.task}")
        option = "--srcdict" if new.side == "source" else "--tgtdict"
        raise ConfigError(
            f"{path} is not the {new.side} dictionary that {trained.name} was trained with: "
            f"{difference}. Either preprocess with {trained.preprocess or f'{option} {place}'}, or "
            f"{way_out}")
    if not trained.named:
        return [f"note: {trained.name} has no tokenizer that says its words; its rows are taken to "
                f"be words in the order of {config.task.data}"]
    return _other_tokenizers(trained, task)


def _difference(old: Dictionary, new: Dictionary, *, named: bool) -> str | None:
    """What is other in a dictionary than in the one of weights, if anything is."""
    if named:
        found = first_difference(old.symbols, new.symbols)
    else:
        a, b = len(old.symbols), len(new.symbols)
        found = None if a == b else f"{a:,} entries there, {b:,} here"
    if found is not None:
        return found
    return next((f"{key} is id {a} there, {b} here" for key, a, b in (
        ("padding", old.vocabulary.pad, new.vocabulary.pad),
        ("eos", old.vocabulary.eos, new.vocabulary.eos)) if a != b), None)


def same(trained: Trained | None, task: Task) -> bool:
    """Whether the task's data have the words and the tokenizers of weights, or nothing says
    otherwise."""
    if trained is None or len(trained.dictionaries) != len(task.dictionaries):
        return False
    pairs = zip(trained.dictionaries, task.dictionaries, strict=True)
    return not _other_tokenizers(trained, task) and not any(
        _difference(old, new, named=trained.named) for old, new in pairs)


def check_same_dictionaries(first: pathlib.Path, other: pathlib.Path) -> None:
    """Refuses two checkpoints whose rows are not the same words.

    Raises:
      ConfigError: naming the dictionary and the first difference.
    """
    a, b = of_folder(first), of_folder(other)
    if a is None or b is None or first == other:
        return
    for old, new in zip(a.dictionaries, b.dictionaries, strict=False):
        difference = first_difference(old.symbols, new.symbols, names=("there", "in the second"))
        if difference is not None or len(a.dictionaries) != len(b.dictionaries):
            raise ConfigError(f"{other}: its {new.side} dictionary {new.name} is not that of "
                              f"{first}: {difference}; their rows are other words")


def _other_tokenizers(trained: Trained, task: Task) -> list[str]:
    """A line where text was cut into pieces otherwise. Where the languages are others (pretraining
    has one text, a translation two), any of the tokenizers there may be the one of here."""
    if trained.sides is not None:
        text = cast(TextTask, task)  # as every task that has dictionaries
        here = (text.source_tokenizer, text.target_tokenizer)
        other = sorted(side for side, old, new in zip(
            ("source", "target"), trained.sides, here, strict=True) if old != new)
        return [f"note: {' and '.join(other)}: not cut by the tokenizer that {trained.name} was "
                "trained with; words may be other pieces"] if other else []
    if trained.tokenizers is None:
        return []
    here, there = _states(_tokenizers(task.assets())), _states(trained.tokenizers)
    if here.keys() == there.keys():
        other = sorted(name for name, state in here.items() if state != there[name])
    elif here:
        other = sorted(name for name, state in here.items() if state not in there.values())
    else:
        other = sorted(there)
    return [f"note: {', '.join(other)}: not the tokenizer that {trained.name} was trained "
            "with; words may be cut into other pieces"] if other else []


def _states(files: dict[str, bytes]) -> dict[str, dict[str, object]]:
    """Tokenizers by the names of their JSON files."""
    found = {name: assets.tokenizer_state(name, files) for name in files if name.endswith(".json")}
    return {name: dict(state) for name, state in found.items() if state is not None}


def check_joined(config: Config, task: Task) -> None:
    """Refuses one embedding for two dictionaries that only have the same length.

    Raises:
      ConfigError: naming the first difference.
    """
    if not getattr(config.model, "shares_input", False):
        return
    here = task.dictionaries
    source, target = (next((d for d in here if d.side == side), None)
                      for side in ("source", "target"))
    if source is None or target is None or source.vocabulary is target.vocabulary:
        return
    names = (f"in {source.name}", f"in {target.name}")
    difference = first_difference(source.symbols, target.symbols, names=names)
    if difference is not None:
        raise ConfigError(
            f"config.model shares one embedding, but the two dictionaries differ: {difference}; "
            "preprocess with --joined-dictionary")


# ---- moved ----

BEGIN_ANEW = ("begin another run from these weights: another --workdir with --config.init_from={} "
              "--config.init_vocabulary=match")
MASK = "<mask>"
"""The word that pretraining puts in the place of others, behind all words of the text."""
MATCH = "set --config.init_vocabulary=match to move their rows by symbol"


def fitted(
    params: Params, trained: Trained | None, config: Config, task: Task, *, key: str = "init_from",
) -> tuple[Params, list[str]]:
    """Weights to start from, for the task's dictionaries.

    Args:
      params: host arrays.
      trained: whose they are; None if that cannot be known.

    Returns:
      The weights, and lines on what was done.

    Raises:
      ConfigError: other dictionaries under `init_vocabulary=same`, or rows that cannot be
        moved.
    """
    if config.init_vocabulary == "match" and (trained is None or not trained.named):
        raise ConfigError(
            f"config.init_vocabulary=match: the dictionaries of config.{key}="
            f"{getattr(config, key)} are not known; put its dict.*.txt "
            f"{'beside it' if trained is None else 'or its tokenizer there'}")
    if trained is None:
        if not task.dictionaries:
            return params, []
        return params, [
            f"note: no dictionaries lie beside {getattr(config, key)} to be compared; its rows are "
            f"taken to be words in the order of {config.task.data}"]
    if config.init_vocabulary == "same" and not _lacks_only_mask(trained, task):
        return params, check_same(trained, config, task, way_out=MATCH)
    return _moved(params, trained, config, task)


def _lacks_only_mask(trained: Trained, task: Task) -> bool:
    """Whether every dictionary is the trained one without `<mask>`, its last word, which models
    that were trained to fill in masks have: their row is left out, as fairseq does."""
    here = task.dictionaries
    return len(here) == len(trained.dictionaries) and all(
        old.symbols[-1:] == [MASK] and old.symbols[:-1] == new.symbols
        for old, new in zip(trained.dictionaries, here, strict=True))


def of_start(start: Start, config: Config, task: Task) -> tuple[Params, list[str]]:
    """As `fitted`, of an `initial_state.Start`."""
    if not config.resume_from:
        return fitted(start.params, start.trained, config, task)
    if start.trained is None:
        return fitted(start.params, None, config, task, key="resume_from")
    way_out = BEGIN_ANEW.format(config.resume_from)
    return start.params, check_same(start.trained, config, task, way_out=way_out)


def _moved(
    params: Params, trained: Trained, config: Config, task: Task
) -> tuple[Params, list[str]]:
    here = {d.side: d for d in task.dictionaries}
    there = {d.side: d for d in trained.dictionaries}
    if here.keys() != there.keys():
        raise ConfigError(f"{trained.name}: its weights are of another task than "
                          f"config.task.name={config.task.name}")
    found = {side: match(there[side].symbols, d.symbols) for side, d in here.items()}
    lines = [found[side].describe(d.name) for side, d in here.items()]
    lines = list(dict.fromkeys(lines))  # a dictionary of both sides is said once
    notes = _other_tokenizers(trained, task)
    if all(first_difference(there[s].symbols, d.symbols) is None for s, d in here.items()):
        return params, [*lines, *notes]
    vocabulary_rows.check_movable(config.model)

    def build(**sizes: int) -> Model:
        return models.build(config.model, compute_dtype=jax.numpy.float32, **sizes)

    where = vocabulary_rows.axes(
        build, source_vocab_size=len(there["source"].symbols),
        target_vocab_size=len(there["target"].symbols))
    checkpoints.check_shapes(
        params, jax.eval_shape(
            build(source_vocab_size=len(there["source"].symbols),
                  target_vocab_size=len(there["target"].symbols)).init, jax.random.key(0)),
        trained.name)
    moved = vocabulary_rows.move(
        params, build(**task.vocab_sizes), where=where,
        rows={side: m.rows for side, m in found.items()},
        rng=jax.random.key(config.seed, impl="threefry2x32"))
    return moved, [*lines, *notes]


def dictionary_files(
    name: str, place: str, langs: Sequence[str], *, predicted: int, added: Sequence[str] = ()
) -> Trained:
    """The dictionaries of a folder that fairseq's weights were trained on.

    Args:
      name: where the weights are.
      place: the folder.
      langs: source and target language; of a language model one ("" for none).
      predicted: entries of the target's that have rows.
      added: words behind those of the files.
    """
    paths = [folder.dict_path(place, lang) for lang in langs]
    paths = paths if len(paths) == 2 else paths * 2
    vocabularies = [Vocabulary.load(path) for path in paths]
    for word, vocabulary in itertools.product(added, vocabularies):
        if word not in vocabulary:
            vocabulary.add_symbol(word)
    sizes = (None, predicted)
    return Trained(name=name, places=paths, dictionaries=[
        Dictionary(side=side, name=os.path.basename(path), vocabulary=vocabulary, size=size)
        for side, path, vocabulary, size in zip(
            ("source", "target"), paths, vocabularies, sizes, strict=True)])
