"""RoBERTa in miniature: masked language modelling on one book, in minutes on one core."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Three layers of 128, blocks of whole sentences."""
    return ConfigDict({
        "task": {"name": "masked_lm", "data": "runs/questions/words",
                 "sample_break_mode": "complete", "tokens_per_sample": 64,
                 "shorten_method": "truncate", "mask_prob": 0.3},
        "model": {"arch": "roberta_prenorm", "max_positions": 64, "encoder_layers": 3,
                  "encoder_embed_dim": 128, "encoder_ffn_embed_dim": 512,
                  "encoder_attention_heads": 4, "dropout": 0.1, "attention_dropout": 0.1},
        "loss": {"name": "masked_lm"},
        "train": {"lr": 2e-3, "max_update": 3000, "clip_norm": 1.0},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.98), "adam_eps": 1e-6,
                      "weight_decay": 0.01},
        "schedule": {"name": "polynomial_decay", "warmup_updates": 300},
        "batching": {"mode": "packed", "max_tokens": 1024, "pack_length": 64},
        "valid": {"every_epochs": 0, "every_updates": 250},
        "log": {"interval_updates": 50},
    })
