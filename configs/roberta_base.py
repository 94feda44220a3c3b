"""RoBERTa base, masked language modelling from nothing.

Paper:     "RoBERTa: A Robustly Optimized BERT Pretraining Approach" (arXiv 1907.11692), table 3,
           2,000 blocks an update on books and Wikipedia; fairseq's README.pretraining.md
Expected:  perplexity 3.68 of masked words, held out (there: MNLI 85.2, SST-2 92.9 after
           fine-tuning); 125 M parameters
Hardware:  64 GPUs, about a day; not run by us yet: the text is not ours to embed
Data:      text with one sentence a line and an empty line behind each document, in the pieces of
           GPT-2's BPE, then

    python -m seqjax.preprocess --only-source --trainpref train --validpref valid \\
        --destdir data-bin/text --workers 16

Train:

    python -m seqjax.train --config configs/roberta_base.py --workdir runs/roberta_base

On little text, with a small model (see docs/pretraining.md), in minutes:

    python -m seqjax.train --config configs/roberta_base.py --workdir runs/small \\
        --config.task.data=data-bin --config.task.tokens_per_sample=64 \\
        --config.model.max_positions=64 --config.model.encoder_layers=2 \\
        --config.model.encoder_embed_dim=128 --config.model.encoder_ffn_embed_dim=512 \\
        --config.model.encoder_attention_heads=4 --config.train.update_freq=1 \\
        --config.train.max_update=2000 --config.schedule.warmup_updates=200
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """fairseq's command for pretraining, flag by flag, with the rate of the paper's table."""
    return ConfigDict({
        "task": {"name": "masked_lm", "data": "data-bin/text", "sample_break_mode": "complete",
                 "tokens_per_sample": 512, "mask_prob": 0.15, "leave_unmasked_prob": 0.1,
                 "random_token_prob": 0.1},
        "model": {"arch": "roberta_base", "max_positions": 512, "dropout": 0.1,
                  "attention_dropout": 0.1},
        "loss": {"name": "masked_lm"},
        "train": {"lr": 7e-4, "max_update": 125_000, "update_freq": 2},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.98), "adam_eps": 1e-6,
                      "weight_decay": 0.01},
        "schedule": {"name": "polynomial_decay", "warmup_updates": 10_000},
        "batching": {"mode": "bucketed", "max_tokens": None, "max_sentences": 1024},
        "valid": {"every_epochs": 0, "every_updates": 1000},
        "checkpoint": {"every_updates": 1000, "keep_last": 2},
    })
