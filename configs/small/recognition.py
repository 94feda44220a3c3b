"""wav2vec 2.0's CTC model in miniature, from nothing: letters of waveforms of one speaker.

Data:     festvox-ru, 78 minutes of training (scripts/real_runs/audio.py)
Model:    wav2vec_ctc, convolutions to 31 frames a second, d=144, 3 layers
Expected: docs/small-runs.md has the curves and results
Command:  scripts/real_runs/recognition.sh, which has each step; this one is

    python -m seqjax.train --config configs/small/recognition.py --workdir runs/recognition/ctc \\
        --config.task.data=runs/recognition/data
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Four convolutions over samples, then three layers of 144."""
    return ConfigDict({
        "task": {"name": "audio_finetuning", "data": "runs/recognition/data", "labels": "ltr",
                 "sample_rate": 16000, "normalize": True},
        "model": {"name": "wav2vec_ctc", "normalize": True, "extractor_mode": "layer_norm",
                  "conv_feature_layers":
                      "[(64, 64, 16), (96, 8, 4), (144, 4, 4), (144, 4, 2)]",
                  "encoder_layers": 3, "encoder_embed_dim": 144, "encoder_ffn_embed_dim": 576,
                  "encoder_attention_heads": 4, "layer_norm_first": True, "conv_pos": 16,
                  "conv_pos_groups": 4, "feature_grad_mult": 1.0, "dropout": 0.1,
                  "attention_dropout": 0.1, "final_dropout": 0.1, "apply_mask": True,
                  "mask_prob": 0.1, "mask_length": 4,
                  "mask_channel_prob": 0.1, "mask_channel_length": 10},
        "loss": {"name": "ctc", "zero_infinity": True},
        "train": {"lr": 1.5e-3, "max_update": 3500, "clip_norm": 1.0},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.98), "adam_eps": 1e-8},
        "schedule": {"name": "tri_stage", "phase_ratio": (0.1, 0.4, 0.5),
                     "final_lr_scale": 0.05},
        "batching": {"mode": "bucketed", "max_tokens": 640_000, "num_shapes": 4,
                     "required_batch_size_multiple": 1},
        "valid": {"every_epochs": 0, "every_updates": 350, "metric": "wer"},
        "log": {"interval_updates": 50},
    })
