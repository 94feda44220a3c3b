"""Configuration keys that models of waveforms share: convolutions over samples, and masks.

Given a section's fields, says how many frames there are of some samples and what spans are
masked. Importing it costs no JAX.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
from typing import Any, Literal

from seqjax.models.parts.configs import TRAINING_ONLY

MaskSelection = Literal["static", "uniform", "normal", "poisson"]
"""How long a masked span is: `mask_length`; uniform from `mask_other` to twice `mask_length`;
normal around `mask_length` with a deviation of `mask_other`; Poisson around `mask_length`."""


@dataclasses.dataclass(frozen=True)
class ConvLayer:
    """One convolution over samples or over the frames of the convolution before it."""

    channels: int
    """What it gives."""
    width: int
    """Inputs that one output sees."""
    stride: int
    """Inputs from one output to the next."""


@functools.lru_cache(maxsize=64)
def conv_layers(text: str, *, key: str = "config.model.conv_feature_layers") -> tuple[
        ConvLayer, ...]:
    """The layers that an expression like `[(512, 10, 5)] + [(512, 3, 2)] * 4` means.

    Args:
      text: lists of (channels, width, stride), added and repeated.
      key: what an error names.

    Raises:
      ValueError: something else, or a size below 1.
    """
    wrong = f"{key}: {text!r} is no list of (channels, width, stride), such as [(512, 10, 5)] * 2"
    try:
        layers = _value(ast.parse(text.strip(), mode="eval").body)
        result = tuple(ConvLayer(*layer) for layer in layers)
    except (SyntaxError, TypeError, ValueError):
        raise ValueError(wrong) from None
    sizes = [size for layer in result for size in dataclasses.astuple(layer)]
    if not sizes or any(not isinstance(size, int) or size < 1 for size in sizes):
        raise ValueError(wrong)
    return result


def _value(node: ast.expr) -> Any:
    """Of an expression of literals, sums and products."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mult))):
        return ast.literal_eval(node)
    left, right = _value(node.left), _value(node.right)
    if isinstance(node.op, ast.Add):
        if not (isinstance(left, list) and isinstance(right, list)):
            raise ValueError("a sum of something else than lists")
        return left + right
    some, times = (left, right) if isinstance(left, list) else (right, left)
    if not isinstance(some, list) or not isinstance(times, int) or times > 1000:
        raise ValueError("no list, or far too long a one")
    return some * times


def frame_count(samples: Any, layers: tuple[ConvLayer, ...]) -> Any:
    """How many frames convolutions without padding make of some samples, at least 0.

    Args:
      samples: a number, or an integer array of them.

    Returns:
      Likewise.
    """
    for layer in layers:
        samples = (samples - layer.width) // layer.stride + 1
    return samples * (samples > 0)


def receptive_field(layers: tuple[ConvLayer, ...]) -> int:
    """The samples that one frame is made of."""
    samples = 1
    for layer in reversed(layers):
        samples = (samples - 1) * layer.stride + layer.width
    return samples


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """Which frames, and which channels of all frames, are masked. A model is told; these keys
    are for who draws them (`parts.masking`)."""

    mask_length: int = dataclasses.field(default=10, metadata=TRAINING_ONLY)
    """Frames of a masked span."""
    mask_prob: float = dataclasses.field(default=0.65, metadata=TRAINING_ONLY)
    """Share of frames that would be masked if no spans overlapped (0: none are)."""
    mask_selection: MaskSelection = dataclasses.field(default="static", metadata=TRAINING_ONLY)
    """How long a span is."""
    mask_other: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """The further number of `mask_selection`."""
    no_mask_overlap: bool = dataclasses.field(default=False, metadata=TRAINING_ONLY)
    """Spans do not overlap."""
    mask_min_space: int = dataclasses.field(default=1, metadata=TRAINING_ONLY)
    """With no_mask_overlap: frames between two spans, at least."""
    mask_channel_length: int = dataclasses.field(default=10, metadata=TRAINING_ONLY)
    """Channels of a masked span of channels."""
    mask_channel_prob: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """As `mask_prob`, of channels; these become 0 in all frames of a row."""
    mask_channel_selection: MaskSelection = dataclasses.field(
        default="static", metadata=TRAINING_ONLY)
    """As `mask_selection`."""
    mask_channel_other: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """As `mask_other`."""
    no_mask_channel_overlap: bool = dataclasses.field(default=False, metadata=TRAINING_ONLY)
    """As `no_mask_overlap`."""
    mask_channel_min_space: int = dataclasses.field(default=1, metadata=TRAINING_ONLY)
    """As `mask_min_space`."""

    def check_masks(self) -> None:
        """Raises ValueError for a share outside of [0, 1] or a length below 1."""
        for kind in ("mask", "mask_channel"):
            share, length = getattr(self, f"{kind}_prob"), getattr(self, f"{kind}_length")
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"config.model.{kind}_prob: {share} is not in [0, 1]")
            if length < 1:
                raise ValueError(f"config.model.{kind}_length: {length} is not positive")
            for name, least in ((f"{kind}_other", 0.0), (f"{kind}_min_space", 0)):
                if getattr(self, name) < least:
                    raise ValueError(
                        f"config.model.{name}: {getattr(self, name)} is below {least}")
