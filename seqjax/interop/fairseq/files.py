"""A fairseq `.pt` with the files around it, as what our own checkpoint folders hold.

A `.pt` has weights and options, but no dictionaries: those come from a data folder, or lie
beside it. `read_model` brings everything together: a configuration, named files
(vocabularies, tokenizer models) and parameters, from which `tasks.from_assets` and
`models.build` make a model as from a folder of ours.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from seqjax import losses, models, tasks
from seqjax.checkpoints.checksums import check_finite
from seqjax.config import ConfigError, build, to_plain
from seqjax.data import folder
from seqjax.data.dictionaries import first_difference
from seqjax.data.tokenizers import Tokenizer
from seqjax.data.vocabulary import Vocabulary
from seqjax.interop.fairseq import names as fairseq_names
from seqjax.interop.fairseq import text
from seqjax.interop.fairseq.checkpoint import FairseqCheckpoint, Params, load_fairseq
from seqjax.tasks import assets
from seqjax.tasks.entry import TaskEntry


@dataclasses.dataclass(frozen=True, kw_only=True)
class FairseqModel:
    """What a folder of ours holds, made from a fairseq checkpoint."""

    config: dict[str, Any]
    """Sections task, model, loss (and train, if it averages by sentences); plain data."""
    assets: dict[str, bytes] = dataclasses.field(repr=False)
    """Files for `tasks.from_assets`."""
    params: Params = dataclasses.field(repr=False)
    """float32 numpy arrays."""
    checkpoint: FairseqCheckpoint


def is_pt(path: str | os.PathLike[str]) -> bool:
    """Whether a checkpoint is fairseq's: one file, where ours are folders."""
    return os.path.isfile(path) or (
        os.fspath(path).endswith(".pt") and not os.path.isdir(path))


def read_model(
    path: str | os.PathLike[str], *, data: str | os.PathLike[str] | None = None,
    bpe: str | None = None, tokenizer: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    tokenizer_options: Mapping[str, Any] | None = None,
    task_overrides: Mapping[str, Any] | None = None, verify: bool = True,
) -> FairseqModel:
    """A fairseq checkpoint and all that is needed to use it.

    Args:
      path: the `.pt`.
      data: folder with its dictionaries (default: the `.pt`'s own folder, else the data
        folder that it was trained on).
      bpe, tokenizer: fairseq's names of the subword model and the tokenizer before it, where
        the checkpoint does not say (published models do not). The files that they need lie
        beside the checkpoint or where it says.
      overrides: keys of the model that are to be others (see `load_fairseq`).
      tokenizer_options: fairseq's options of the subword model and the tokenizer, files among
        them, that are over the checkpoint's.
      task_overrides: keys of the task that are over the checkpoint's: `langs`, ...
      verify: refuse weights that are not finite.

    Raises:
      FileNotFoundError: no such file or folder.
      ConfigError: a model or task that we do not have, no dictionaries, or others than the
        model's.
    """
    checkpoint = load_fairseq(path, overrides=overrides)
    if verify:
        check_finite(checkpoint.params, os.fspath(path))
    try:
        chosen = text.components(checkpoint, bpe=bpe, tokenizer=tokenizer,
                                 options=tokenizer_options or {})
        task, files = _around(path, checkpoint, data=data, chosen=chosen,
                              asked=bool(bpe or tokenizer or tokenizer_options),
                              overrides=task_overrides or {})
        loss = loss_section(checkpoint)
        shared = {k: task[k] for k in loss.keys() & task.keys() if k != "name"}
        sections = {"task": task, "model": to_plain(checkpoint.config), "loss": loss | shared}
        if checkpoint.fairseq.get("criterion", "sentence_avg"):
            sections["train"] = {"sentence_avg": True}
    except ConfigError as error:
        raise type(error)(f"{path}: {error}") from None
    return FairseqModel(config=sections, assets=files, params=checkpoint.params,
                    checkpoint=checkpoint)


def loss_section(checkpoint: FairseqCheckpoint) -> dict[str, Any]:
    """The criterion; plain cross entropy, with a warning, where it is not one of ours."""
    values = dict(checkpoint.task.criterion)
    name = values.pop("_name", "cross_entropy")
    if name not in losses.CONFIGS:
        warnings.warn(
            f"the checkpoint was trained with the criterion {name!r}, which seqjax does not "
            "have: losses are reported as cross_entropy", stacklevel=2)
        name, values = "cross_entropy", {}
    known = {f.name for f in dataclasses.fields(losses.CONFIGS[name])}
    return {"name": name, **losses.fairseq_defaults(name),
            **{k: v for k, v in values.items() if k in known}}


