"""BART: a transformer that was trained to undo noise (Lewis et al. 2020).

Keys in fairseq's words in, the transformer's model out, which begins as BERT does. Of its own
BART has its defaults and heads for classification, which read the decoder's last state.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, cast

from seqjax.models.family import Family
from seqjax.models.parts import heads_config as heads
from seqjax.models.tables import State
from seqjax.models.transformer import fairseq
from seqjax.models.transformer.config import ClassifyingTransformerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class BartConfig(ClassifyingTransformerConfig):
    """fairseq's `bart`, by default `bart_large`."""

    name: Literal["bart"] = "bart"  # type: ignore[assignment]
    """Chooses the family of models."""
    activation_fn: Literal[
        "relu", "gelu", "gelu_fast", "gelu_accurate", "tanh", "linear", "swish"
    ] = "gelu"
    """Of the feed-forward network."""
    encoder_embed_dim: int = 1024
    """Width of the encoder."""
    encoder_ffn_embed_dim: int = 4096
    """Inner width of the feed-forward network."""
    encoder_layers: int = 12
    """Layers of the encoder."""
    encoder_attention_heads: int = 16
    """Heads of the attention; the width is a multiple of them."""
    encoder_learned_pos: bool = True
    """Learned positions instead of sinusoids."""
    decoder_embed_dim: int = 1024
    """Width of the decoder."""
    decoder_ffn_embed_dim: int = 4096
    """Inner width of the feed-forward network."""
    decoder_layers: int = 12
    """Layers of the decoder."""
    decoder_attention_heads: int = 16
    """Heads of the attention; the width is a multiple of them."""
    decoder_learned_pos: bool = True
    """Learned positions instead of sinusoids."""
    share_decoder_input_output_embed: bool = True
    """The output projection is the target embedding (not with an adaptive softmax)."""
    share_all_embeddings: bool = True
    """One embedding for source, target and output."""
    no_scale_embedding: bool = True
    """Embeddings are not multiplied by the square root of their width."""
    layernorm_embedding: bool = True
    """A norm behind the embeddings."""


ARCHS: dict[str, dict[str, Any]] = {
    "bart_large": {},
    "bart_base": {
        "encoder_embed_dim": 768, "encoder_ffn_embed_dim": 3072, "encoder_layers": 6,
        "encoder_attention_heads": 12, "decoder_layers": 6, "decoder_attention_heads": 12,
    },
}
"""fairseq architecture name -> the defaults that it changes."""


def upgrade(state: State, config: BartConfig) -> tuple[State, BartConfig]:
    """Today's names, as the transformer's; which heads there are, the weights tell."""
    state, found = fairseq.upgrade(state, config)
    return state, heads.with_heads_of(state, cast(BartConfig, found))


FAIRSEQ = dataclasses.replace(
    fairseq.TABLE,
    keys=dataclasses.replace(
        fairseq.KEYS, refused={**fairseq.KEYS.refused, **heads.REFUSED}),
    names=dataclasses.replace(
        fairseq.NAMES, upgrade=upgrade, chosen=(heads.HEADS,),
        idle=(r"decoder\.output_projection\.weight", rf"{heads.HEADS}\..*"),
        order=("dense", *fairseq.NAMES.order, heads.HEADS)),
    unsaid=(*fairseq.TABLE.unsaid, *heads.UNSAID),
    arch=lambda config: config.arch or "bart_large",  # there is none of the family's own name
)

FAMILIES = (
    Family(
        name="bart", config=BartConfig, archs=ARCHS,
        model="seqjax.models.transformer.classifier:ClassifyingTransformerModel",
        fairseq="seqjax.models.bart:FAIRSEQ",
    ),
)
