"""fairseq's architecture names for wav2vec 2.0: it registers one, and keys say the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ARCHS: Mapping[str, Mapping[str, Any]] = {"wav2vec2": {}}
"""fairseq architecture name -> the defaults that it changes."""

BASE: Mapping[str, Any] = {
    "quantize_targets": True, "final_dim": 256, "encoder_layerdrop": 0.05, "dropout_input": 0.1,
    "dropout_features": 0.1, "feature_grad_mult": 0.1}
"""What the paper's base model says (fairseq's recipe `wav2vec2_base_librispeech`)."""
LARGE: Mapping[str, Any] = {
    "quantize_targets": True, "extractor_mode": "layer_norm", "layer_norm_first": True,
    "final_dim": 768, "latent_temp": (2.0, 0.1, 0.999995), "dropout": 0.0,
    "attention_dropout": 0.0, "conv_bias": True, "encoder_layers": 24, "encoder_embed_dim": 1024,
    "encoder_ffn_embed_dim": 4096, "encoder_attention_heads": 16}
"""And its large one (`wav2vec2_large_librivox`)."""
