"""Marian: the translation models of OPUS-MT (Junczys-Dowmunt et al. 2018, Tiedemann et al. 2020).

Keys in fairseq's words in, the transformer's model out: post-norm, its sinusoids those of the
paper and counted from 0, a bias on its logits, and a decoder that begins with padding's symbol.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from seqjax.config import ConfigError
from seqjax.models.family import Family
from seqjax.models.tables import HuggingFaceKeys, HuggingFaceTable, State, WeightNames
from seqjax.models.transformer import huggingface
from seqjax.models.transformer.config import TransformerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class MarianConfig(TransformerConfig):
    """By default that of OPUS-MT's models: `transformer-align` of Marian's own configuration."""

    name: Literal["marian"] = "marian"  # type: ignore[assignment]
    """Chooses the family of models."""
    activation_fn: Literal[
        "relu", "gelu", "gelu_fast", "gelu_accurate", "tanh", "linear", "swish"
    ] = "swish"
    """Of the feed-forward network."""
    position_offset: int | None = 0
    """Position of the first token: of sinusoids, or the row of the table of learned positions,
    which has this many more rows (None: one behind padding's id, as in fairseq)."""
    sinusoid_spacing: Literal["inclusive", "exclusive"] = "exclusive"
    """Of the frequencies of sinusoids, which go from 1 down to 1/10000: `inclusive` of that, as
    in tensor2tensor and fairseq, or `exclusive`, as in Vaswani et al. 2017."""
    share_decoder_input_output_embed: bool = True
    """The output projection is the target embedding (not with an adaptive softmax)."""
    share_all_embeddings: bool = True
    """One embedding for source, target and output."""
    output_bias: bool = True
    """A bias of each word's logit (not with an adaptive softmax)."""
    pad_begins: bool = True
    """What the decoder reads begins with padding's symbol, which there is a token as any other."""


SOURCE = "model.encoder.embed_tokens.weight"


def upgrade(state: State, config: MarianConfig) -> tuple[State, MarianConfig]:
    """The source's embedding by the name of the shared one, also where it is the source's own."""
    if not config.shares_input and SOURCE in state:
        if huggingface.EMBEDDING in state:
            raise ConfigError(f"{huggingface.EMBEDDING}: an embedding that both sides share, "
                              "beside share_encoder_decoder_embeddings: False")
        state = {huggingface.EMBEDDING if name == SOURCE else name: value
                 for name, value in state.items()}
    return huggingface.with_bias(state, config)


def join(state: State, config: MarianConfig) -> State:
    """And back."""
    state = huggingface.join_bias(state, config)
    if config.shares_input:
        return state
    return {SOURCE if name == huggingface.EMBEDDING else name: value
            for name, value in state.items()}


KEYS = HuggingFaceKeys(
    ours={**huggingface.SEQ2SEQ_KEYS,
          "share_encoder_decoder_embeddings": ("share_all_embeddings",),
          "tie_word_embeddings": ("share_decoder_input_output_embed",)},
    defaults={**huggingface.SEQ2SEQ_DEFAULTS, "share_encoder_decoder_embeddings": True},
    spelled=huggingface.SPELLED, fixed={"is_encoder_decoder": (True,)},
    always={"position_offset": 0, "sinusoid_spacing": "exclusive"},
)


def read(hf: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of `config.model`; see `HuggingFaceTable.config_from`."""
    found = KEYS.read(hf)
    if found["share_all_embeddings"] and not found["share_decoder_input_output_embed"]:
        raise ConfigError(
            "tie_word_embeddings: False is not supported beside share_encoder_decoder_embeddings: "
            "True, under which transformers 5 ties nothing and keeps a shared embedding that "
            "nobody reads")
    pad, start = hf.get("pad_token_id", 58100), hf.get("decoder_start_token_id", 58100)
    return {**found, "pad_begins": pad == start}


HUGGINGFACE = HuggingFaceTable(
    model_types=("marian",), architectures=("MarianMTModel", "MarianModel"),
    config_from=read,
    config_to=huggingface.writer(KEYS, read, elsewhere={
        "output_bias": (False, True), "pad_begins": (False, True)}),
    names=WeightNames(
        vocabulary=huggingface.vocabulary, upgrade=upgrade, ignored=huggingface.IGNORED,
        copies=huggingface.copies, renames=huggingface.RENAMES,
        transforms=((huggingface.BIAS, huggingface.ROW),)),
    join=join, prefix="model.",
    special={"bos_token_id": None, "pad_token_id": 58100, "eos_token_id": 0,
             "decoder_start_token_id": 58100},
    vocabularies=("vocab_size", "decoder_vocab_size"),
)

FAMILIES = (
    Family(
        name="marian", config=MarianConfig, archs={},
        model="seqjax.models.transformer.model:TransformerModel",
        huggingface=("seqjax.models.marian:HUGGINGFACE",),
    ),
)
