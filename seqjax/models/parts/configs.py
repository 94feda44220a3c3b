"""What configurations of models share: sections of keys, and checks that raise ValueError
naming the key. Configuration in, nothing computed; no family is known here."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, Literal

from seqjax.config import gives

_KIND, _TABLE = "kind", "table"
TRAINING_ONLY: Mapping[str, str] = {_KIND: "training only"}
"""Metadata of a key that matters while a model is trained and leaves no trace in what it then
is: no parameter and no output of the trained model depends on it."""
RUNTIME: Mapping[str, str] = {_KIND: "runtime"}
"""Of a key that says how it is computed: no number depends on it, but for rounding."""
LIMIT: Mapping[str, str] = {_KIND: "limit"}
"""Of a key that says how long an input may be, in a model without a table of that length."""
ORIGIN: Mapping[str, str] = {_KIND: "origin"}
"""Of a key that says where values or weights came from, and no more: the architecture that
named the other keys' defaults, the layers of another model to begin with."""


HEAD: Mapping[str, str] = {"part": "head"}
"""Of a key that says whether the model has a head, without which the rest is what it was: where a
run begins with the weights of another, such a part may be new, or be left out."""


def is_head(cls: type, key: str) -> bool:
    """Whether a key of a model section says that there is a head (`HEAD`)."""
    return HEAD.items() <= _metadata(cls, key).items()


def limit(*, table: str) -> Mapping[str, str]:
    """`LIMIT`, unless the key `table` is on, with which it is the length of a table of weights."""
    return {**LIMIT, _TABLE: table}


def kind(cls: type, key: str) -> str | None:
    """What a key of a model section declares itself to be; None: one that the model itself
    depends on, or that the section does not have."""
    return _metadata(cls, key).get(_KIND)


def changes_parameters(cls: type, key: str, values: Mapping[str, Any]) -> bool:
    """Whether parameters of a model, their number, shapes or meaning, may depend on a key.

    Args:
      cls: the section's dataclass.
      values: of the whole section, as plain data.
    """
    metadata = _metadata(cls, key)
    return _KIND not in metadata or bool(values.get(metadata.get(_TABLE, "")))


def _metadata(cls: type, key: str) -> Mapping[str, str]:
    return next((f.metadata for f in dataclasses.fields(cls) if f.name == key), {})


@dataclasses.dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """How a stack of layers is compiled. Every model's configuration has these."""

    scan_unroll: int = dataclasses.field(default=0, metadata=RUNTIME)
    """Layers unrolled in one step of the scan over depth (0: all, fastest to run; 1: a
    true loop, fastest to compile)."""
    remat: Literal["none", "dots", "full"] = dataclasses.field(default="none", metadata=RUNTIME)
    """What the backward pass computes again: nothing, all but matrix products, all."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptiveSoftmaxConfig:
    """An output layer whose rare words are narrow (Grave et al. 2017)."""

    adaptive_softmax_cutoff: tuple[int, ...] | None = dataclasses.field(
        default=None, metadata=gives("clusters"))
    """Ids at which a new cluster of the output layer begins (None: an ordinary softmax).
    Train with `loss.name=adaptive_loss`."""
    adaptive_softmax_factor: float = 4.0
    """Each tail cluster has this many times fewer dimensions than the one before."""
    adaptive_softmax_dropout: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """In front of the output layer and inside its tail clusters."""


LAYERS_TO_KEEP = {
    "encoder": "encoder_layers_to_keep", "decoder": "decoder_layers_to_keep",
}
"""Side -> the key that says which of a trained model's layers stay."""


def follow_kept(values: dict[str, Any]) -> None:
    """Where layers are left out, the number of layers is that of those that stay: fairseq's
    `build_model`."""
    for side, key in LAYERS_TO_KEEP.items():
        layers = values.get(key)
        if layers:
            values[f"{side}_layers"] = len(
                layers.split(",") if isinstance(layers, str) else layers)


def check_kept(key: str, layers: tuple[int, ...]) -> tuple[int, ...]:
    """The layers in their order.

    Raises:
      ValueError: none, or one that is no layer or there twice; names `key`.
    """
    if not layers or min(layers) < 0 or len(set(layers)) < len(layers):
        raise ValueError(f"{key}: {layers}; name each layer that stays once, from 0")
    return tuple(sorted(layers))


def check_layers(config: object) -> None:
    """Raises ValueError where layers to keep and the number of layers disagree."""
    for side, key in LAYERS_TO_KEEP.items():
        layers, count = getattr(config, key, None), getattr(config, f"{side}_layers", 0)
        if layers is not None and len(check_kept(f"config.model.{key}", layers)) != count:
            raise ValueError(
                f"config.model.{key}: {layers} are {len(layers)} layers, but {side}_layers is "
                f"{count}")


def check_bands(config: object, key: str) -> None:
    """Raises ValueError for `KEY_cutoff` or `KEY_factor` that make no bands."""
    cutoffs = getattr(config, f"{key}_cutoff")
    if cutoffs is not None and (
        not cutoffs or cutoffs[0] < 5 or list(cutoffs) != sorted(set(cutoffs))
    ):
        raise ValueError(
            f"config.model.{key}_cutoff: {cutoffs}; ids must grow, the first above 4")
    if getattr(config, f"{key}_factor") < 1.0:
        raise ValueError(f"config.model.{key}_factor: must be 1 or more")


def check_rates(config: object, names: tuple[str, ...]) -> None:
    """Raises ValueError for a dropout rate outside of [0, 1)."""
    for name in names:
        rate = getattr(config, name)
        if rate is not None and not 0.0 <= rate < 1.0:
            raise ValueError(f"config.model.{name}: {rate} is not in [0, 1)")


def check_positive(config: object, names: tuple[str, ...]) -> None:
    """Raises ValueError for a size below 1."""
    for name in names:
        if getattr(config, name) is not None and getattr(config, name) < 1:
            raise ValueError(f"config.model.{name}: {getattr(config, name)} is not positive")


def check_cutoffs(cutoffs: tuple[int, ...] | None, key: str = "adaptive_softmax_cutoff") -> None:
    """Raises ValueError for cutoffs that do not grow."""
    if cutoffs is not None and (
        not cutoffs or cutoffs[0] < 1 or any(a >= b for a, b in itertools.pairwise(cutoffs))
    ):
        raise ValueError(f"config.model.{key}: {cutoffs} must be positive and growing")
