"""fairseq's architecture names for HuBERT: it registers one, and keys say the rest.

`LARGE` and `XLARGE` are what the published models of these sizes say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ARCHS: Mapping[str, Mapping[str, Any]] = {"hubert": {}}
"""fairseq architecture name -> the defaults that it changes."""

BASE: Mapping[str, Any] = {
    "encoder_layerdrop": 0.05, "dropout_input": 0.1, "dropout_features": 0.1,
    "feature_grad_mult": 0.1, "untie_final_proj": True, "final_dim": 256, "mask_prob": 0.8}
"""HuBERT base of the paper (table 1, and fairseq's recipe)."""
LARGE: Mapping[str, Any] = {
    "encoder_layers": 24, "encoder_embed_dim": 1024, "encoder_ffn_embed_dim": 4096,
    "encoder_attention_heads": 16, "extractor_mode": "layer_norm", "layer_norm_first": True,
    "final_dim": 768, "dropout": 0.0, "attention_dropout": 0.0, "feature_grad_mult": 1.0,
    "untie_final_proj": True, "mask_prob": 0.8}
"""HuBERT large."""
XLARGE: Mapping[str, Any] = {
    **LARGE, "encoder_layers": 48, "encoder_embed_dim": 1280, "encoder_ffn_embed_dim": 5120,
    "final_dim": 1024}
"""HuBERT x-large."""
