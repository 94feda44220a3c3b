"""The keys of a model's section that shared parts read, as protocols: a family's dataclass in,
checked to have them before anything runs.

A part takes the smallest that it can do with; code of one family takes the family's own.
"""

from __future__ import annotations

from typing import Protocol

from seqjax.config import ModelSection


class DropoutKeys(Protocol):
    """Of a stack of layers."""

    @property
    def dropout(self) -> float: ...


class PositionKeys(Protocol):
    """Of a decoder's positions."""

    @property
    def no_token_positional_embeddings(self) -> bool: ...
    @property
    def decoder_learned_pos(self) -> bool: ...
    @property
    def max_target_positions(self) -> int: ...


class DecoderEndsKeys(DropoutKeys, PositionKeys, Protocol):
    """Of what stands in front of a decoder's layers and behind them."""

    @property
    def input_dim(self) -> int: ...
    @property
    def output_dim(self) -> int: ...


class NormFormerKeys(Protocol):
    """Of what NormFormer adds to a decoder's layer, and of its sizes."""

    @property
    def scale_heads(self) -> bool: ...
    @property
    def scale_resids(self) -> bool: ...
    @property
    def scale_attn(self) -> bool: ...
    @property
    def scale_fc(self) -> bool: ...
    @property
    def decoder_attention_heads(self) -> int: ...
    @property
    def decoder_embed_dim(self) -> int: ...
    @property
    def decoder_ffn_embed_dim(self) -> int: ...


class CutoffKeys(ModelSection, Protocol):
    """Of the clusters of an adaptive softmax."""

    @property
    def adaptive_softmax_cutoff(self) -> tuple[int, ...] | None: ...


class SoftmaxKeys(Protocol):
    """Of the widths of an adaptive softmax."""

    @property
    def output_dim(self) -> int: ...
    @property
    def adaptive_softmax_factor(self) -> float: ...


class UsualSoftmaxKeys(CutoffKeys, SoftmaxKeys, Protocol):
    """Of an adaptive softmax, all."""


class AdaptiveInputKeys(Protocol):
    """Of the bands of an adaptive input."""

    @property
    def adaptive_input_dim(self) -> int: ...
    @property
    def adaptive_input_factor(self) -> float: ...


class EncoderDecoderKeys(ModelSection, Protocol):
    """Of a sequence-to-sequence model that is one module."""

    @property
    def max_source_positions(self) -> int: ...
    @property
    def shares_input(self) -> bool: ...
    @property
    def ties_output(self) -> bool: ...


class LanguageModelKeys(UsualSoftmaxKeys, AdaptiveInputKeys, Protocol):
    """Of a language model that is one module."""

    @property
    def share_decoder_input_output_embed(self) -> bool: ...
    @property
    def adaptive_input(self) -> bool: ...
    @property
    def adaptive_input_cutoff(self) -> tuple[int, ...] | None: ...
    @property
    def tie_adaptive_weights(self) -> bool: ...
