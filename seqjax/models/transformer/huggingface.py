"""What Hugging Face's transformers of fairseq's shape have in common: keys of `config.json` and
names of weights in, keys of `config.model` and names of ours out, and back.

A family of such models makes its `HuggingFaceTable` of these; what it has of its own it says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from seqjax.config import ConfigError, ModelSection
from seqjax.models.parts.configs import ORIGIN, RUNTIME, TRAINING_ONLY, kind
from seqjax.models.tables import HuggingFaceKeys, State, Transform
from seqjax.models.transformer.config import TransformerConfig

ConfigT = TypeVar("ConfigT", bound=TransformerConfig)

ACTIVATIONS: Mapping[Any, Any] = {
    "relu": "relu", "gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_accurate",
    "gelu_accurate": "gelu_accurate", "gelu_pytorch_tanh": "gelu_accurate",
    "gelu_fast": "gelu_fast", "swish": "swish", "silu": "swish", "tanh": "tanh",
    "linear": "linear",
}
"""transformers' name of an activation function -> fairseq's."""
NEGATED: Mapping[Any, Any] = {True: False, False: True}
"""A switch that is called the other way round here."""
ROW = Transform(name="a row", ours=lambda x: x[0], theirs=lambda x: x[None])
"""[1, V] <-> [V]."""

SEQ2SEQ_KEYS: Mapping[str, tuple[str, ...]] = {
    "d_model": ("encoder_embed_dim", "decoder_embed_dim"),
    "encoder_layers": ("encoder_layers",), "decoder_layers": ("decoder_layers",),
    "encoder_ffn_dim": ("encoder_ffn_embed_dim",), "decoder_ffn_dim": ("decoder_ffn_embed_dim",),
    "encoder_attention_heads": ("encoder_attention_heads",),
    "decoder_attention_heads": ("decoder_attention_heads",),
    "activation_function": ("activation_fn",), "dropout": ("dropout",),
    "attention_dropout": ("attention_dropout",), "activation_dropout": ("activation_dropout",),
    "encoder_layerdrop": ("encoder_layerdrop",), "decoder_layerdrop": ("decoder_layerdrop",),
    "scale_embedding": ("no_scale_embedding",),
    "max_position_embeddings": ("max_source_positions", "max_target_positions"),
}
"""Of an encoder-decoder."""
SEQ2SEQ_DEFAULTS: Mapping[str, Any] = {
    "d_model": 1024, "encoder_layers": 12, "decoder_layers": 12, "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096, "encoder_attention_heads": 16, "decoder_attention_heads": 16,
    "activation_function": "gelu", "dropout": 0.1, "attention_dropout": 0.0,
    "activation_dropout": 0.0, "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0,
    "scale_embedding": False, "max_position_embeddings": 1024, "tie_word_embeddings": True,
    "is_encoder_decoder": True,
}
SPELLED: Mapping[str, Mapping[Any, Any]] = {
    "activation_function": ACTIVATIONS, "scale_embedding": NEGATED}
SHARED: Mapping[str, Any] = {
    "share_all_embeddings": True, "share_decoder_input_output_embed": True}
"""Keys of a model with one embedding for source, target and output."""

EMBEDDING, TARGET, BIAS = (
    "model.shared.weight", "model.decoder.embed_tokens.weight", "final_logits_bias")
RENAMES: tuple[tuple[str, str], ...] = (
    (r"^decoder\.output_projection\.weight$", "lm_head.weight"),
    (r"^decoder\.output_bias$", BIAS),
    (r"^encoder\.embed_tokens\.weight$", EMBEDDING),
    (r"^(encoder|decoder)\.", r"model.\1."),
)
"""Our names -> those of an encoder-decoder's class with a head."""
IGNORED: tuple[str, ...] = (
    BIAS, r"model\.(encoder|decoder)\.version",
    r"model\.(encoder|decoder)\.embed_positions\.weights?")
"""Sinusoids, which older files have, and a bias of nothing."""


def copies(config: TransformerConfig) -> Mapping[str, str]:
    """Names that older files have of tied tensors."""
    owner = EMBEDDING if config.shares_input else TARGET
    inputs = ("model.encoder.embed_tokens.weight", TARGET) if config.shares_input else ()
    outputs = ("lm_head.weight",) if config.ties_output else ()
    return dict.fromkeys((*inputs, *outputs), owner)


