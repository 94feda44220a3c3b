"""wav2vec 2.0 base, pretrained on the sound of LibriSpeech alone.

Paper:     "wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations" (arXiv
           2006.11477) and fairseq's
           examples/wav2vec/config/pretraining/wav2vec2_base_librispeech.yaml; 95 M parameters
Expected:  what its fine-tuning gives: see configs/wav2vec2_finetune.py, which begins with it, or
           with fairseq's own (wav2vec_small.pt)
Hardware:  64 V100, 1.6 days; each 1,400,000 samples an update, here 64 times that: 1.6 hours of
           sound. On 8 devices: --config.batching.max_tokens=11200000
           --config.train.update_freq=8. Not run by us yet: the recordings could not be had here
Data:      openslr.org/12, unpacked: the 960 hours of LibriSpeech/train-*; a hundredth of them is
           held out

    python -m seqjax.preprocess audio LibriSpeech --path-must-contain /train- --ext flac \\
        --valid-percent 0.01 --sample-rate 16000 --dest data-bin/ls960

Train:

    python -m seqjax.train --config configs/wav2vec2_base.py --workdir runs/wav2vec2-base
    python -m seqjax.evaluate --checkpoint runs/wav2vec2-base --data data-bin/ls960 --subset valid

"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """fairseq's wav2vec2_base_librispeech.yaml, key by key."""
    return ConfigDict({
        "task": {"name": "audio_pretraining", "data": "data-bin/ls960", "normalize": False,
                 "max_sample_size": 250_000, "min_sample_size": 32_000},
        "model": {"name": "wav2vec2", "quantize_targets": True, "final_dim": 256,
                  "encoder_layerdrop": 0.05, "dropout_input": 0.1, "dropout_features": 0.1,
                  "feature_grad_mult": 0.1, "encoder_embed_dim": 768},
        "loss": {"name": "wav2vec", "infonce": True, "loss_weights": (0.1, 10.0),
                 "log_keys": ("prob_perplexity", "code_perplexity", "temp")},
        "train": {"lr": 5e-4, "max_update": 400_000, "update_freq": 64},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.98), "adam_eps": 1e-6,
                      "weight_decay": 0.01},
        "schedule": {"name": "polynomial_decay", "warmup_updates": 32_000},
        "batching": {"mode": "bucketed", "max_tokens": 1_400_000,
                     "skip_invalid_size_inputs_valid_test": True},
        "checkpoint": {"every_updates": 25_000, "keep_last": 2},
        "log": {"interval_updates": 200},
    })
