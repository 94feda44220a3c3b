"""HuBERT in miniature: clusters of MFCCs, then clusters of its own states, of one speaker's speech.

Data:     festvox-ru, 78 minutes (scripts/real_runs/audio.py), labels of `preprocess labels`
Model:    hubert, of the form of configs/small/recognition.py
Expected: docs/small-runs.md has the curves and results
Command:  scripts/real_runs/hubert.sh, which has each step; this one is

    python -m seqjax.train --config configs/small/hubert.py --workdir runs/hubert/first \\
        --config.task.data=runs/hubert/data --config.task.labels=km
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Four convolutions over samples, then three layers of 144; labels of MFCCs."""
    return ConfigDict({
        "task": {"name": "hubert_pretraining", "data": "runs/hubert/data", "labels": ("km",),
                 "label_rate": 100.0, "sample_rate": 16000, "normalize": True,
                 "max_sample_size": 160_000},
        "model": {"name": "hubert", "extractor_mode": "layer_norm",
                  "conv_feature_layers": "[(64, 64, 16), (96, 8, 4), (144, 4, 4), (144, 4, 2)]",
                  "encoder_layers": 3, "encoder_embed_dim": 144, "encoder_ffn_embed_dim": 576,
                  "encoder_attention_heads": 4, "layer_norm_first": True, "conv_pos": 16,
                  "conv_pos_groups": 4, "dropout": 0.1, "attention_dropout": 0.1,
                  "final_dim": 64, "untie_final_proj": True, "mask_prob": 0.7, "mask_length": 6},
        "loss": {"name": "hubert", "pred_masked_weight": 1.0, "pred_nomask_weight": 0.0,
                 "loss_weights": (10.0,)},
        "train": {"lr": 1.5e-3, "max_update": 300, "clip_norm": 5.0},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.98)},
        "schedule": {"name": "polynomial_decay", "warmup_updates": 100},
        "batching": {"mode": "bucketed", "max_tokens": 640_000, "num_shapes": 2,
                     "required_batch_size_multiple": 1},
        "valid": {"every_epochs": 0, "every_updates": 100},
        "log": {"interval_updates": 50},
    })
