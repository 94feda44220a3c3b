"""From a task's name to what others need to know of it: a `TaskEntry`.

Training, the hub, interop and the command lines ask the entry, never for a task's name.
Importing it imports no JAX.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

from seqjax.config import ConfigError, import_object
from seqjax.losses import Metric
from seqjax.tasks.protocol import METHODS


@dataclasses.dataclass(frozen=True, kw_only=True)
class FairseqTask:
    """How fairseq knows a task."""

    name: str
    """Its `--task`."""
    languages: tuple[str, ...] = ()
    """Keys of its section that name the languages of its dictionaries, source first; their
    files are `dict.LANGUAGE.txt`. Without any there is one, `dict.txt`."""
    added: Callable[[Mapping[str, Any], str], tuple[str, ...]] = lambda section, data: ()
    """(keys of its section, data folder) -> words that it puts behind those of the dictionary's
    file, where they are not in it: `<mask>`, tokens of languages."""
    dictionary: str = ""
    """Folder of the data folder in which that file is."""
    further: tuple[str, ...] = ()
    """Folders of the data folder with further dictionaries, which a trained model is used with
    where they are there."""
    sides: Callable[[Mapping[str, Any]], tuple[tuple[str, ...], ...]] | None = None
    """From its section the languages of whose dictionaries any may be the sources', and the
    targets' (None: `languages` say them)."""
    completed: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    """From fairseq's values of its section ours."""
    always: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Keys that its code reads of every run, and that nothing of ours says -> their defaults."""
    assets: Callable[[Mapping[str, Any], str], dict[str, bytes]] = lambda section, data: {}
    """(its section, data folder) -> files of a checkpoint beside dictionaries and tokenizers."""
    shared: bool = False
    """Whether assets hold one dictionary for both sides, or one for each, not for languages."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskEntry:
    """What a task says of itself."""

    name: str
    """`config.task.name`."""
    config: type
    """Its section of the configuration: a frozen dataclass with `name` and `data`."""
    task: str
    """`module:Class` of what `protocol.Task` describes; imported when it is used."""
    facade: str
    """`module:Class` of the `hub.loaded.Loaded` that `seqjax.load` gives: what a trained model
    can do, how a split is decoded and how it is evaluated."""
    metrics: Mapping[str, Metric] = dataclasses.field(default_factory=dict)
    """What its `Task.evaluator` measures, where that is known without a model."""
    output: str = "output"
    """What its samples of outputs are called."""
    labels: Literal["", "classes", "places"] = ""
    """Of sentences with labels: what these are, so that `seqjax.preprocess --task` can make a
    data folder: classes or numbers, or places of the right candidate."""
    decodes: bool = True
    """Whether that one searches for outputs, and so is made with `valid.decode` alone and of
    `valid.decode_sentences`. Of a task whose does not, it is made whenever the task has one."""
    fairseq: FairseqTask | None = None
    """None: fairseq has no such task, so that no `.pt` is read or written."""
    huggingface: str = ""
    """The kind of Hugging Face's models (`models.tables.HuggingFaceTable.kind`) that are loaded as
    this task's; "": none."""
    waveforms: bool = False
    """Whether models of waveforms are used with it whose own task is not here."""
    loss: str = "cross_entropy"
    """`config.loss.name` of a model that comes without one."""
    own_order: bool = False
    """Its epochs draw samples of their own, so that fairseq's batches cannot be planned ahead
    (`batching.mode=fairseq`)."""

    def load(self) -> Any:
        """The task's class.

        Raises:
          ConfigError: it lacks methods of `protocol.Task`; the message names them.
        """
        cls = import_object(self.task, "config.task.name")
        missing = [name for name in METHODS if not callable(getattr(cls, name, None))]
        if missing:
            raise ConfigError(
                f"config.task.name: {self.task!r} has no {', '.join(missing)}: a task has the "
                "members of seqjax.tasks.protocol.Task (docs/extending.md)")
        return cls


def of_object(name: str) -> TaskEntry:
    """The entry of a caller's own task, `package.module:Object`: a class with `Config`, `facade`
    and, if fairseq has it too, `fairseq` (a `FairseqTask`).

    Raises:
      ConfigError: there is no such object, or it does not say these.
    """
    found = import_object(name, "config.task.name")
    config, facade = getattr(found, "Config", None), getattr(found, "facade", None)
    if not dataclasses.is_dataclass(config):
        raise ConfigError(f"config.task.name: {name!r} has no dataclass named Config")
    if not isinstance(facade, str) or ":" not in facade:
        raise ConfigError(
            f"config.task.name: {name!r} does not say what seqjax.load gives: set facade to "
            "'module:Class', such as 'seqjax.hub.translator:Translator'")
    assert isinstance(config, type)
    return TaskEntry(name=name, config=config, task=name, facade=facade,
                     fairseq=getattr(found, "fairseq", None))
