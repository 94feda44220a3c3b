"""Configuration of RoBERTa and fairseq's named architectures.

Field names and defaults are fairseq's; XLM-R and CamemBERT are `roberta_base` and
`roberta_large` with dictionaries of their own.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

from seqjax.models.parts.configs import (
    HEAD,
    ORIGIN,
    TRAINING_ONLY,
    check_layers,
    check_rates,
    follow_kept,
    limit,
)
from seqjax.models.parts.heads_config import ClassificationHeadsConfig
from seqjax.models.transformer.config import EncoderOnlyConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobertaConfig(ClassificationHeadsConfig, EncoderOnlyConfig):
    """fairseq's `roberta`: an encoder with a head that predicts masked tokens, and heads that
    classify sentences."""

    name: Literal["roberta"] = "roberta"
    """Chooses the family of models."""
    arch: str | None = dataclasses.field(default=None, metadata=ORIGIN)
    """fairseq's architecture name; sets defaults of the other keys."""
    activation_fn: Literal[
        "relu", "gelu", "gelu_fast", "gelu_accurate", "tanh", "linear", "swish"
    ] = "gelu"
    """Of the feed-forward network and of the head."""
    attention_dropout: float = dataclasses.field(default=0.1, metadata=TRAINING_ONLY)
    """On the weights of the attention."""
    encoder_embed_dim: int = 768
    """Width of the encoder."""
    encoder_ffn_embed_dim: int = 3072
    """Inner width of the feed-forward network."""
    encoder_layers: int = 12
    """Layers of the encoder."""
    encoder_attention_heads: int = 12
    """Heads of the attention; the width is a multiple of them."""
    encoder_learned_pos: bool = True
    """Learned positions instead of sinusoids."""
    layernorm_embedding: bool = True
    """A norm behind the embeddings."""
    no_scale_embedding: bool = True
    """Embeddings are not multiplied by the square root of their width."""
    no_encoder_final_norm: bool = False
    """A pre-norm encoder without a norm behind its last layer, as fairseq takes files to be
    that do not tell their version."""
    untie_weights_roberta: bool = False
    """The head has an output layer of its own instead of the embedding."""
    masked_lm_head: bool = dataclasses.field(default=True, metadata=HEAD)
    """The head that predicts masked tokens. False: states are all that the model gives, as of
    models that were published without it."""
    token_types: int = 0
    """Rows of an embedding of kinds of tokens, of which the first is added to every token (of a
    BERT the second to those of the second text of a pair; 0: none, as in fairseq)."""
    max_positions: int = dataclasses.field(
        default=512, metadata=limit(table="encoder_learned_pos"))
    """Longest sentence, special symbols included (with learned positions: rows of their
    table)."""

    marks_pairs: ClassVar[bool] = False
    """Whether a pair is `<s> a </s> b </s>` with tokens of two kinds (BERT's), not `<s> a </s>
    </s> b </s>` with tokens of one."""

    @staticmethod
    def follow(values: dict[str, Any]) -> None:
        """Where layers are left out, their number is that of those that stay."""
        follow_kept(values)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_layers(self)
        if self.token_types < 0:
            raise ValueError(f"config.model.token_types: {self.token_types} is negative")
        self.check_form()
        if self.encoder_attention_heads < 1 or (
                self.encoder_embed_dim % self.encoder_attention_heads):
            raise ValueError(
                f"config.model: encoder_embed_dim {self.encoder_embed_dim} is not a multiple of "
                f"encoder_attention_heads {self.encoder_attention_heads}")
        check_rates(self, (
            "dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop"))

    @property
    def max_source_positions(self) -> int:
        """`max_positions`, by the name under which encoders know it."""
        return self.max_positions


_LARGE = {
    "encoder_layers": 24, "encoder_embed_dim": 1024, "encoder_ffn_embed_dim": 4096,
    "encoder_attention_heads": 16,
}

ARCHS: dict[str, dict[str, Any]] = {
    "roberta": {},
    "roberta_base": {},
    "roberta_large": _LARGE,
    "roberta_prenorm": {"layernorm_embedding": False, "encoder_normalize_before": True},
    "xlm": {
        "encoder_layers": 16, "encoder_embed_dim": 1280, "encoder_ffn_embed_dim": 5120,
        "encoder_attention_heads": 16,
    },
}
"""fairseq architecture name -> the defaults that it changes."""
