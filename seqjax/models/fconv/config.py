"""Configuration of the convolutional models and fairseq's named architectures.

Field names and defaults are fairseq's (`fconv`, `fconv_lm`); layers are given by its
expressions, `[(512, 3)] * 9 + [(1024, 3)] * 4`, which are read without evaluating code.
"""

from __future__ import annotations

import ast
import dataclasses
from typing import Any, Literal

from seqjax.config import gives
from seqjax.models.parts.configs import (
    LIMIT,
    ORIGIN,
    RUNTIME,
    TRAINING_ONLY,
    check_cutoffs,
    check_positive,
    check_rates,
)

_MOST = 1000
"""Layers that an expression may have."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvSpec:
    """One convolutional layer."""

    channels: int
    """Width of its output; it computes twice as many, for the gates."""
    width: int
    """Positions that it sees."""
    residual: int = 1
    """How many layers back its residual comes from (1: its own input; 0: none)."""


def parse_layers(expression: str, key: str) -> tuple[ConvSpec, ...]:
    """The layers that fairseq's expression says.

    Raises:
      ValueError: it is none; names `key`.
    """
    wrong = ValueError(
        f"config.model.{key}: {expression!r} is not a list of layers like "
        "'[(512, 3)] * 9 + [(1024, 3)]', each (channels, kernel width[, residual])"
    )
    value = _evaluate(expression, wrong)
    if not isinstance(value, list) or not value:
        raise wrong
    layers = []
    for i, spec in enumerate(value):
        if not isinstance(spec, tuple) or len(spec) not in (2, 3):
            raise wrong
        if not all(isinstance(n, int) and not isinstance(n, bool) for n in spec):
            raise wrong
        layer = ConvSpec(**dict(zip(("channels", "width", "residual"), spec, strict=False)))
        if layer.channels < 1 or layer.width < 1 or not 0 <= layer.residual <= i + 1:
            raise ValueError(
                f"config.model.{key}: layer {i} of {expression!r} is {spec}: channels and width "
                f"must be positive, the residual from 0 (none) to {i + 1} layers back"
            )
        layers.append(layer)
    return tuple(layers)


def parse_attention(expression: str, layers: int, key: str) -> tuple[bool, ...]:
    """Which of `layers` layers attend: 'True', 'False' or a list with one value a layer.

    Raises:
      ValueError: it is neither; names `key`.
    """
    wrong = ValueError(
        f"config.model.{key}: {expression!r} is neither True nor False nor a list of them, "
        f"one for each of the {layers} layers"
    )
    value = _evaluate(expression, wrong)
    if isinstance(value, bool):
        return (value,) * layers
    if not isinstance(value, list) or len(value) != layers:
        raise wrong
    if not all(isinstance(v, (bool, int)) for v in value):
        raise wrong
    return tuple(bool(v) for v in value)


def _evaluate(expression: str, wrong: ValueError) -> Any:
    """Lists, tuples, numbers, `+` and `*` of an expression; nothing else."""

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int)):
            return node.value
        if isinstance(node, ast.List):
            return [value(n) for n in node.elts]
        if isinstance(node, ast.Tuple):
            return tuple(value(n) for n in node.elts)
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mult)):
            a, b = value(node.left), value(node.right)
            if isinstance(node.op, ast.Add) and isinstance(a, list) and isinstance(b, list):
                result = a + b
            elif isinstance(a, list) and isinstance(b, int) and len(a) * b <= _MOST:
                result = a * b
            elif isinstance(b, list) and isinstance(a, int) and len(b) * a <= _MOST:
                result = b * a
            else:
                raise wrong
            if len(result) > _MOST:
                raise wrong
            return result
        raise wrong

    try:
        return value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError):
        raise wrong from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FConvConfig:
    """fairseq's `fconv`: gated convolutions with attention in every decoder layer."""

    name: Literal["fconv"] = "fconv"
    """Chooses the family of models."""
    arch: str | None = dataclasses.field(default=None, metadata=ORIGIN)
    """fairseq's architecture name; sets defaults of the other keys."""
    dropout: float = dataclasses.field(default=0.1, metadata=TRAINING_ONLY)
    """On the embeddings, the input of every layer and the input of the output projection."""
    encoder_embed_dim: int = 512
    """Width of the source embedding."""
    encoder_layers: str = "[(512, 3)] * 20"
    """fairseq's expression: a list of (channels, kernel width[, residual])."""
    decoder_embed_dim: int = 512
    """Width of the target embedding; it must be the encoder's."""
    decoder_layers: str = "[(512, 3)] * 20"
    """The same for the decoder."""
    decoder_out_embed_dim: int = 256
    """Width in front of the output projection."""
    decoder_attention: str = "True"
    """Which decoder layers attend: True, or a list with one value a layer."""
    share_input_output_embed: bool = False
    """The output projection is the target embedding."""
    max_source_positions: int = 1024
    """Rows of the table of positions; the first two belong to no position."""
    max_target_positions: int = 1024
    """The same for the target."""
    remat: Literal["none", "dots", "full"] = dataclasses.field(default="none", metadata=RUNTIME)
    """What the backward pass computes again: nothing, all but matrix products, all."""

    def __post_init__(self) -> None:
        check_rates(self, ("dropout",))
        check_positive(self, ("encoder_embed_dim", "decoder_embed_dim", "decoder_out_embed_dim"))
        for key in ("max_source_positions", "max_target_positions"):
            if getattr(self, key) < 3:
                raise ValueError(f"config.model.{key}: {getattr(self, key)} is less than 3")
        if not self.encoder_convolutions or not any(self.attending):
            raise ValueError("config.model.decoder_attention: no layer attends to the source")
        if self.encoder_embed_dim != self.decoder_embed_dim:
            raise ValueError(
                f"config.model: encoder_embed_dim ({self.encoder_embed_dim}) must equal "
                f"decoder_embed_dim ({self.decoder_embed_dim}): attention compares them"
            )
        if self.share_input_output_embed and self.decoder_embed_dim != self.decoder_out_embed_dim:
            raise ValueError(
                "config.model.share_input_output_embed needs decoder_embed_dim "
                f"({self.decoder_embed_dim}) equal to decoder_out_embed_dim "
                f"({self.decoder_out_embed_dim})"
            )

    @property
    def encoder_convolutions(self) -> tuple[ConvSpec, ...]:
        """The encoder's layers."""
        return parse_layers(self.encoder_layers, "encoder_layers")

    @property
    def decoder_convolutions(self) -> tuple[ConvSpec, ...]:
        """The decoder's layers."""
        return parse_layers(self.decoder_layers, "decoder_layers")

    @property
    def attending(self) -> tuple[bool, ...]:
        """Which of the decoder's layers attend."""
        return parse_attention(
            self.decoder_attention, len(self.decoder_convolutions), "decoder_attention"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FConvLanguageModelConfig:
    """fairseq's `fconv_lm`: gated convolutions without positions and without a source."""

    name: Literal["fconv_lm"] = "fconv_lm"
    """Chooses the family of models."""
    arch: str | None = dataclasses.field(default=None, metadata=ORIGIN)
    """fairseq's architecture name; sets defaults of the other keys."""
    dropout: float = dataclasses.field(default=0.1, metadata=TRAINING_ONLY)
    """On the embedding, the input of every layer and the input of an ordinary projection."""
    decoder_embed_dim: int = 128
    """Width of the embedding, and in front of an ordinary output projection."""
    decoder_layers: str = "[(1268, 4)] * 13"
    """fairseq's expression: a list of (channels, kernel width[, residual])."""
    adaptive_softmax_cutoff: tuple[int, ...] | None = dataclasses.field(
        default=None, metadata=gives("clusters"))
    """Ids at which a new cluster of the output layer begins (None: an ordinary softmax).
    Train with `loss.name=adaptive_loss`."""
    adaptive_softmax_dropout: float = dataclasses.field(default=0.0, metadata=TRAINING_ONLY)
    """In front of the output layer and inside its tail clusters."""
    max_target_positions: int = dataclasses.field(default=100_000, metadata=LIMIT)
    """Longest block of tokens."""
    remat: Literal["none", "dots", "full"] = dataclasses.field(default="none", metadata=RUNTIME)
    """What the backward pass computes again: nothing, all but matrix products, all."""

    def __post_init__(self) -> None:
        check_rates(self, ("dropout", "adaptive_softmax_dropout"))
        check_positive(self, ("decoder_embed_dim", "max_target_positions"))
        check_cutoffs(self.adaptive_softmax_cutoff)
        parse_layers(self.decoder_layers, "decoder_layers")

    @property
    def decoder_convolutions(self) -> tuple[ConvSpec, ...]:
        """The layers."""
        return parse_layers(self.decoder_layers, "decoder_layers")

    @property
    def attending(self) -> tuple[bool, ...]:
        """No layer attends."""
        return (False,) * len(self.decoder_convolutions)


_EN_DE = "[(512, 3)] * 9 + [(1024, 3)] * 4 + [(2048, 1)] * 2"
_EN_FR = (
    "[(512, 3)] * 6 + [(768, 3)] * 4 + [(1024, 3)] * 3 + [(2048, 1)] * 1 + [(4096, 1)] * 1"
)

ARCHS: dict[str, dict[str, Any]] = {
    "fconv": {},
    "fconv_iwslt_de_en": {
        "encoder_embed_dim": 256, "encoder_layers": "[(256, 3)] * 4",
        "decoder_embed_dim": 256, "decoder_layers": "[(256, 3)] * 3",
        "decoder_out_embed_dim": 256,
    },
    "fconv_wmt_en_ro": {"decoder_out_embed_dim": 512},
    "fconv_wmt_en_de": {
        "encoder_embed_dim": 768, "encoder_layers": _EN_DE, "decoder_embed_dim": 768,
        "decoder_layers": _EN_DE, "decoder_out_embed_dim": 512,
    },
    "fconv_wmt_en_fr": {
        "encoder_embed_dim": 768, "encoder_layers": _EN_FR, "decoder_embed_dim": 768,
        "decoder_layers": _EN_FR, "decoder_out_embed_dim": 512,
    },
}
"""fairseq architecture name -> the defaults that it changes."""

LM_ARCHS: dict[str, dict[str, Any]] = {
    "fconv_lm": {},
    "fconv_lm_dauphin_wikitext103": {
        "decoder_embed_dim": 280,
        "decoder_layers": (
            "[(850, 6)] * 3 + [(850, 1)] * 1 + [(850, 5)] * 4 + [(850, 1)] * 1 + [(850, 4)] * 3"
            " + [(1024, 4)] * 1 + [(2048, 4)] * 1"
        ),
        "adaptive_softmax_cutoff": (10000, 20000, 200000),
    },
    "fconv_lm_dauphin_gbw": {
        "decoder_embed_dim": 128,
        "decoder_layers": (
            "[(512, 5)] + [(128, 1, 0), (128, 5, 0), (512, 1, 3)] * 3"
            " + [(512, 1, 0), (512, 5, 0), (1024, 1, 3)] * 3"
            " + [(1024, 1, 0), (1024, 5, 0), (2048, 1, 3)] * 6"
            " + [(1024, 1, 0), (1024, 5, 0), (4096, 1, 3)]"
        ),
        "adaptive_softmax_cutoff": (10000, 50000, 200000),
    },
}
"""Likewise for language models."""
