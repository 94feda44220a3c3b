"""What a task is: the members that training, the hub and interop use.

A task joins a data folder, a model and a loss. It is made from a configuration and a data
folder (`setup`), or from a checkpoint's files (`from_assets`), and never changes. Conversions
to arrays and their meaning are its own; models are known by `models.protocol`, and losses by
what they are given. It imports no JAX.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

from seqjax.config import ConfigError, TaskSection, import_object

if TYPE_CHECKING:  # they import JAX, or numpy
    import jax
    import numpy as np

    from seqjax.config import Config, GenerationConfig
    from seqjax.data.batches import Dataset
    from seqjax.data.dictionaries import Dictionary
    from seqjax.data.frames import Frame
    from seqjax.data.tokenizers import Tokenizer
    from seqjax.data.vocabulary import Vocabulary
    from seqjax.generation.target_form import TargetForm
    from seqjax.losses.base import Forward
    from seqjax.models.protocol import Model, Params
    from seqjax.tasks.evaluator import Evaluator


ModelT_contra = TypeVar("ModelT_contra", bound="Model", contravariant=True)
"""What a task's models are, as `Task.model_protocol` says."""
TaskT = TypeVar("TaskT", bound="Task")


class TextSection(TaskSection, Protocol):
    """What the section of a task over words has."""

    @property
    def post_process(self) -> str | None:
        """How pieces become words where there is no tokenizer."""
        ...


class Task(Protocol[ModelT_contra]):
    """What every task has. One that generates text, or reads it, is a `TextTask` as well."""

    facade: ClassVar[str]
    """`module:Class` of the `hub.loaded.Loaded` that `seqjax.load` gives."""
    model_protocol: ClassVar[str]
    """`module:Class` of what its models are: `seqjax.models.protocol:EncoderDecoder`, ..."""

    @property
    def config(self) -> TaskSection:
        """Its section of the configuration, completed by what the data say (languages). It has
        `name` and `data`."""
        ...

    @classmethod
    def setup(cls, config: Config) -> Self:
        """The task of a configuration, for training. Reads what `config.task.data` says of
        vocabularies and tokenizers, and none of the sentences.

        Raises:
          ConfigError: there is no such folder, or not what the task needs.
        """
        ...

    @classmethod
    def from_assets(cls, config: Config, files: Mapping[str, bytes]) -> Self:
        """The task of a checkpoint.

        Args:
          config: as it was resolved for training.
          files: of `assets`.

        Raises:
          KeyError: a file is missing; its argument is the name.
        """
        ...

    def assets(self) -> dict[str, bytes]:
        """Named files that go into every checkpoint, from which `from_assets` makes this task
        again without the data folder."""
        ...

    def with_config(self, **changes: Any) -> Self:
        """The same task with other values in its section: another `data` folder."""
        ...

    @property
    def vocab_sizes(self) -> dict[str, int]:
        """What `models.build` needs beside the model's section: `source_vocab_size`,
        `target_vocab_size`."""
        ...

    @property
    def dictionaries(self) -> Sequence[Dictionary]:
        """Whose words the rows of embeddings are, source first: what is compared where weights
        meet other data. Empty for a task without."""
        ...

    @property
    def languages(self) -> tuple[str, str] | None:
        """The source's and the target's, of a task that translates."""
        ...

    def check_folder(self, data: str) -> None:
        """Refuses a data folder of other dictionaries than the model's.

        Raises:
          ConfigError: naming the file and the first difference.
        """
        ...

    def dataset(self, split: str, *, need_target: bool = True) -> Dataset:
        """A split of `config.data`.

        Args:
          need_target: False: a split without targets is welcome (there is nothing to learn).

        Raises:
          FileNotFoundError: there is no such split.
          ConfigError: it does not fit the configuration or the dictionaries.
        """
        ...

    def train_dataset(self) -> Dataset:
        """The split to learn from, all its shards."""
        ...

    def max_positions(self, model: ModelT_contra) -> tuple[int | None, int | None]:
        """Tokens of the longest source and target that the model and the task take (None: no
        limit, or no such side)."""
        ...

    def too_long_advice(self, model: ModelT_contra) -> str:
        """What to do where the data's sentences cannot fit `model`, whatever they are: naming
        keys. "" where that depends on the sentences."""
        ...

    def forward(
        self, model: ModelT_contra, params: Params, batch: Mapping[str, jax.Array],
        rng: jax.Array | None = None, update: jax.Array | None = None,
    ) -> Forward:
        """The pass over a batch, whose result the configured loss is computed of; pure.

        A task for models with a state beside their parameters (`models.protocol.Stateful`) takes
        that as `extra` as well, and gives the new one in the result.

        Args:
          batch: arrays of leading axis B, as the dataset's `materialise` makes them.
          rng: key of dropout, or None for none.
          update: int32 scalar, updates done before.
        """
        ...

    def evaluator(
        self, model: ModelT_contra, dataset: Any, *, generation: GenerationConfig, limit: int = 0,
        sharding: jax.sharding.Sharding | None = None, row_multiple: int = 1,
    ) -> Evaluator | None:
        """What says at validations, beside the loss, how good the model is: by its outputs. None
        of a task that has no such measure.

        Args:
          dataset: of `dataset`.
          generation: how outputs are searched.
          limit: only the first so many sentences (0: all).
          sharding, row_multiple: how rows lie on the devices (see `generation.Decoder`).
        """
        ...

    def next_command(self, workdir: str, *, subset: str) -> list[str]:
        """The words of a command that uses the model that was trained in `workdir`.

        Args:
          subset: the split that validations were of.
        """
        ...


