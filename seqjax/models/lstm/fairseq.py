"""fairseq's `lstm` and `lstm_lm`: the names of their weights.

torch numbers the encoder's matrices by layer and direction (`weight_ih_l0_reverse`), the
decoder's layers are cells of their own. Gates are in torch's order in both worlds.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from seqjax.models.lstm.config import LSTMConfig, LSTMLanguageModelConfig
from seqjax.models.parts import adaptive_names as adaptive
from seqjax.models.parts import module_order as order
from seqjax.models.parts.outputs import ADAPTIVE_FACTOR
from seqjax.models.tables import ConfigKeys, FairseqTable, State, WeightNames

_RENAMES = (
    (r"^encoder\.lstm\.(l\d+(?:_reverse)?)\.(ih|hh)\.(weight|bias)$", r"encoder.lstm.\3_\2_\1"),
    (r"^decoder\.layers_(\d+)\.(ih|hh)\.(weight|bias)$", r"decoder.layers.\1.\3_\2"),
    *adaptive.RENAMES,
)


_ORDER = (
    "encoder", "decoder", "embed_tokens", "lstm", "encoder_hidden_proj", "encoder_cell_proj",
    "layers", "attention", "additional_fc", "adaptive_softmax", "fc_out",
    "input_proj", "output_proj", *order.ADAPTIVE,
    "weight_ih", "weight_hh", "weight", "bias", "bias_ih", "bias_hh")


def _place(part: str) -> tuple[int, ...] | None:
    """torch's order of an LSTM's arrays: layer by layer, forwards and backwards."""
    found = re.fullmatch(r"(weight|bias)_(ih|hh)_l(\d+)(_reverse)?", part)
    if found is None:
        return None
    kind, into, layer, backwards = found.groups()
    return int(layer), backwards is not None, kind == "bias", into == "hh"


def upgrade(
    state: State, config: LSTMConfig | LSTMLanguageModelConfig
) -> tuple[State, LSTMConfig | LSTMLanguageModelConfig]:
    """Every file names cutoffs of an adaptive softmax; few have one."""
    if "decoder.adaptive_softmax.head.weight" not in state:
        config = dataclasses.replace(config, adaptive_softmax_cutoff=None)
    return state, config


def copies(config: LSTMConfig | LSTMLanguageModelConfig) -> Mapping[str, str]:
    """The embedding that encoder and decoder share is written twice."""
    if not getattr(config, "share_all_embeddings", False):
        return {}
    return {"decoder.embed_tokens.weight": "encoder.embed_tokens.weight"}


def _constants(config: LSTMConfig | LSTMLanguageModelConfig) -> State:
    softmax = config.adaptive_softmax_cutoff is not None
    return adaptive.constants(softmax=softmax, adaptive_input=False, tied=False)


def _embedding_rows(state: State, side: str) -> int:
    return state[f"{side}.embed_tokens.weight"].shape[0]


NAMES = WeightNames(
    vocabulary=lambda state: (
        _embedding_rows(state, "encoder"), _embedding_rows(state, "decoder")),
    upgrade=upgrade,
    empty=lambda config, size: adaptive.empty_tails(
        config.decoder_width, ADAPTIVE_FACTOR, config, size),
    ignored=adaptive.IGNORED,
    copies=copies,
    constants=_constants,
    renames=_RENAMES,
    stacks=(),
    order=_ORDER,
    place=_place,
)

TABLE = FairseqTable(
    keys=ConfigKeys(refused={}), names=NAMES,
    as_trained=adaptive.by_criterion((10_000, 50_000, 200_000)),
)
LM_TABLE = dataclasses.replace(
    TABLE, keys=ConfigKeys(refused={}, aliases={"tokens_per_sample": "max_target_positions"}),
    names=dataclasses.replace(NAMES, vocabulary=lambda state: (
        _embedding_rows(state, "decoder"), _output_rows(state))),
)


def _output_rows(state: State) -> int:
    """Entries that are predicted: fairseq can cut the output short."""
    if "decoder.fc_out.weight" in state:
        return state["decoder.fc_out.weight"].shape[0]
    return _embedding_rows(state, "decoder")
