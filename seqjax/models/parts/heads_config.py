"""What configurations say of classification heads, and what a state dict of fairseq's says of
them: their names, their classes and how wide they are inside."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal, Protocol, TypeVar

from seqjax.config import ConfigError, DataclassInstance
from seqjax.models.parts.configs import ORIGIN, TRAINING_ONLY, check_rates
from seqjax.models.tables import State

HEADS = "classification_heads"
"""Under which parameters of heads are found, here and in fairseq."""
REFUSED = {"spectral_norm_classification_head": (False,)}
"""See `tables.ConfigKeys`: of a head of such weights there are others."""
SIZES = ("classification_heads", "classification_inner_dims")
UNSAID = (*SIZES, "classification_labels", "classification_problems")
"""Keys that no file of fairseq's has: its weights say the sizes of heads."""
REGRESSION, SEVERAL = "regression", "multi_label_classification"
"""What a head is for, where that is not to choose one of its classes: transformers' words."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassificationHeadsConfig:
    """Heads that say something of a whole sentence: fairseq's `register_classification_head`."""

    classification_heads: dict[str, int] = dataclasses.field(default_factory=dict, hash=False)
    """Name of each head -> its classes (of a regression, its values); on a command line
    `{"mnli": 3}`, or `--config.model.classification_heads.mnli=3`. The tasks `sentence_prediction`
    and `sentence_ranking` add the head that they train."""
    classification_inner_dims: dict[str, int] = dataclasses.field(default_factory=dict, hash=False)
    """Inner width of the heads whose width is not `encoder_embed_dim`."""
    classification_labels: dict[str, tuple[str, ...]] = dataclasses.field(
        default_factory=dict, hash=False, metadata=ORIGIN)
    """What the classes of heads are called (a `config.json`'s `id2label`)."""
    classification_problems: dict[
        str, Literal["single_label_classification", "multi_label_classification", "regression"]
    ] = dataclasses.field(default_factory=dict, hash=False, metadata=ORIGIN)
    """What heads are for, where that is known (a `config.json`'s `problem_type`): one class, any
    number of classes, or values."""
    pooler_activation_fn: Literal[
        "relu", "gelu", "gelu_fast", "gelu_accurate", "tanh", "linear", "swish"
    ] = "tanh"
    """Inside of the heads."""
    pooler_dropout: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """In front of both matrices of a head."""

    def __post_init__(self) -> None:
        getattr(super(), "__post_init__", lambda: None)()  # of what a family is made of besides
        for key in SIZES:
            for name, size in getattr(self, key).items():
                if not re.fullmatch(r"[^\s./]+", name):
                    raise ValueError(f"config.model.{key}: {name!r} cannot name a head: leave out "
                                     "spaces, full stops and slashes")
                if size < 1:
                    raise ValueError(f"config.model.{key}.{name}: {size}; give 1 or more")
        for name, labels in self.classification_labels.items():
            if len(labels) != self.classification_heads.get(name):
                raise ValueError(f"config.model.classification_labels.{name}: {len(labels)} labels "
                                 f"of a head of {self.classification_heads.get(name, 0)} classes")
        check_rates(self, ("pooler_dropout",))

    def inner_dim(self, name: str, *, width: int) -> int:
        """Inner width of a head that reads states [width]."""
        return self.classification_inner_dims.get(name, width)


class WithHeads(DataclassInstance, Protocol):
    """What is read of a model section that has heads."""

    @property
    def encoder_embed_dim(self) -> int:
        """How wide they are, where they do not say."""
        ...


HeadsConfigT = TypeVar("HeadsConfigT", bound=WithHeads)


def with_heads_of(state: State, config: HeadsConfigT) -> HeadsConfigT:
    """A model section with the heads that a state dict of fairseq's has; the weights tell what no
    key of the file does."""
    classes, inner = {}, {}
    for key, value in state.items():
        found = re.fullmatch(rf"{HEADS}\.([^.]+)\.(dense|out_proj)\.weight", key)
        if found is None:
            continue
        if found[2] == "out_proj":
            classes[found[1]] = int(value.shape[0])
        elif value.shape[0] != config.encoder_embed_dim:
            inner[found[1]] = int(value.shape[0])
    inner = {name: size for name, size in inner.items() if name in classes}
    return dataclasses.replace(
        config, classification_heads=classes, classification_inner_dims=inner)


# ---- Hugging Face's ----

HeadsT = TypeVar("HeadsT", bound=ClassificationHeadsConfig)
NAME = "sentence_classification_head"
"""What the one head of a model of transformers is called here: fairseq's default."""
CLASS = "ForSequenceClassification"
"""How the name of its class ends."""
_PROBLEMS = ("single_label_classification", SEVERAL, REGRESSION)


def from_labels(hf: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of `config.model` about the one head, if the class that a `config.json` names has it.

    Raises:
      ConfigError: labels without ids 0, 1, ...; a problem that is none.
    """
    if not any(str(name).endswith(CLASS) for name in hf.get("architectures") or ()):
        return {}
    found: dict[str, Any] = {}
    labels = hf.get("id2label")
    if labels:
        names = {int(index): str(label) for index, label in labels.items()}
        if sorted(names) != list(range(len(names))):
            raise ConfigError(f"id2label: ids {sorted(names)}, where 0, 1, ... belong")
        found["classification_heads"] = {NAME: len(names)}
        found["classification_labels"] = {NAME: tuple(names[i] for i in range(len(names)))}
    problem = hf.get("problem_type")
    if problem is not None:
        if problem not in _PROBLEMS:
            raise ConfigError(f"problem_type: {problem!r} is none of {', '.join(_PROBLEMS)}")
        found["classification_problems"] = {NAME: problem}
    return found


def with_head_of(state: State, config: HeadsT, head: str) -> HeadsT:
    """A model section with the head that a state dict of transformers' has under the name `head`:
    `dense` and `out_proj`.

    Raises:
      ConfigError: it has another number of classes than there are labels.
    """
    output = state.get(f"{head}.out_proj.weight")
    if output is None:
        return config  # one that should be there is then missed by its name
    classes = int(output.shape[0])
    said = config.classification_heads.get(NAME, classes)
    if said != classes:
        raise ConfigError(f"id2label: {said} labels, but the head of the weights has {classes} "
                          "classes")
    return dataclasses.replace(config, classification_heads={NAME: classes})


def renamed(head: str) -> tuple[str, str]:
    """`WeightNames.renames` of the one head."""
    return rf"^{HEADS}\.[^.]+\.", f"{head}."


def labels(config: ClassificationHeadsConfig) -> dict[str, Any]:
    """Keys of a `config.json` about the one head.

    Raises:
      ConfigError: several heads, or one of a width of its own.
    """
    if not config.classification_heads:
        return {}
    if len(config.classification_heads) > 1 or config.classification_inner_dims:
        raise ConfigError(
            f"config.model.{HEADS}: {', '.join(config.classification_heads)}: a model of "
            "transformers has one, as wide as the encoder")
    ((head, classes),) = config.classification_heads.items()
    names = config.classification_labels.get(head) or [f"LABEL_{i}" for i in range(classes)]
    return {"id2label": {str(i): name for i, name in enumerate(names)},
            "label2id": {name: i for i, name in enumerate(names)},
            "problem_type": config.classification_problems.get(head)}
