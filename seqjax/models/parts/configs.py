"""What configurations of models share: sections of keys, and checks that raise ValueError
naming the key. Configuration in, nothing computed; no family is known here."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """How a stack of layers is compiled. Every model's configuration has these."""

    scan_unroll: int = 0
    """Layers unrolled in one step of the scan over depth (0: all, fastest to run; 1: a
    true loop, fastest to compile)."""
    remat: Literal["none", "dots", "full"] = "none"
    """What the backward pass computes again: nothing, all but matrix products, all."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptiveSoftmaxConfig:
    """An output layer whose rare words are narrow (Grave et al. 2017)."""

    adaptive_softmax_cutoff: tuple[int, ...] | None = None
    """Ids at which a new cluster of the output layer begins (None: an ordinary softmax).
    Train with `loss.name=adaptive_loss`."""
    adaptive_softmax_factor: float = 4.0
    """Each tail cluster has this many times fewer dimensions than the one before."""
    adaptive_softmax_dropout: float = 0.0
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


def check_layers(config: Any) -> None:
    """Raises ValueError where layers to keep and the number of layers disagree."""
    for side, key in LAYERS_TO_KEEP.items():
        layers, count = getattr(config, key, None), getattr(config, f"{side}_layers", 0)
        if layers is not None and len(check_kept(f"config.model.{key}", layers)) != count:
            raise ValueError(
                f"config.model.{key}: {layers} are {len(layers)} layers, but {side}_layers is "
                f"{count}")


def check_bands(config: Any, key: str) -> None:
    """Raises ValueError for `KEY_cutoff` or `KEY_factor` that make no bands."""
    cutoffs = getattr(config, f"{key}_cutoff")
    if cutoffs is not None and (
        not cutoffs or cutoffs[0] < 5 or list(cutoffs) != sorted(set(cutoffs))
    ):
        raise ValueError(
            f"config.model.{key}_cutoff: {cutoffs}; ids must grow, the first above 4")
    if getattr(config, f"{key}_factor") < 1.0:
        raise ValueError(f"config.model.{key}_factor: must be 1 or more")


def check_rates(config: Any, names: tuple[str, ...]) -> None:
    """Raises ValueError for a dropout rate outside of [0, 1)."""
    for name in names:
        rate = getattr(config, name)
        if rate is not None and not 0.0 <= rate < 1.0:
            raise ValueError(f"config.model.{name}: {rate} is not in [0, 1)")


def check_positive(config: Any, names: tuple[str, ...]) -> None:
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