class TextTask(Task[ModelT_contra], Protocol[ModelT_contra]):
    """A task whose sources and targets are words of vocabularies; of a language model both are
    the same."""

    @property
    def config(self) -> TextSection:
        """See `Task.config`."""
        ...

    @property
    def source_vocab(self) -> Vocabulary:
        """Of what is read."""
        ...

    @property
    def target_vocab(self) -> Vocabulary:
        """Of what is predicted."""
        ...

    @property
    def source_tokenizer(self) -> Tokenizer | None:
        """Text to pieces (None: text is in pieces)."""
        ...

    @property
    def target_tokenizer(self) -> Tokenizer | None:
        """The same of what is predicted."""
        ...

    shuffles_test: ClassVar[bool]
    """Whether fairseq draws the order of sentences of equal lengths of the split test, too."""

    @property
    def langs(self) -> tuple[str, ...]:
        """Languages that `translating` chooses among; empty: its own pair alone."""
        ...

    def translating(self, source_lang: str | None, target_lang: str | None) -> Self:
        """This task for another direction (None: as it is).

        Raises:
          ConfigError: a language that it does not know.
        """
        ...

    @property
    def source_frame(self) -> Frame:
        """What stands around the words of a source."""
        ...

    @property
    def takes_ids_as_given(self) -> bool:
        """Whether ids of a caller's are the whole source: nothing is put around them."""
        ...

    @property
    def target_frame(self) -> Frame:
        """What stands around the words of a target."""
        ...

    @property
    def unspoken_source(self) -> tuple[int, ...]:
        """Source ids that are no text: language tokens."""
        ...

    @property
    def unspoken_target(self) -> tuple[int, ...]:
        """Target ids that are no text."""
        ...

    @property
    def target_form(self) -> TargetForm:
        """How outputs begin and end."""
        ...

    def framed_source(self, ids: np.ndarray) -> np.ndarray:
        """Ids of words with final eos -> with what else stands around a source's words."""
        ...

    def encode_source(self, text: str) -> np.ndarray:
        """Text -> int32 ids [S] with final eos: what tokenizer and vocabulary make of it."""
        ...

    def encode_target(self, text: str) -> np.ndarray:
        """Text -> int32 ids [T] with final eos: what tokenizer and vocabulary make of it."""
        ...

    def decode_source(self, ids: Sequence[int] | np.ndarray) -> str:
        """Ids -> plain text, detokenised."""
        ...

    def decode_target(self, ids: Sequence[int] | np.ndarray) -> str:
        """Ids -> plain text, detokenised."""
        ...


def with_model(task: TaskT, model: Model) -> TaskT:
    """The task whose datasets go with a model: of a task with `for_model(model)`, such as one whose
    batches hold what models draw for them."""
    bound = getattr(task, "for_model", None)
    return task if bound is None else bound(model)


def check_model(task: Task, model: Model) -> None:
    """Refuses a model that the task has no use for.

    Raises:
      ConfigError: naming what it lacks.
    """
    wanted = import_object(task.model_protocol, "model_protocol")
    missing = [name for name in members(wanted) if not hasattr(model, name)]
    if missing:
        raise ConfigError(
            f"config.model.name: {model.config.name!r} has no {', '.join(missing)}; the task "
            f"{task.config.name!r} is for models that are what "
            f"{task.model_protocol.replace(':', '.')} says")
    _check_start(task, model)


def _check_start(task: object, model: Model) -> None:
    """Refuses a start of decoding that the model takes for padding: it would read one thing in
    searches, and another in training and scoring."""
    if getattr(task, "begins_with_pad", False) and not getattr(model.config, "pad_begins", False):
        raise ConfigError(
            "config.task.decoder_start: begins decoding with what is padding to a model of the "
            f"family {model.config.name!r}; it is for models with model.pad_begins")


def class_names(task: object) -> tuple[str, ...]:
    """What a task calls the classes that its model tells apart; nothing of other tasks."""
    return tuple(getattr(task, "class_names", ()))


def members(protocol: type) -> list[str]:
    """Names of the public attributes and methods that a protocol asks for, inherited ones too."""
    found: dict[str, None] = {}
    for base in reversed(protocol.__mro__):
        if getattr(base, "_is_protocol", False) and base is not Protocol:
            found |= dict.fromkeys(n for n in (*base.__dict__.get("__annotations__", {}),
                                               *vars(base)) if not n.startswith("_"))
    return list(found)


def _methods(protocol: type) -> tuple[str, ...]:
    return tuple(name for name, member in vars(protocol).items()
                 if not name.startswith("_") and (callable(member)
                                                  or isinstance(member, classmethod)))


METHODS = _methods(Task)
"""Names of the methods of every task."""
