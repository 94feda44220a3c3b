"""Sequence models. A family is chosen by name here; `build` makes it ready to use."""

from __future__ import annotations

from typing import Any

from seqjax.config import import_object
from seqjax.models.fconv_config import ARCHS as FCONV_ARCHS
from seqjax.models.fconv_config import LM_ARCHS as FCONV_LM_ARCHS
from seqjax.models.fconv_config import FConvConfig, FConvLanguageModelConfig
from seqjax.models.lightconv_config import ARCHS as LIGHTCONV_ARCHS
from seqjax.models.lightconv_config import LM_ARCHS as LIGHTCONV_LM_ARCHS
from seqjax.models.lightconv_config import LightConvConfig, LightConvLanguageModelConfig
from seqjax.models.lstm_config import ARCHS as LSTM_ARCHS
from seqjax.models.lstm_config import LM_ARCHS as LSTM_LM_ARCHS
from seqjax.models.lstm_config import LSTMConfig, LSTMLanguageModelConfig
from seqjax.models.transformer_config import ALIGN_ARCHS as TRANSFORMER_ALIGN_ARCHS
from seqjax.models.transformer_config import ARCHS as TRANSFORMER_ARCHS
from seqjax.models.transformer_config import TransformerAlignConfig, TransformerConfig
from seqjax.models.transformer_lm_config import ARCHS as TRANSFORMER_LM_ARCHS
from seqjax.models.transformer_lm_config import TransformerLMConfig
from seqjax.models.wav2vec2.archs import ARCHS as WAV2VEC2_ARCHS
from seqjax.models.wav2vec2.config import Wav2Vec2Config

CONFIGS: dict[str, type] = {
    "transformer": TransformerConfig,
    "transformer_align": TransformerAlignConfig,
    "transformer_lm": TransformerLMConfig,
    "lstm": LSTMConfig,
    "lstm_lm": LSTMLanguageModelConfig,
    "fconv": FConvConfig,
    "fconv_lm": FConvLanguageModelConfig,
    "lightconv": LightConvConfig,
    "lightconv_lm": LightConvLanguageModelConfig,
    "wav2vec2": Wav2Vec2Config,
}
"""`config.model.name` -> its dataclass."""

ARCHS: dict[str, tuple[str, dict[str, Any]]] = {
    **{arch: ("transformer", values) for arch, values in TRANSFORMER_ARCHS.items()},
    **{arch: ("transformer_align", values) for arch, values in TRANSFORMER_ALIGN_ARCHS.items()},
    **{arch: ("transformer_lm", values) for arch, values in TRANSFORMER_LM_ARCHS.items()},
    **{arch: ("lstm", values) for arch, values in LSTM_ARCHS.items()},
    **{arch: ("lstm_lm", values) for arch, values in LSTM_LM_ARCHS.items()},
    **{arch: ("fconv", values) for arch, values in FCONV_ARCHS.items()},
    **{arch: ("fconv_lm", values) for arch, values in FCONV_LM_ARCHS.items()},
    **{arch: ("lightconv", values) for arch, values in LIGHTCONV_ARCHS.items()},
    **{arch: ("lightconv_lm", values) for arch, values in LIGHTCONV_LM_ARCHS.items()},
    **{arch: ("wav2vec2", values) for arch, values in WAV2VEC2_ARCHS.items()},
}
"""`config.model.arch`, fairseq's architecture name -> (family, defaults it changes)."""

_MODELS: dict[str, str] = {
    "transformer": "seqjax.models.transformer:TransformerModel",
    "transformer_align": "seqjax.models.transformer_align:TransformerAlignModel",
    "transformer_lm": "seqjax.models.transformer_lm:TransformerLMModel",
    "lstm": "seqjax.models.lstm:LSTMModel",
    "lstm_lm": "seqjax.models.lstm_lm:LSTMLanguageModel",
    "fconv": "seqjax.models.fconv:FConvModel",
    "fconv_lm": "seqjax.models.fconv_lm:FConvLanguageModel",
    "lightconv": "seqjax.models.lightconv:LightConvModel",
    "lightconv_lm": "seqjax.models.lightconv_lm:LightConvLanguageModel",
    "wav2vec2": "seqjax.models.wav2vec2.model:Wav2Vec2Model",
}
"""`config.model.name` -> where its model is; imported when it is built. A name that is not
here is `package.module:Object` itself."""


def build(
    config: Any, *, source_vocab_size: int, target_vocab_size: int, compute_dtype: Any
) -> Any:
    """The model of a resolved model section.

    Args:
      source_vocab_size, target_vocab_size: entries of the dictionaries (of a language
        model: what it reads and what it predicts).
      compute_dtype: type of matrix products and activations.

    Returns:
      A `protocol.EncoderDecoder` or a `protocol.LanguageModel`.
    """
    cls = import_object(_MODELS.get(config.name) or config.name, "config.model.name")
    return cls(
        config=config, source_vocab_size=source_vocab_size,
        target_vocab_size=target_vocab_size, compute_dtype=compute_dtype,
    )


def compute_dtype(name: str) -> Any:
    """The type that `train.compute_dtype` means on this machine: `auto` is float32 on a
    CPU and bfloat16 elsewhere."""
    import jax  # choosing a configuration must not wait for it
    import jax.numpy as jnp

    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(name)
