"""BART in miniature learns to translate: English to German with 1,500 pairs.

Data:     1,500 pairs of the embedded corpus, in the pieces of the pretraining
Model:    that of configs/small/denoising.py
Expected: docs/small-runs.md has the curves and results
Command:  scripts/real_runs/denoising.sh, which has each step; this one is

    python -m seqjax.train --config configs/small/translation.py \\
        --workdir runs/denoising/pretrained.1 --config.task.data=runs/denoising/pairs \\
        --config.init_from=runs/denoising/bart
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The model of configs/small/denoising.py."""
    return ConfigDict({
        "task": {"name": "translation", "data": "runs/denoising/pairs",
                 "source_lang": "en", "target_lang": "de"},
        "model": {"arch": "bart_base", "dropout": 0.2,
                  "encoder_embed_dim": 192, "encoder_ffn_embed_dim": 768, "encoder_layers": 2,
                  "encoder_attention_heads": 4, "decoder_embed_dim": 192,
                  "decoder_ffn_embed_dim": 768, "decoder_layers": 2,
                  "decoder_attention_heads": 4, "max_source_positions": 64,
                  "max_target_positions": 64},
        "loss": {"name": "label_smoothed_cross_entropy", "label_smoothing": 0.1},
        "train": {"lr": 5e-4, "max_update": 400, "clip_norm": 1.0},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.98), "adam_eps": 1e-6,
                      "weight_decay": 0.01},
        "schedule": {"name": "polynomial_decay", "warmup_updates": 40},
        "batching": {"mode": "packed", "max_tokens": 1024, "pack_length": 64},
        "valid": {"every_epochs": 0, "every_updates": 40, "decode_sentences": 0, "samples": 1},
        "generation": {"beam": 5, "max_len_a": 1.5, "max_len_b": 20},
        "log": {"interval_updates": 20},
    })