# ---- the task ----


def task_entry(checkpoint: FairseqCheckpoint) -> TaskEntry:
    """The checkpoint's task.

    Raises:
      ConfigError: it is not here.
    """
    name = checkpoint.task.task or fairseq_names.USUAL["task"]
    found = tasks.of_fairseq(name)
    if found is None:
        raise ConfigError(f"its task is {name!r}; seqjax can use checkpoints of "
                          + " and ".join(tasks.fairseq_names())
                          + ". Training of these can begin with its weights (config.init_from), "
                          "and python -m seqjax.convert keys lists them")
    return found


class NoDictionariesError(ConfigError):
    """There are none where a checkpoint's would be."""


def _around(
    path: str | os.PathLike[str], checkpoint: FairseqCheckpoint, *,
    data: str | os.PathLike[str] | None, overrides: Mapping[str, Any], **options: Any
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """`_task`; of a model of waveforms whose task is not here, or whose dictionaries are not found
    where nobody said that they are, what prepares waveforms alone: its states need no words."""
    name = checkpoint.task.task or fairseq_names.USUAL["task"]
    waveforms = models.family(checkpoint.config.name).waveforms
    if waveforms and tasks.of_fairseq(name) is None:
        return _waveforms(checkpoint, overrides), {}
    try:
        return _task(path, checkpoint, data=data, overrides=overrides, **options)
    except NoDictionariesError:
        if not waveforms or data is not None:
            raise
        return _waveforms(checkpoint, overrides), {}


def _waveforms(
    checkpoint: FairseqCheckpoint, overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """The section of a task that prepares waveforms as the checkpoint's own does."""
    entry = tasks.for_waveforms()
    fields = {f.name for f in dataclasses.fields(entry.config)} - {"name", "data"}
    unknown = [key for key in overrides if key not in fields]
    if unknown:
        raise ConfigError(f"its task is {entry.name}, which has no {', '.join(unknown)}")
    said = {k: checkpoint.fairseq.get("task", k) for k in fields}
    found = {k: v for k, v in said.items() if v is not None}
    return {"name": entry.name, **found, "classes": checkpoint.target_vocab_size, **overrides}


def _task(
    path: str | os.PathLike[str], checkpoint: FairseqCheckpoint, *,
    data: str | os.PathLike[str] | None, chosen: Mapping[str, Mapping[str, Any]], asked: bool,
    overrides: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The task's section, and its files. The tokenizer that was `asked` for is over that of
    the data folder; `overrides` are over what the checkpoint says of its task."""
    entry = task_entry(checkpoint)
    assert entry.fairseq is not None
    keys = language_keys(entry)
    home = os.path.dirname(os.path.abspath(path))
    section = _given(checkpoint, entry, overrides)
    fixed = section.get("fixed_dictionary")
    if fixed and os.path.isfile(fixed):
        place = str(data or home)
        langs = tuple(section.get(key) or "" for key in keys)
        read = [Vocabulary.load(fixed)] * len(langs)
        where = [fixed] * len(langs)
    else:
        place, langs = _dictionaries(checkpoint, home=home, data=data, keys=keys,
                                     sides=_sides(entry, section))
        read = [folder.load_dictionary(place, lang) for lang in langs]
        where = [folder.dictionary_path(place, lang) for lang in langs]
    section |= {"name": entry.name, "data": place}
    if not entry.fairseq.shared:
        section |= dict(zip(keys, langs, strict=False))
    sizes = _sizes(checkpoint)
    root = _root(place, entry)
    section["data"] = root
    if hasattr(entry.config, "of_model"):
        section = entry.config.of_model(section, checkpoint.config)
    added = entry.fairseq.added(
        {**checkpoint.fairseq.groups.get("task", {}), **section}, place)
    _complete(read, where, sizes, added)
    names = langs
    if entry.fairseq.shared:
        names = ("", "") if read[0] == read[-1] else ("source", "target")
    files: dict[str, bytes] = _further(root, entry) | entry.fairseq.assets(section, root)
    known = folder.load_tokenizers(root)
    for lang, name, vocabulary, file in zip(langs, names, read, where, strict=True):
        _check_beside(vocabulary, file, home, lang, added=added)
        files |= assets.pack_vocabulary(name, vocabulary)
    files |= _tokenizers(
        chosen, home, known=known, asked=asked, read=read, where=where,
        langs=section.get("langs") or langs if entry.fairseq.shared else langs)
    section.setdefault("post_process", None)
    section["post_process"] = section["post_process"] or text.post_process(checkpoint, chosen)
    if any(f.name == "bpe" for f in dataclasses.fields(entry.config)):
        section.setdefault("bpe", chosen.get("bpe", {}).get("_name"))
    return section, files


def _tokenizers(
    chosen: text.Components, home: str, *, known: Mapping[str, Tokenizer], asked: bool,
    read: Sequence[Vocabulary], where: Sequence[str], langs: Sequence[str],
) -> dict[str, bytes]:
    """Files of each language's tokenizer: of the data folder (`known`), unless one was `asked`
    for; else what the checkpoint says and lies beside it."""
    files: dict[str, bytes] = {}
    for index, lang in enumerate(dict.fromkeys(langs)):
        side = min(index, len(read) - 1)
        found = known.get(lang)
        if asked or found is None:
            found = text.tokenizer_of(
                chosen, home, lang=lang or "en", vocabulary=read[side], where=where[side],
                source=side == 0) or found
        if found is not None:
            files |= assets.pack_tokenizer(lang, found)
    return files


def _sizes(checkpoint: FairseqCheckpoint) -> tuple[int, ...]:
    """Words of the source, where it has any, and of the target."""
    both = (checkpoint.source_vocab_size, checkpoint.target_vocab_size)
    return tuple(size for size in both if size)


def _complete(
    read: Sequence[Vocabulary], where: Sequence[str], sizes: tuple[int, ...],
    added: Sequence[str],
) -> None:
    """Puts the task's words behind those of the dictionaries.

    Raises:
      ConfigError: they are not of the model's sizes.
    """
    for vocabulary in read:
        for word in added:
            if word not in vocabulary:
                vocabulary.add_symbol(word)
    for vocabulary, file, size, side in zip(
            read, where, sizes, ("source", "target"), strict=False):
        if len(vocabulary) != size:
            more = f" (and {len(added)} tokens of the task)" if added else ""
            raise ConfigError(
                f"its model has {size} {side} words, but {file} has {len(vocabulary)}{more}: "
                "this is the data folder of another model")


def _root(place: str, entry: TaskEntry) -> str:
    """The data folder, of the folder in it that has the dictionary."""
    inner = entry.fairseq.dictionary if entry.fairseq else ""
    return os.path.dirname(place) if inner and os.path.basename(place) == inner else place


def _further(root: str, entry: TaskEntry) -> dict[str, bytes]:
    """Further dictionaries of the data folder, as files of a checkpoint."""
    files: dict[str, bytes] = {}
    for name in entry.fairseq.further if entry.fairseq else ():
        path = folder.dict_path(os.path.join(root, name))
        if os.path.isfile(path):
            files |= assets.pack_vocabulary(name, Vocabulary.load(path))
    return files


def _sides(
    entry: TaskEntry | None, section: Mapping[str, Any]
) -> tuple[tuple[str, ...], ...] | None:
    """Languages of whose dictionaries any is a side's; None: its keys name them."""
    if entry is None or entry.fairseq is None or entry.fairseq.sides is None:
        return None
    return entry.fairseq.sides(section)


def language_keys(entry: TaskEntry | None) -> tuple[str, ...]:
    """Keys of the task's section that name the languages of its dictionaries."""
    return entry.fairseq.languages if entry and entry.fairseq else ()


def _check_beside(
    vocabulary: Vocabulary, where: str, home: str, lang: str, *, added: Sequence[str]
) -> None:
    """Refuses a dictionary of the right length that is not the one beside the checkpoint."""
    beside = folder.dict_path(home, lang)
    if not os.path.isfile(beside) or os.path.realpath(beside) == os.path.realpath(where):
        return
    other = Vocabulary.load(beside)
    for word in added:
        if word not in other:
            other.add_symbol(word)
    difference = first_difference(other.symbols, vocabulary.symbols)
    if difference is not None and len(other) == len(vocabulary):
        raise ConfigError(
            f"{where} is not {beside}, the dictionary beside the checkpoint: {difference}; "
            "preprocess with that one (--srcdict, --tgtdict), or, if it is not the model's, "
            "move it away")


def dictionaries_of(
    path: str | os.PathLike[str], checkpoint: FairseqCheckpoint
) -> tuple[str, tuple[str, ...]] | None:
    """The folder with a checkpoint's dictionaries and their languages: beside it, or where it
    was trained; None where there are none of the model's sizes (`<mask>` is in no file, see
    `added_words`)."""
    home = os.path.dirname(os.path.abspath(path))
    # Weights of a task that is not here may be started from all the same: taken for the usual.
    here = tasks.of_fairseq(checkpoint.task.task or "")
    entry = here or tasks.of_fairseq(fairseq_names.USUAL["task"])
    try:
        section = {} if here is None else _given(checkpoint, here, {})
        place, langs = _dictionaries(
            checkpoint, home=home, data=None, sides=_sides(here, section),
            keys=language_keys(entry))
        added = added_words(checkpoint, place)
    except ConfigError:
        return None
    for lang, size in zip(langs, _sizes(checkpoint), strict=False):
        vocabulary = Vocabulary.load(folder.dict_path(place, lang))
        if len(vocabulary) + sum(word not in vocabulary for word in added) != size:
            return None
    return place, langs


def added_words(checkpoint: FairseqCheckpoint, data: str) -> tuple[str, ...]:
    """Words that its task put behind those of the dictionary's file, if they were not there.

    Args:
      data: the folder with that file.
    """
    entry = tasks.of_fairseq(checkpoint.task.task or "")
    if entry is None or entry.fairseq is None:
        return ()
    group = checkpoint.fairseq.groups.get("task", {})
    return entry.fairseq.added({**group, **_given(checkpoint, entry, {})}, data)


def _given(
    checkpoint: FairseqCheckpoint, entry: TaskEntry, overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """The task's keys that fairseq has under the same names, and those that are over them.

    Raises:
      ConfigError: a value, or a file that it names, that cannot be used; an override that is no
        key of the task.
    """
    assert entry.fairseq is not None
    group = checkpoint.fairseq.groups.get("task", {})
    said = {k: v for k, v in group.items() if v not in (None, "???")}
    fields = {f.name for f in dataclasses.fields(entry.config)}
    unknown = [key for key in overrides if key not in fields]
    if unknown:
        raise ConfigError(f"its task is {entry.name}, which has no {', '.join(unknown)}")
    said = entry.fairseq.completed({**said, **overrides})
    names = fields - {"name", "data", "post_process", "lang"}
    found = {k: said[k] for k in names if said.get(k) is not None}
    if found.get("upsample_primary", 1) < 1:
        del found["upsample_primary"]  # -1: off
    return to_plain(build(entry.config, found, "task")) if found else {}


def _dictionaries(
    checkpoint: FairseqCheckpoint, *, home: str, data: str | os.PathLike[str] | None,
    keys: tuple[str, ...], sides: tuple[tuple[str, ...], ...] | None = None,
) -> tuple[str, tuple[str, ...]]:
    """The folder with the dictionaries, and their languages ("" for none).

    Args:
      keys: of fairseq's task that name them (`language_keys`).
      sides: languages of whose dictionaries any is that of the side; over `keys`.
    """
    if data is not None:
        if not os.path.isdir(data):
            raise FileNotFoundError(f"{data}: no such data folder")
        candidates = [os.fspath(data)]
    else:
        trained_on = str(checkpoint.fairseq.get("task", "data") or "").split(os.pathsep)[0]
        candidates = [home, *([trained_on] if os.path.isdir(trained_on) else [])]
    entry = tasks.of_fairseq(checkpoint.task.task or "")
    inner = entry.fairseq.dictionary if entry and entry.fairseq else ""
    if inner:
        candidates = [x for place in candidates for x in (os.path.join(place, inner), place)]
    missing = ""
    for place in candidates:
        langs: Sequence[str | None] = ("",)
        if sides is not None:
            langs = [next((lang for lang in side if os.path.isfile(folder.dict_path(place, lang))),
                          next(iter(side), None)) for side in sides]
            if None in langs:
                missing = "dict.LANG.txt (it does not say which languages: lang_pairs)"
                continue
        elif keys:
            langs = [checkpoint.fairseq.get("task", key) for key in keys]
            if None in langs:
                try:
                    langs = folder.find_pair(place)
                except ValueError:
                    missing = "dict.LANG.txt (it does not say which languages)"
                    continue
        wanted = [folder.dict_path(place, lang) for lang in langs]
        if all(map(os.path.isfile, wanted)):
            return place, tuple(lang or "" for lang in langs)
        missing = " and ".join(os.path.basename(p) for p in wanted if not os.path.isfile(p))
    raise NoDictionariesError(
        f"fairseq checkpoints hold no dictionaries; looked for {missing} in "
        + " and ".join(candidates) + ". Name the folder that it was trained on: "
        "data='data-bin' in Python, --data data-bin on the command line")
