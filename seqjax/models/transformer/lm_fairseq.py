"""fairseq's `transformer_lm`: the names of its weights and their history.

What an adaptive softmax shares with an adaptive input, fairseq writes under both names.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from seqjax.config import ConfigError
from seqjax.models.parts import adaptive_names as adaptive
from seqjax.models.parts.keys import LanguageModelKeys
from seqjax.models.tables import ConfigKeys, FairseqTable, State, WeightNames
from seqjax.models.transformer.fairseq import (
    ORDER,
    OWN,
    check_attention,
    check_own,
    drop_empty,
    number_norms,
    split_in_proj,
)
from seqjax.models.transformer.lm_config import TransformerLanguageModelConfig

_OUTPUT = "decoder.output_projection.weight"
_WORDS = "decoder.embed_tokens.weight"


def upgrade(
    state: State, config: TransformerLanguageModelConfig
) -> tuple[State, TransformerLanguageModelConfig]:
    """Today's names, and what old files tell by their weights alone.

    Old files have keys for final norms and tied projections that mean something else; the
    weights are clear: a final norm is there or not, tied projections are equal.
    """
    state = number_norms(split_in_proj(state))
    if "decoder.embed_out" in state and _OUTPUT not in state:
        state[_OUTPUT] = state.pop("decoder.embed_out")
    if "decoder.adaptive_softmax.head.weight" in state and config.tie_adaptive_weights:
        raise ConfigError(
            "the checkpoint's adaptive softmax has a head of its own, but its config says"
            " tie_adaptive_weights")
    config = dataclasses.replace(config, **{
        key: False for key, name in SCALES.items() if not has_layer_weight(state, name)})
    version = state.get("decoder.version")
    old = version is None or float(np.asarray(version).reshape(-1)[0]) <= 2
    if config.decoder_normalize_before:
        if old:
            for leaf in ("weight", "bias"):
                state.pop(f"decoder.layer_norm.{leaf}", None)
        if "decoder.layer_norm.weight" not in state:
            config = dataclasses.replace(config, no_decoder_final_norm=True)
    if config.tie_adaptive_weights and not config.tie_adaptive_proj:
        pair = [state.get(n) for n in ("decoder.adaptive_softmax.tail.0.0.weight",
                                       "decoder.embed_tokens.embeddings.1.1.weight")]
        if pair[0] is not None and pair[1] is not None and np.array_equal(pair[0], pair[1]):
            config = dataclasses.replace(config, tie_adaptive_proj=True)
    return state, _without_last_cutoff(config, state)


SCALES = {"scale_attn": "attn_ln", "scale_fc": "ffn_layernorm", "scale_heads": "c_attn",
          "scale_resids": "w_resid"}
"""NormFormer's keys -> their weights. fairseq's language models take the keys, save them and
build none of it, so that only the weights tell."""


def has_layer_weight(state: State, name: str) -> bool:
    """Whether any layer of the decoder has weights of this name."""
    return any(re.fullmatch(rf"decoder\.layers\.\d+\.{name}(\..*)?", n) for n in state)


def as_trained(
    config: TransformerLanguageModelConfig, criterion: str
) -> TransformerLanguageModelConfig:
    """Without what fairseq's language models ignore."""
    return dataclasses.replace(config, **dict.fromkeys(SCALES, False))


def check_export(config: TransformerLanguageModelConfig) -> None:
    """Raises ConfigError for what fairseq's language models do not have, or ignore: the model that
    it would build has no place for these weights."""
    check_own(config)
    wrong = [key for key in SCALES if getattr(config, key)]
    if wrong:
        raise ConfigError(
            f"fairseq's language models take no notice of {', '.join(wrong)} and have no place "
            "for their weights: a language model that was trained with them cannot be given to "
            "fairseq (a translation model can)")


def _without_last_cutoff(
    config: TransformerLanguageModelConfig, state: State
) -> TransformerLanguageModelConfig:
    """A last cutoff that is the vocabulary's size says nothing; without it there is always
    one tail per cutoff (see `copies`)."""
    sizes = dict(zip(("adaptive_input_cutoff", "adaptive_softmax_cutoff"), vocabulary(state),
                     strict=True))
    shorter = {}
    for key, size in sizes.items():
        cutoffs = getattr(config, key)
        if cutoffs is not None and len(cutoffs) > 1 and cutoffs[-1] == size:
            shorter[key] = cutoffs[:-1]
    return dataclasses.replace(config, **shorter)


