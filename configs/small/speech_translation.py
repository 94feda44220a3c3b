"""Speech translation in miniature, from nothing: prompts in four languages to English.

Data:     prompts of asterisk-core-sounds, 59 minutes of training (scripts/real_runs/audio.py)
Model:    s2t_conformer, d=144, 4 layers and 2 of the decoder; 400 pieces of English
Expected: docs/small-runs.md has the curves and results
Command:  scripts/real_runs/speech_translation.sh, which has each step; this one is

    python -m seqjax.train --config configs/small/speech_translation.py \\
        --workdir runs/speech_translation/conformer --config.task.data=runs/speech_translation/data
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """A quarter of the frames, four layers of 144, a decoder of two."""
    return ConfigDict({
        "task": {"name": "speech_to_text", "data": "runs/speech_translation/data",
                 "scoring": "bleu"},
        "model": {"name": "s2t_conformer", "encoder_layers": 4, "encoder_embed_dim": 144,
                  "encoder_ffn_embed_dim": 288, "encoder_attention_heads": 4,
                  "pos_enc_type": "abs", "depthwise_conv_kernel_size": 15,
                  "conv_channels": 256, "decoder_layers": 2, "decoder_embed_dim": 144,
                  "decoder_ffn_embed_dim": 576, "decoder_attention_heads": 4,
                  "share_decoder_input_output_embed": True, "dropout": 0.15, "scan_unroll": 1},
        "loss": {"name": "label_smoothed_cross_entropy_with_ctc", "label_smoothing": 0.1,
                 "ctc_weight": 0.3},
        "train": {"lr": 2e-3, "max_update": 900, "clip_norm": 5.0},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.98)},
        "schedule": {"name": "tri_stage", "phase_ratio": (0.1, 0.4, 0.5),
                     "final_lr_scale": 0.05},
        "batching": {"mode": "bucketed", "max_tokens": 4000, "num_shapes": 2,
                     "required_batch_size_multiple": 1},
        "valid": {"every_epochs": 0, "every_updates": 300,
                  "decode": False},
        "generation": {"beam": 5, "max_len_b": 80},
        "log": {"interval_updates": 50},
    })
