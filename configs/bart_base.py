"""BART base, denoising from nothing: spans of words behind single masks, sentences permuted.

Paper:     "BART: Denoising Sequence-to-Sequence Pre-training" (arXiv 1910.13461), table 1,
           text infilling and sentence shuffling on books and Wikipedia
Expected:  there, after fine-tuning: SQuAD 1.1 90.8 F1, MNLI 83.8, CNN/DailyMail perplexity 5.41;
           139 M parameters
Hardware:  64 GPUs, some days; not run by us yet: the text is not ours to embed
Data:      text with one sentence a line and an empty line behind each document, in the pieces of
           GPT-2's BPE, by which whole words and full stops (the piece 13) are told, then

    python -m seqjax.preprocess --only-source --trainpref train --validpref valid \\
        --destdir data-bin/text --workers 16

Train:

    python -m seqjax.train --config configs/bart_base.py --workdir runs/bart_base

On little text in words, with a small model (see docs/pretraining.md), in minutes:

    python -m seqjax.train --config configs/bart_base.py --workdir runs/small \\
        --config.task.data=data-bin --config.task.tokens_per_sample=64 --config.task.bpe=none \\
        --config.task.full_stop=. --config.model.encoder_layers=2 \\
        --config.model.decoder_layers=2 --config.model.encoder_embed_dim=128 \\
        --config.model.decoder_embed_dim=128 --config.model.encoder_ffn_embed_dim=512 \\
        --config.model.decoder_ffn_embed_dim=512 --config.model.encoder_attention_heads=4 \\
        --config.model.decoder_attention_heads=4 --config.train.update_freq=1 \\
        --config.train.max_update=2000 --config.schedule.warmup_updates=200
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The paper's noise; rates and sizes of batches as RoBERTa's."""
    return ConfigDict({
        "task": {"name": "denoising", "data": "data-bin/text", "bpe": "gpt2",
                 "tokens_per_sample": 512, "sample_break_mode": "complete_doc", "mask": 0.3,
                 "mask_random": 0.1, "mask_length": "span-poisson", "replace_length": 1,
                 "poisson_lambda": 3.0, "permute_sentences": 1.0, "rotate": 0.0},
        "model": {"arch": "bart_base", "dropout": 0.1},
        "loss": {"name": "cross_entropy"},
        "train": {"lr": 4e-4, "max_update": 1_000_000, "update_freq": 2, "clip_norm": 0.1},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.98), "adam_eps": 1e-6,
                      "weight_decay": 0.01},
        "schedule": {"name": "polynomial_decay", "warmup_updates": 10_000},
        "batching": {"mode": "bucketed", "max_tokens": None, "max_sentences": 1024},
        "valid": {"every_epochs": 0, "every_updates": 1000},
        "checkpoint": {"every_updates": 1000, "keep_last": 2},
    })
