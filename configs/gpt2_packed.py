"""GPT-2 (124 million parameters) from nothing, on documents that are packed into rows.

Paper:     "Language Models are Unsupervised Multitask Learners" (Radford et al. 2019): the
           smallest model; rate and batch as in "Language Models are Few-Shot Learners" (arXiv
           2005.14165), table 2.1: 6e-4, 0.5 M tokens an update
Expected:  loss about 2.85 nats a piece, held out of OpenWebText (perplexity 17.3), where nanoGPT's
           run of like settings ends; OpenAI's own model has 3.12 there (22.6), and about 2.85
           fine-tuned (github.com/karpathy/nanoGPT). The paper's table 3 has perplexities of text
           that the model of WebText never saw: 37.50 of WikiText-103, 29.41 of WikiText-2
Hardware:  nanoGPT: 8 A100, about 4 days; not run by us at this size yet: the text is not ours to
           embed
Data:      text with a paragraph a line and an empty line behind each document, and GPT-2's
           encoder.json and vocab.bpe in the folder gpt2_bpe

    python -m seqjax.preprocess --only-source --trainpref owt/train.txt --validpref owt/valid.txt \\
        --tokenizer gpt2:gpt2_bpe --destdir data-bin/owt --workers 16

Rows are of 1,024 tokens. A block is as many paragraphs of one document as fit, and blocks share a
row: none sees another, and hardly any place is padding (`train: ...` in the log says how much).

Train, evaluate, write:

    python -m seqjax.train --config configs/gpt2_packed.py --workdir runs/gpt2
    python -m seqjax.evaluate --checkpoint runs/gpt2 --subset valid --tokens-per-sample 1024
    python -m seqjax.generate --checkpoint runs/gpt2 --input prompts.txt --sampling \\
        --sampling-topk 50 --max-len-b 200 --output texts.txt
    python -m seqjax.convert runs/gpt2 --to hf gpt2-mine       # for transformers

From OpenAI's weights (docs/hugging-face.md): preprocess with
`--tokenizer hf:openai-community/gpt2`, then

    python -m seqjax.train --config configs/gpt2_packed.py --workdir runs/tuned \\
        --config.init_from=hf:openai-community/gpt2 --config.train.lr=3e-5 \\
        --config.train.max_update=5000 --config.schedule.warmup_updates=100 \\
        --config.schedule.lr_period_updates=4900 --config.schedule.min_lr=0

On little text, with a small model, in minutes:

    python -m seqjax.train --config configs/gpt2_packed.py --workdir runs/small \\
        --config.task.data=data-bin --config.task.tokens_per_sample=256 \\
        --config.batching.pack_length=256 --config.batching.max_tokens=8192 \\
        --config.train.update_freq=1 --config.model.max_target_positions=256 \\
        --config.model.decoder_layers=4 --config.model.decoder_embed_dim=128 \\
        --config.model.decoder_ffn_embed_dim=512 --config.model.decoder_attention_heads=4 \\
        --config.train.max_update=2000 --config.schedule.warmup_updates=100 \\
        --config.schedule.lr_period_updates=1900
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """491,520 tokens an update, each of them a word's."""
    return ConfigDict({
        "task": {"name": "language_modeling", "data": "data-bin/owt",
                 "sample_break_mode": "complete_doc", "tokens_per_sample": 1024,
                 "shorten_method": "truncate"},
        "model": {"name": "gpt2", "dropout": 0.0, "attention_dropout": 0.0},
        "loss": {"name": "cross_entropy"},
        "train": {"lr": 6e-4, "max_update": 600_000, "update_freq": 15, "clip_norm": 1.0},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.95), "adam_eps": 1e-8,
                      "weight_decay": 0.1},
        "schedule": {"name": "cosine", "warmup_updates": 2000, "warmup_init_lr": 0.0,
                     "lr_period_updates": 598_000, "min_lr": 6e-5},
        "batching": {"mode": "packed", "pack_length": 1024, "max_tokens": 32_768,
                     "skip_invalid_size_inputs_valid_test": True},
        "valid": {"every_epochs": 0, "every_updates": 1000, "metric": "loss"},
        "checkpoint": {"every_updates": 1000, "keep_last": 2, "keep_best": 1},
    })
