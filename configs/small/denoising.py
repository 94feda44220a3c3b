"""BART in miniature: denoising of single lines of text in two languages.

Data:     the embedded corpus, a line in one language a block, hardly a pair among them
          (scripts/real_runs/text.py says which lines)
Model:    d=192, 2+2 layers, 2,000 pieces, 2.5 M parameters
Expected: docs/small-runs.md has the curves and results
Command:  scripts/real_runs/denoising.sh, which has each step; this one is

    python -m seqjax.train --config configs/small/denoising.py --workdir runs/denoising/bart \\
        --config.task.data=runs/denoising/mono
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Two layers of 192 on each side, a line of text a block."""
    return ConfigDict({
        "task": {"name": "denoising", "data": "runs/denoising/mono", "sample_break_mode": "eos",
                 "tokens_per_sample": 64, "mask": 0.3, "mask_random": 0.1,
                 "mask_length": "span-poisson", "replace_length": 1, "poisson_lambda": 3.0,
                 "rotate": 0.0},
        "model": {"arch": "bart_base", "dropout": 0.1,
                  "encoder_embed_dim": 192, "encoder_ffn_embed_dim": 768, "encoder_layers": 2,
                  "encoder_attention_heads": 4, "decoder_embed_dim": 192,
                  "decoder_ffn_embed_dim": 768, "decoder_layers": 2,
                  "decoder_attention_heads": 4, "max_source_positions": 64,
                  "max_target_positions": 64},
        "loss": {"name": "label_smoothed_cross_entropy", "label_smoothing": 0.1},
        "train": {"lr": 1e-3, "max_update": 2000, "clip_norm": 1.0},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.98), "adam_eps": 1e-6,
                      "weight_decay": 0.01},
        "schedule": {"name": "polynomial_decay", "warmup_updates": 200},
        "batching": {"mode": "packed", "max_tokens": 1024, "pack_length": 64},
        "valid": {"every_epochs": 0, "every_updates": 200},
        "log": {"interval_updates": 50},
    })
