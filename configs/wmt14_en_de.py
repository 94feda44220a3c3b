"""WMT14 English to German, transformer big (the default) or base (`:base`).

Paper:     "Scaling Neural Machine Translation" (arXiv 1806.00187)
Expected:  newstest2014, big: 29.3 tokenised compound-split BLEU, 28.6 sacreBLEU;
           averaged checkpoints, beam 4, lenpen 0.6
Hardware:  the paper: 128 V100, 85 minutes, 3,584 tokens a GPU with update_freq 1 to 16; here one
           mesh sees `max_tokens` x `update_freq` = 458,752 tokens an update (= 128 x 3,584).
           Not run by us yet.
Data:      text of fairseq's `prepare-wmt14en2de.sh --scaling18` (joint BPE of 32,000), then

    python -m seqjax.preprocess --source-lang en --target-lang de --joined-dictionary \\
        --trainpref wmt14/train.tok.clean.bpe.32000 --validpref wmt14/newstest2013.tok.bpe.32000 \\
        --testpref wmt14/newstest2014.tok.bpe.32000 --destdir data-bin/wmt14.en-de \\
        --nwordssrc 32768 --nwordstgt 32768 --workers 16

Train and decode:

    python -m seqjax.train --config configs/wmt14_en_de.py --workdir runs/wmt14
    python -m seqjax.generate --checkpoint runs/wmt14 --data data-bin/wmt14.en-de --subset test \\
        --beam 4 --lenpen 0.6 --format fairseq --post-process --output wmt14.out
"""

from ml_collections import ConfigDict


def get_config(size: str = "big") -> ConfigDict:
    """`big`: transformer_vaswani_wmt_en_de_big; `base`: transformer_wmt_en_de."""
    big = size == "big"
    arch = "transformer_vaswani_wmt_en_de_big" if big else "transformer_wmt_en_de"
    return ConfigDict({
        "task": {"name": "translation", "data": "data-bin/wmt14.en-de",
                 "source_lang": "en", "target_lang": "de", "post_process": "@@ "},
        "model": {"arch": arch, "share_all_embeddings": True, "dropout": 0.3 if big else 0.1},
        "loss": {"name": "label_smoothed_cross_entropy", "label_smoothing": 0.1},
        "train": {"lr": 1e-3 if big else 7e-4, "max_update": 30_000 if big else 100_000,
                  "update_freq": (14,) if big else (1,)},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.98)},
        "schedule": {"name": "inverse_sqrt", "warmup_updates": 4000, "warmup_init_lr": 1e-7},
        "batching": {"mode": "packed", "max_tokens": 32_768, "pack_length": 256},
        "valid": {"every_updates": 1000, "metric": "loss"},
        "checkpoint": {"keep_last": 10},
        "generation": {"beam": 4, "lenpen": 0.6},
    })
