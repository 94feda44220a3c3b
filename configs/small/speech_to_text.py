"""A conformer in miniature, from nothing: letters of filterbanks, one speaker.

Data:     festvox-ru, 78 minutes of training (scripts/real_runs/audio.py)
Model:    s2t_conformer, d=144, 4 layers and 2 of the decoder; CTC beside the decoder's loss
Expected: docs/small-runs.md has the curves and results
Command:  scripts/real_runs/speech_to_text.sh, which has each step; this one is

    python -m seqjax.train --config configs/small/speech_to_text.py \\
        --workdir runs/speech_to_text/novel --config.train.max_update=1500 \\
        --config.task.data=runs/speech_to_text/novel-data/data
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """A quarter of the frames, four layers of 144, a decoder of two."""
    return ConfigDict({
        "task": {"name": "speech_to_text", "data": "runs/speech_to_text/novel-data/data",
                 "scoring": "wer"},
        "model": {"name": "s2t_conformer", "encoder_layers": 4, "encoder_embed_dim": 144,
                  "encoder_ffn_embed_dim": 288, "encoder_attention_heads": 4,
                  "attn_type": "espnet", "pos_enc_type": "rope", "depthwise_conv_kernel_size": 15,
                  "conv_channels": 256, "decoder_layers": 2, "decoder_embed_dim": 144,
                  "decoder_ffn_embed_dim": 576, "decoder_attention_heads": 4,
                  "share_decoder_input_output_embed": True, "dropout": 0.1},
        "loss": {"name": "label_smoothed_cross_entropy_with_ctc", "label_smoothing": 0.1,
                 "ctc_weight": 1.0},
        "train": {"lr": 2e-3, "max_update": 1600, "clip_norm": 5.0},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.98)},
        "schedule": {"name": "tri_stage", "phase_ratio": (0.1, 0.4, 0.5),
                     "final_lr_scale": 0.05},
        "batching": {"mode": "bucketed", "max_tokens": 4000, "num_shapes": 2,
                     "required_batch_size_multiple": 1},
        "valid": {"every_epochs": 0, "every_updates": 200, "decode": False},
        "generation": {"beam": 5, "max_len_b": 250},
        "log": {"interval_updates": 50},
    })
