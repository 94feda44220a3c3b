"""fairseq's `roberta`: the names of its weights and their history.

In 2019 the encoder was called a decoder, and its norm behind the embeddings `emb_layer_norm`;
attention's q, k, v were stacked in `in_proj_weight`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from seqjax.config import ConfigError
from seqjax.models.parts import heads_config as heads
from seqjax.models.parts import module_order as order
from seqjax.models.roberta.config import RobertaConfig
from seqjax.models.tables import ConfigKeys, FairseqTable, State, WeightNames
from seqjax.models.transformer.fairseq import (
    OWN,
    check_attention,
    check_own,
    drop_empty,
    split_in_proj,
    version,
)

_ENCODER = "encoder.sentence_encoder"
_TABLE, _OUTPUT = f"{_ENCODER}.embed_tokens.weight", "encoder.lm_head.weight"
_NORMED = 2
"""The first version of an encoder whose pre-norm stack ends in a norm."""


def upgrade(state: State, config: RobertaConfig) -> tuple[State, RobertaConfig]:
    """Today's names; a pre-norm stack that does not tell its version goes without a norm
    behind it, as in fairseq. Which heads there are, the weights tell."""
    result: State = {}
    for name, value in split_in_proj(state).items():
        name = name.replace(".emb_layer_norm.", ".layernorm_embedding.")
        name = f"encoder{name.removeprefix('decoder')}" if name.startswith("decoder") else name
        result[name] = value
    if config.encoder_normalize_before and version(result, _ENCODER) < _NORMED:
        config = dataclasses.replace(config, no_encoder_final_norm=True)
        for leaf in ("weight", "bias"):
            result.pop(f"{_ENCODER}.layer_norm.{leaf}", None)
    return result, heads.with_heads_of(result, config)


def copies(config: RobertaConfig) -> Mapping[str, str]:
    """The head's output layer, which fairseq writes also where it is the embedding."""
    return {} if config.untie_weights_roberta else {_OUTPUT: _TABLE}


def constants(config: RobertaConfig) -> State:
    """The version of the encoder's format; that it has no final norm can be said in no other
    way."""
    early = config.encoder_normalize_before and config.no_encoder_final_norm
    return {f"{_ENCODER}.version": np.array([1 if early else 3], np.float32)}


def derive(values: dict, explicit: set[str]) -> None:
    """The number of layers is that of those to keep."""
    del explicit
    drop_empty(values)
    RobertaConfig.follow(values)


ORDER = (
    "encoder", "sentence_encoder", "lm_head", *order.EMBEDDING, "layers", "self_attn",
    "self_attn_layer_norm", "fc1", "fc2", "final_layer_norm", *order.ATTENTION[:-1], *order.ARRAYS,
    "dense", "layer_norm", order.ATTENTION[-1], heads.HEADS)
"""As in fairseq's `RobertaEncoder`, in its `RobertaLMHead`, whose own arrays are in front, and in
`RobertaClassificationHead`."""


def check_export(config: RobertaConfig) -> None:
    """Raises ConfigError for a model that fairseq cannot build, naming the key."""
    check_own(config)
    if config.token_types or not config.masked_lm_head:
        key = "token_types" if config.token_types else "masked_lm_head"
        raise ConfigError(f"config.model.{key} is {getattr(config, key)!r}: fairseq's models have "
                          "no kinds of tokens, and always a head for masked words")


TABLE = FairseqTable(
    check_export=check_export,
    keys=ConfigKeys(
        refused={**heads.REFUSED, "mha_heads_to_keep": (-1,), "ffn_blocks_to_remove": (-1,)},
        dropped={
            "quant_noise_pq": (0, 0.0), "quant_noise_scalar": (0, 0.0),
            "mha_reg_scale_factor": (0, 0.0), "ffn_reg_scale_factor": (0, 0.0),
        },
        aliases={"tokens_per_sample": "max_positions", "relu_dropout": "activation_dropout"},
        check=check_attention, derive=derive,
    ),
    names=WeightNames(
        vocabulary=lambda state: (state[_TABLE].shape[0], state[_TABLE].shape[0]),
        upgrade=upgrade,
        ignored=(
            r"encoder\.sentence_encoder\.version",
            r"encoder\.sentence_encoder\.embed_positions\.(_float_tensor|weights)",
        ),
        idle=(r"encoder\.lm_head\..*", rf"{heads.HEADS}\..*"),
        copies=copies,
        constants=constants,
        order=ORDER,
        chosen=(heads.HEADS,),
    ),
    unsaid=("no_encoder_final_norm", "token_types", "masked_lm_head", *OWN, *heads.UNSAID),
)
