"""What configurations say of classification heads, and what a state dict of fairseq's says of
them: their names, their classes and how wide they are inside."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Literal, Protocol, TypeVar

from seqjax.config import ConfigError, DataclassInstance
from seqjax.models.parts.configs import TRAINING_ONLY, check_rates
from seqjax.models.tables import State

HEADS = "classification_heads"
"""Under which parameters of heads are found, here and in fairseq."""
REFUSED = {"spectral_norm_classification_head": (False,)}
"""See `tables.ConfigKeys`: of a head of such weights there are others."""
UNSAID = ("classification_heads", "classification_inner_dims")
"""Keys that no file of fairseq's has: its weights say them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassificationHeadsConfig:
    """Heads that say something of a whole sentence: fairseq's `register_classification_head`."""

    classification_heads: dict[str, int] = dataclasses.field(default_factory=dict, hash=False)
    """Name of each head -> its classes (of a regression, its values); on a command line
    `{"mnli": 3}`, or `--config.model.classification_heads.mnli=3`. The tasks `sentence_prediction`
    and `sentence_ranking` add the head that they train."""
    classification_inner_dims: dict[str, int] = dataclasses.field(default_factory=dict, hash=False)
    """Inner width of the heads whose width is not `encoder_embed_dim`."""
    pooler_activation_fn: Literal[
        "relu", "gelu", "gelu_fast", "gelu_accurate", "tanh", "linear", "swish"
    ] = "tanh"
    """Inside of the heads."""
    pooler_dropout: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """In front of both matrices of a head."""

    def __post_init__(self) -> None:
        getattr(super(), "__post_init__", lambda: None)()  # of what a family is made of besides
        for key in UNSAID:
            for name, size in getattr(self, key).items():
                if not re.fullmatch(r"[^\s./]+", name):
                    raise ValueError(f"config.model.{key}: {name!r} cannot name a head: leave out "
                                     "spaces, full stops and slashes")
                if size < 1:
                    raise ValueError(f"config.model.{key}.{name}: {size}; give 1 or more")
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


def with_head_of(state: State, config: HeadsT, head: str) -> HeadsT:
    """A model section with the head that a state dict of transformers' has under the name `head`:
    `dense` and `out_proj`."""
    output = state.get(f"{head}.out_proj.weight")
    return config if output is None else dataclasses.replace(
        config, classification_heads={NAME: int(output.shape[0])})


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
    (classes,) = config.classification_heads.values()
    names = {str(i): f"LABEL_{i}" for i in range(classes)}
    return {"id2label": names, "label2id": {name: int(i) for i, name in names.items()}}
