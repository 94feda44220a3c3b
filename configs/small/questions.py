"""RoBERTa in miniature tells questions from other sentences, without the mark at their end.

Data:     4,360 sentences of the World English Bible with the mark that they had, half of them
          questions; 768 of other books for validation, 980 of yet others for testing
Model:    that of configs/small/masked_lm.py, with a head
Expected: docs/small-runs.md has the curves and results
Command:  scripts/real_runs/questions.sh, which has each step; this one is

    python -m seqjax.train --config configs/small/questions.py \\
        --workdir runs/questions/pretrained.1 --config.task.data=runs/questions/label \\
        --config.init_from=runs/questions/roberta
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The model of configs/small/masked_lm.py with a head."""
    return ConfigDict({
        "task": {"name": "sentence_prediction", "data": "runs/questions/label", "num_classes": 2,
                 "init_token": 0, "separator_token": 2, "max_positions": 64,
                 "shorten_method": "truncate"},
        "model": {"arch": "roberta_prenorm", "max_positions": 64, "encoder_layers": 2,
                  "encoder_embed_dim": 128, "encoder_ffn_embed_dim": 512,
                  "encoder_attention_heads": 4, "dropout": 0.1, "attention_dropout": 0.1},
        "loss": {"name": "sentence_prediction"},
        "train": {"lr": 5e-4, "max_update": 800, "clip_norm": 1.0},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.98), "adam_eps": 1e-6,
                      "weight_decay": 0.01},
        "schedule": {"name": "polynomial_decay", "warmup_updates": 80},
        "batching": {"mode": "bucketed", "max_sentences": 32, "max_tokens": None,
                     "num_shapes": 2},
        "valid": {"every_epochs": 0, "every_updates": 100, "metric": "accuracy"},
        "log": {"interval_updates": 50},
    })
