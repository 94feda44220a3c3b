"""HuBERT base, pretrained on the sound of LibriSpeech alone, twice: on clusters of MFCCs, then on
clusters of what that has learned.

Paper:     "HuBERT: Self-Supervised Speech Representation Learning by Masked Prediction of Hidden
           Units" (arXiv 2106.07447) and fairseq's
           examples/hubert/config/pretrain/hubert_base_librispeech.yaml with data/iter1.yaml
           (`:iter1`) and data/iter2.yaml (`:iter2`); 94.7 M parameters
Expected:  what its fine-tuning gives: see configs/hubert_finetune.py
Hardware:  32 GPUs, each 1,400,000 samples (87.5 s) an update, here 32 times that. On 8 devices:
           --config.batching.max_tokens=11200000 --config.train.update_freq=4. fairseq's file has
           400,000 updates; the paper's first iteration 250,000
           (--config.train.max_update=250000). Not run by us at this size (the recordings could not
           be had here)
Data:      openslr.org/12, unpacked: the 960 hours of LibriSpeech/train-*. First iteration, 100
           clusters of a tenth of the MFCCs, 100 labels a second:

    python -m seqjax.preprocess audio LibriSpeech --path-must-contain /train- --ext flac \\
        --valid-percent 0.01 --sample-rate 16000 --dest data-bin/ls960
    for split in train valid; do
        python -m seqjax.preprocess features data-bin/ls960/$split.tsv --dest data-bin/mfcc; done
    python -m seqjax.preprocess kmeans data-bin/mfcc --split train --clusters 100 --percent 0.1 \\
        --dest data-bin/mfcc/km100.npy
    for split in train valid; do
        python -m seqjax.preprocess labels data-bin/mfcc --split $split --kind km100 \\
            --kmeans data-bin/mfcc/km100.npy --dest data-bin/ls960; done
    python -m seqjax.train --config configs/hubert_base.py:iter1 --workdir runs/hubert-iter1

Second iteration, 500 clusters of the sixth layer's states, 50 labels a second:

    for split in train valid; do
        python -m seqjax.preprocess features data-bin/ls960/$split.tsv --dest data-bin/layer6 \\
            --checkpoint runs/hubert-iter1 --layer 6; done
    python -m seqjax.preprocess kmeans data-bin/layer6 --split train --clusters 500 \\
        --percent 0.1 --dest data-bin/layer6/km500.npy
    for split in train valid; do
        python -m seqjax.preprocess labels data-bin/layer6 --split $split --kind km500 \\
            --kmeans data-bin/layer6/km500.npy --dest data-bin/ls960; done
    python -m seqjax.train --config configs/hubert_base.py:iter2 --workdir runs/hubert-iter2

Each of these goes on where it was when it is killed; `features --shard I` shares the work between
computers.
"""

from ml_collections import ConfigDict

ITERATIONS = {"iter1": ("km100", 100.0, 104), "iter2": ("km500", 50.0, 504)}
"""Kind of the labels, how many a second has, and entries of their dictionary, special symbols
included."""


def get_config(iteration: str = "iter2") -> ConfigDict:
    """fairseq's hubert_base_librispeech.yaml, key by key."""
    kind, rate, classes = ITERATIONS[iteration]
    return ConfigDict({
        "seed": 1337,
        "task": {"name": "hubert_pretraining", "data": "data-bin/ls960", "labels": (kind,),
                 "label_rate": rate, "sample_rate": 16_000, "max_sample_size": 250_000,
                 "min_sample_size": 32_000, "pad_audio": False, "random_crop": True,
                 "normalize": False},
        "model": {"name": "hubert", "label_rate": rate, "label_classes": (classes,),
                  "skip_masked": False, "skip_nomask": False, "mask_prob": 0.8,
                  "extractor_mode": "default",
                  "conv_feature_layers": "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2",
                  "final_dim": 256, "encoder_layerdrop": 0.05, "dropout_input": 0.1,
                  "dropout_features": 0.1, "dropout": 0.1, "attention_dropout": 0.1,
                  "feature_grad_mult": 0.1, "untie_final_proj": True, "activation_dropout": 0.0},
        "loss": {"name": "hubert", "pred_masked_weight": 1.0, "pred_nomask_weight": 0.0,
                 "loss_weights": (10.0,)},
        "train": {"lr": 5e-4, "max_update": 400_000, "update_freq": 32, "clip_norm": 10.0},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.98), "adam_eps": 1e-6,
                      "weight_decay": 0.01},
        "schedule": {"name": "polynomial_decay", "warmup_updates": 32_000},
        "batching": {"mode": "bucketed", "max_tokens": 1_400_000,
                     "skip_invalid_size_inputs_valid_test": True},
        "valid": {"every_epochs": 5, "every_updates": 10_000},
        "checkpoint": {"every_updates": 25_000, "keep_last": 2},
        "log": {"interval_updates": 200},
    })
