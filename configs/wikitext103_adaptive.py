"""WikiText-103 with adaptive inputs: a language model of 267,744 words, rare ones narrow.

Paper:     "Adaptive Input Representations for Neural Language Modeling" (arXiv 1809.10853),
           table 2; fairseq's examples/language_model/README.adaptive_inputs.md;
           transformer_lm_wiki103, 247 M parameters
Expected:  perplexity 18.70 of the test set, a word's context being 2,560 words or more
Hardware:  the paper: 8 V100; fairseq's command: 3,072 tokens a GPU and update_freq 3. Here
           one mesh sees `max_tokens` x `update_freq` = 73,728 tokens an update, 8 x 3 x 3,072.
           On 8 devices: --config.batching.max_tokens=24576 --config.train.update_freq=3.
           Not run by us at this size yet: the text is not ours to embed
Data:      wiki.train.tokens and so on, of wikitext-103-v1.zip, whose words are as they are there:

    python -m seqjax.preprocess --only-source --trainpref wikitext-103/wiki.train.tokens \\
        --validpref wikitext-103/wiki.valid.tokens --testpref wikitext-103/wiki.test.tokens \\
        --destdir data-bin/wikitext-103 --workers 16

Train, and measure the perplexity:

    python -m seqjax.train --config configs/wikitext103_adaptive.py --workdir runs/wiki103
    python -m seqjax.evaluate --checkpoint runs/wiki103 --subset test --tokens-per-sample 3072 \\
        --context-window 2560 --max-tokens 3072 --softmax-batch 1024

fairseq's own model: the same command with --checkpoint adaptive_lm_wiki103.v2/model.pt and
--data data-bin/wikitext-103.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """fairseq's command, flag by flag."""
    return ConfigDict({
        "seed": 1,
        "task": {"name": "language_modeling", "data": "data-bin/wikitext-103",
                 "sample_break_mode": "none", "tokens_per_sample": 3072},
        "model": {"arch": "transformer_lm_wiki103", "max_target_positions": 3072},
        "loss": {"name": "adaptive_loss"},
        "train": {"lr": 1.0, "max_update": 286_000, "update_freq": 24, "clip_norm": 0.1,
                  "stop_min_lr": 1e-9},
        "optimizer": {"name": "nag"},
        "schedule": {"name": "cosine", "warmup_updates": 16_000, "warmup_init_lr": 1e-7,
                     "lr_period_updates": 270_000, "lr_shrink": 0.75, "min_lr": 1e-4,
                     "t_mult": 2},
        "batching": {"mode": "bucketed", "max_tokens": 3072, "required_batch_size_multiple": 1,
                     "skip_invalid_size_inputs_valid_test": True},
        "valid": {"metric": "loss"},
        "checkpoint": {"every_updates": 2000, "keep_last": 2, "keep_best": 1},
    })
