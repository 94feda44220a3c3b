"""RoBERTa in miniature: masked words of one book.

Data:     the World English Bible in lower case and without punctuation, 545,000 words of its
          training books (scripts/real_runs/text.py)
Model:    d=128, 2 layers, norms in front, 2,000 pieces, 0.7 M parameters
Expected: docs/small-runs.md has the curves and results
Command:  scripts/real_runs/questions.sh, which has each step; this one is

    python -m seqjax.train --config configs/small/masked_lm.py --workdir runs/questions/roberta \\
        --config.task.data=runs/questions/words
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Two layers of 128, a sentence a block."""
    return ConfigDict({
        "task": {"name": "masked_lm", "data": "runs/questions/words",
                 "sample_break_mode": "eos", "tokens_per_sample": 64,
                 "shorten_method": "truncate", "mask_prob": 0.25},
        "model": {"arch": "roberta_prenorm", "max_positions": 64, "encoder_layers": 2,
                  "encoder_embed_dim": 128, "encoder_ffn_embed_dim": 512,
                  "encoder_attention_heads": 4, "dropout": 0.1, "attention_dropout": 0.1},
        "loss": {"name": "masked_lm"},
        "train": {"lr": 1e-3, "max_update": 4000, "clip_norm": 1.0},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.98), "adam_eps": 1e-6,
                      "weight_decay": 0.01},
        "schedule": {"name": "polynomial_decay", "warmup_updates": 400},
        "batching": {"mode": "packed", "max_tokens": 1024, "pack_length": 64},
        "valid": {"every_epochs": 0, "every_updates": 500},
        "log": {"interval_updates": 50},
    })
