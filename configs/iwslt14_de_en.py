"""IWSLT14 German to English, the recipe that papers copy.

Paper:     "Pay Less Attention with Lightweight and Dynamic Convolutions" (arXiv 1901.10430)
           and fairseq's examples/translation; transformer_iwslt_de_en
Expected:  about 34.5 to 35 tokenised BLEU on the test set (beam 5, lower case), 39.5 M parameters
Hardware:  one GPU, a few hours; not run by us yet: the data is not ours to embed
Data:      the prepared text of fairseq's `prepare-iwslt14.sh` (joint BPE of 10,000), then

    python -m seqjax.preprocess --source-lang de --target-lang en \\
        --trainpref iwslt14/train --validpref iwslt14/valid --testpref iwslt14/test \\
        --destdir data-bin/iwslt14.de-en --workers 8

Train, average and decode:

    python -m seqjax.train --config configs/iwslt14_de_en.py --workdir runs/iwslt14
    python -m seqjax.generate --checkpoint runs/iwslt14 --data data-bin/iwslt14.de-en \\
        --subset test --beam 5 --format fairseq --post-process --output iwslt14.out
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """fairseq's command for IWSLT14, flag by flag."""
    return ConfigDict({
        "task": {"name": "translation", "data": "data-bin/iwslt14.de-en",
                 "source_lang": "de", "target_lang": "en", "post_process": "@@ "},
        "model": {"arch": "transformer_iwslt_de_en", "share_decoder_input_output_embed": True,
                  "dropout": 0.3},
        "loss": {"name": "label_smoothed_cross_entropy", "label_smoothing": 0.1},
        "train": {"lr": 5e-4, "max_update": 50_000},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.98), "weight_decay": 1e-4},
        "schedule": {"name": "inverse_sqrt", "warmup_updates": 4000},
        "batching": {"mode": "bucketed", "max_tokens": 4096},
        "valid": {"metric": "bleu", "decode_sentences": 0},
        "checkpoint": {"keep_last": 10, "keep_best": 5},
        "generation": {"beam": 5, "max_len_a": 1.2, "max_len_b": 10},
    })