def vocabulary(state: State) -> tuple[int, int]:
    """Entries that are read and that are predicted."""
    if _WORDS in state:
        read = state[_WORDS].shape[0]
    else:
        read = _rows(state, "decoder.embed_tokens.embeddings.{}.0.weight")
    tails = _rows(state, "decoder.adaptive_softmax.tail.{}.2.weight", least=0)
    if "decoder.adaptive_softmax.head.class_proj.weight" in state:
        return read, tails + state["decoder.adaptive_softmax.head.word_proj.weight"].shape[0]
    if "decoder.adaptive_softmax.head.weight" in state:
        classes = _count(state, "decoder.adaptive_softmax.tail.{}.2.weight")
        head = state["decoder.adaptive_softmax.head.weight"].shape[0]
        return read, tails + head - classes
    return read, state[_OUTPUT].shape[0] if _OUTPUT in state else read


def _count(state: State, pattern: str) -> int:
    number = 0
    while pattern.format(number) in state:
        number += 1
    return number


def _rows(state: State, pattern: str, *, least: int = 1) -> int:
    count = max(least, _count(state, pattern))
    return sum(state[pattern.format(i)].shape[0] for i in range(count))


def copies(config: TransformerLanguageModelConfig) -> Mapping[str, str]:
    """Tied weights, which fairseq writes under each of their names."""
    if config.adaptive_softmax_cutoff is None:
        return {_OUTPUT: _WORDS} if config.share_decoder_input_output_embed else {}
    if not config.tie_adaptive_weights:
        return {}
    band, softmax = "decoder.embed_tokens.embeddings", "decoder.adaptive_softmax"
    found = {f"{softmax}.head.word_proj.weight": f"{band}.0.0.weight"}
    for i in range(len(config.adaptive_softmax_cutoff)):
        found[f"{softmax}.tail.{i}.2.weight"] = f"{band}.{i + 1}.0.weight"
        if config.tie_adaptive_proj:
            found[f"{softmax}.tail.{i}.0.weight"] = f"{band}.{i + 1}.1.weight"
    return found


def constants(config: LanguageModelKeys) -> State:
    """The version of the format, and buffers without meaning."""
    return {
        "decoder.version": np.array([3], np.float32),
        **adaptive.constants(
            softmax=config.adaptive_softmax_cutoff is not None,
            adaptive_input=config.adaptive_input, tied=config.tie_adaptive_weights,
        ),
    }


def derive(values: dict[str, Any], explicit: set[str]) -> None:
    """What follows from other keys."""
    drop_empty(values)
    TransformerLanguageModelConfig.follow(values)


def arch(config: TransformerLanguageModelConfig) -> str:
    """The one of the family's name for models that are post-norm: fairseq makes those of all its
    other architectures pre-norm."""
    return config.arch or config.name if config.decoder_normalize_before else config.name


KEYS = ConfigKeys(
    refused={
        "character_embeddings": (False,), "base_layers": (0,),
    },
    dropped={"quant_noise_pq": (0, 0.0), "quant_noise_scalar": (0, 0.0)},
    check=check_attention,
    aliases={"relu_dropout": "activation_dropout", "tokens_per_sample": "max_target_positions"},
    derive=derive,
)

NAMES = WeightNames(
    vocabulary=vocabulary,
    upgrade=upgrade,
    empty=adaptive.usual_empty,
    ignored=(
        r"decoder\.version", r"decoder\.embed_positions\.(_float_tensor|weights)",
        *adaptive.IGNORED,
    ),
    copies=copies,
    constants=constants,
    renames=adaptive.RENAMES,
    order=ORDER,
)

TABLE = FairseqTable(
    keys=KEYS, names=NAMES, as_trained=as_trained, check_export=check_export, arch=arch,
    unsaid=tuple(OWN))