def vocabulary(state: State) -> tuple[int, int]:
    """Entries of both sides."""
    source = state[EMBEDDING].shape[0]
    return source, state[TARGET].shape[0] if TARGET in state else source


def with_bias(state: State, config: ConfigT) -> tuple[State, ConfigT]:
    """A bias of logits that is there and not zero is the model's; transformers has one in every
    file of some models, zero in most."""
    given = BIAS in state and bool(np.any(state[BIAS]))
    return state, dataclasses.replace(config, output_bias=given)


def join_bias(state: State, config: TransformerConfig) -> State:
    """The file's tensors with the bias of nothing that transformers expects."""
    if BIAS in state:
        return state
    words = state["lm_head.weight" if "lm_head.weight" in state else
                  EMBEDDING if config.shares_input else TARGET].shape[0]
    return {**state, BIAS: np.zeros((1, words), np.float32)}


def behind(pad: Any, offset: int = 2) -> int | None:
    """`position_offset` of models whose first token has one position whatever pads: None where
    fairseq's rule comes to the same."""
    return None if pad == offset - 1 else offset


# ---- configurations ----


def reader(
    keys: HuggingFaceKeys, more: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda hf: {}
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """`HuggingFaceTable.config_from` of keys, and of what else a family reads."""
    return lambda hf: {**keys.read(hf), **more(hf)}


def writer(
    keys: HuggingFaceKeys, read: Callable[[Mapping[str, Any]], dict[str, Any]], *,
    more: Callable[[Any], dict[str, Any]] = lambda config: {},
    elsewhere: Mapping[str, tuple[Any, ...]] | None = None, unsaid: tuple[str, ...] = (),
) -> Callable[[Any], dict[str, Any]]:
    """`HuggingFaceTable.config_to`, which refuses a model that is another one when it is read
    again: whose keys that matter are not all in the file.

    Args:
      read: the table's `config_from`.
      more: what else a family writes, of a resolved model section.
      elsewhere: keys here that weights or special ids say -> values that they may have.
      unsaid: keys here that weights say, whatever they are.
    """

    def write(config: ModelSection) -> dict[str, Any]:
        written = {**keys.write(config), **more(config)}
        check_said(config, read(written), elsewhere or {}, unsaid)
        return written

    return write


def check_said(
    config: ModelSection, said: Mapping[str, Any], elsewhere: Mapping[str, tuple[Any, ...]],
    unsaid: tuple[str, ...] = (),
) -> None:
    """Raises ConfigError, naming the key, where a model is not all that a file says of it.

    Args:
      config: the model section.
      said: keys that come out of the file.
      elsewhere, unsaid: see `writer`.
    """
    from seqjax.models.overrides import resolved  # a configuration must not wait for JAX

    cls = type(config)
    again, config = resolved(cls(**said)), resolved(config)
    for field in dataclasses.fields(cls):
        if field.name in unsaid or kind(cls, field.name) in (
                TRAINING_ONLY["kind"], RUNTIME["kind"], ORIGIN["kind"]):
            continue
        ours, theirs = getattr(config, field.name), getattr(again, field.name)
        if ours != theirs and ours not in elsewhere.get(field.name, ()):
            raise ConfigError(f"config.model.{field.name}: {ours!r}, where such models of "
                              f"transformers have {theirs!r}")


# ---- language models ----


def decoder_keys(
    *, width: str, inner: str, layers: str, heads: str, longest: str
) -> dict[str, tuple[str, ...]]:
    """Sizes of a language model, by their names there."""
    return {
        width: ("decoder_embed_dim",), inner: ("decoder_ffn_embed_dim",),
        layers: ("decoder_layers",), heads: ("decoder_attention_heads",),
        longest: ("max_target_positions",),
    }


def words(embedding: str) -> Callable[[State], tuple[int, int]]:
    """`WeightNames.vocabulary` of a language model whose embedding has this name."""

    def vocabulary(state: State) -> tuple[int, int]:
        read = state[embedding].shape[0]
        return read, state["lm_head.weight"].shape[0] if "lm_head.weight" in state else read

    return vocabulary


def head_copies(embedding: str) -> Callable[[Any], Mapping[str, str]]:
    """`WeightNames.copies` of a language model whose embedding has this name."""
    return lambda config: (
        {"lm_head.weight": embedding} if config.share_decoder_input_output_embed else {})
