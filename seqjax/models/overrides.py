"""A trained model under other settings: keys that change what it computes, layers left out.

fairseq's `--model-overrides`, and `encoder_layers_to_keep` and `decoder_layers_to_keep` ("Reducing
Transformer Depth on Demand with Structured Dropout", Fan et al. 2019). Parameters have like
layers stacked on axis 0 under `layers`; what each key does is asked of the family.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from seqjax.config import ConfigError, ModelSection, coerce, nearest
from seqjax.models.parts.configs import (
    LAYERS_TO_KEEP,
    RUNTIME,
    TRAINING_ONLY,
    check_kept,
    kind,
)

SectionT = TypeVar("SectionT", bound=ModelSection)
Kept = dict[str, tuple[int, ...]]
"""Side (`encoder`, `decoder`) -> numbers of the layers that stay."""
_IDLE = {
    TRAINING_ONLY["kind"]: "only matters in training",
    RUNTIME["kind"]: "changes no number, only how it is computed",
}
"""Kinds of keys that mean nothing to what a trained model says -> why."""


def override(config: SectionT, overrides: Mapping[str, Any]) -> tuple[SectionT, Kept]:
    """A model section with keys replaced, all but the layers to keep, which are returned.

    Raises:
      ConfigError: a key that the model does not have or that changes nothing when it is
        used; a value that does not fit.
    """
    own = {f.name for f in dataclasses.fields(config)} - {"name", "arch"}
    hints = typing.get_type_hints(type(config))
    values: dict[str, Any] = {}
    for key, value in overrides.items():
        if key not in own:
            raise ConfigError(
                f"model_overrides: {config.name} has no key {key!r}.{nearest(key, own)} (Data, "
                "tokenizers and search have options of their own.)")
        idle = _IDLE.get(kind(type(config), key) or "")
        if idle:
            raise ConfigError(f"model_overrides: {key} {idle}; leave it out")
        values[key] = coerce(value, hints[key], f"model_overrides.{key}")
    kept: Kept = {}
    for side, key in LAYERS_TO_KEEP.items():
        layers = values.pop(key, None)
        if layers is not None:
            kept[side] = check_kept(f"model_overrides.{key}", layers)
    try:
        return dataclasses.replace(config, **values), kept
    except ValueError as error:
        raise ConfigError(f"model_overrides: {error}") from None


def resolved(config: SectionT) -> SectionT:
    """A model section with every key that follows another (`FOLLOWS` of its class) at the value
    that it comes to, so that two ways of saying the same model are equal."""
    follows = getattr(config, "FOLLOWS", {})
    return dataclasses.replace(
        config, **{key: getattr(config, source) for key, source in follows.items()})


def kept_layers(config: ModelSection) -> Kept:
    """What a model section itself says of the layers to keep."""
    found = {side: getattr(config, key, None) for side, key in LAYERS_TO_KEEP.items()}
    return {side: layers for side, layers in found.items() if layers is not None}


def with_layers(config: SectionT, counts: Mapping[str, int]) -> SectionT:
    """A model section with other numbers of layers, and none to leave out."""
    changes: dict[str, Any] = {}
    for side, count in counts.items():
        changes |= {f"{side}_layers": count, LAYERS_TO_KEEP[side]: None}
    return dataclasses.replace(config, **changes)


def prune(params: Mapping[str, Any], kept: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Parameters of the layers that stay, in their order; they are numbered from 0 again.

    Raises:
      ConfigError: there is no such layer.
    """
    result = dict(params)
    for side, layers in kept.items():
        result[side] = _pruned(params[side], tuple(layers), LAYERS_TO_KEEP[side])
    return result


def _pruned(tree: Mapping[str, Any], layers: tuple[int, ...], key: str) -> dict[str, Any]:
    """A side of a model with these layers of its stack, which may lie deeper."""
    result: dict[str, Any] = {}
    for name, value in tree.items():
        if name == "layers":
            count = jax.tree.leaves(value)[0].shape[0]
            if max(layers) >= count:
                raise ConfigError(
                    f"{key}: {', '.join(map(str, layers))}: the model has {count} layers there, "
                    "numbered from 0")
            value = jax.tree.map(lambda a: a[np.array(layers)], value)
        elif isinstance(value, Mapping):
            value = _pruned(value, layers, key)
        result[name] = value
    return result
