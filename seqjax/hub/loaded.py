"""What every loaded model is and can do: who it is, and how well it does on a split.

A facade is a class of these: `seqjax.load` gives the one that the model's task names
(`tasks.entry.TaskEntry.facade`), and commands ask it instead of the task.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from seqjax.config import Config, ConfigError
from seqjax.hub import about, evaluation
from seqjax.hub.about import Origin
from seqjax.hub.evaluation import Evaluated
from seqjax.models.protocol import LanguageModel, Params
from seqjax.tasks.protocol import Task

_METHODS = {
    "translate": "models that translate", "sample": "models that generate text",
    "generate": "models that generate text", "stream": "models that generate text",
    "score": "models that generate text", "align": "models that translate",
    "fill_mask": "models that were trained to fill masks",
    "predict": "models with classification heads",
    "register_classification_head": "models that can have classification heads",
    "extract_features": "models of text", "log_probs": "models that predict words",
    "transcribe": "models that recognise speech",
    "encode": "models of text", "decode": "models of text",
}
"""Methods of facades, and which models they are for."""
TaskT = TypeVar("TaskT", bound=Task)


@dataclasses.dataclass(kw_only=True, eq=False, repr=False)
class Loaded(Generic[TaskT]):
    """One model, or an ensemble of several. Its `repr` is a line that says which (`describe`).

    Alone it is the facade of a task that neither generates nor encodes text.
    """

    task: TaskT
    config: Config
    models: tuple[Any, ...]
    params: tuple[Params, ...]
    identity: str = ""
    """Which checkpoints these are."""
    origins: tuple[Origin, ...] = ()
    """Where each came from."""
    assets: Mapping[str, bytes] = dataclasses.field(default_factory=dict, repr=False)
    """Files of the first checkpoint that go with its parameters: vocabularies, tokenizers, what
    is remembered of another toolkit's."""
    generates: ClassVar[bool] = False
    """Whether it is a `generative.Generative`, which commands generate with."""
    aligns: ClassVar[bool] = False
    """Whether outputs can be aligned with their sources."""
    evaluation_options: ClassVar[frozenset[str]] = frozenset()
    """What `evaluate` takes beside the arguments that every facade's takes."""

    @property
    def name(self) -> str:
        """What messages call it: where it came from."""
        return self.origins[0].path if self.origins else self.identity

    def __getattr__(self, name: str) -> Any:
        """Says what a model of this kind is not for.

        Raises:
          AttributeError: always; with the reason for methods of other facades.
        """
        task = self.__dict__.get("task")
        if name in _METHODS and task is not None:
            raise AttributeError(
                f"{type(self).__name__} has no {name}: a model of the task "
                f"{task.config.name!r} is none of the {_METHODS[name]}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()})"

    @property
    def langs(self) -> tuple[str, ...]:
        """Languages that calls may choose among; empty: none, or one pair alone."""
        return ()

    def describe(self, **options: Any) -> str:
        """One line: which checkpoint and why, what kind of model, how calls will search and
        where that comes from, limits, device and type of matrix products.

        Args:
          **options: fields of `GenerationConfig` that calls will be given.
        """
        return "; ".join([" + ".join(map(str, self.origins)) or self.identity,
                          *self.description(options), about.device(self.models)])

    def description(self, options: dict[str, Any]) -> list[str]:
        """What `describe` says of the kind of model, and of what it would do with these
        options."""
        del options
        return [about.family(self.task, self.models, self.params)]

    def save(self, folder: str | os.PathLike[str]) -> str:
        """Writes a work folder with this model as it is now, heads that were registered included:
        what `load`, `config.init_from` and `convert` take.

        Args:
          folder: one without checkpoints.

        Returns:
          The checkpoint's folder.

        Raises:
          ConfigError: an ensemble; a folder that holds checkpoints.
        """
        from seqjax.interop.fairseq.folder import save_folder

        params, *others = self.params
        if others or not self.assets:
            raise ConfigError("save: one model that was loaded is saved, no ensemble and none that "
                              "was made by hand")
        return os.fspath(save_folder(folder, self.config, params, self.assets))

    def fused(self, lm: Loaded) -> Loaded:
        """This model, which searches with a language model.

        Raises:
          ConfigError: it takes none; or `lm` is none, or of another vocabulary.
        """
        del lm
        raise ConfigError(f"{self.name}: a model of the task {self.task.config.name!r} takes no lm")

    def language_model(self) -> LanguageModel:
        """The one model whose log-probabilities a `fused` search adds.

        Raises:
          ConfigError: it is not one language model.
        """
        raise ConfigError(f"lm: {self.identity} is not one language model")

    def evaluate(
        self, subset: str = "test", *, data: str | None = None,
        max_tokens: int = evaluation.MAX_TOKENS, batch_size: int | None = None,
        too_long: str | None = None,
    ) -> Evaluated:
        """The loss that it was trained with, on a split: what fairseq-validate says.

        Args:
          data: folder (None: the one that it was trained on).
          max_tokens, batch_size: size of a batch.
          too_long: a sentence over the model's limit: an `error` (None too), or `skip`.

        Raises:
          FileNotFoundError: there is no such split.
          ConfigError: no such folder, or another model's; a sentence over the limit; several
            models.
        """
        return evaluation.loss_of_split(
            self.task, self.models, self.params, subset, loss=self.config.loss, data=data,
            max_tokens=max_tokens, batch_size=batch_size, too_long=too_long,
            sentence_avg=self.config.train.sentence_avg)
