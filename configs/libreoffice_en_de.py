"""LibreOffice help, English to German: a real corpus of 35,924 paragraphs that apt-get serves.

Source:    Debian packages libreoffice-help-en-us and libreoffice-help-de (MPL-2.0), the text
           of elements with the same id in HTML files of the same name; 488 k English words.
           Split by file, so that test paragraphs come from pages that training never saw.
Expected:  not measured yet on a full run; technical prose, much of it formulaic
Hardware:  one GPU; on two CPU cores about a day
Data:      one `English<TAB>German` pair a line in help.tsv, then

    cut -f1 help.tsv > help.en; cut -f2 help.tsv > help.de      # and split off valid and test
    python -m seqjax.preprocess --source-lang en --target-lang de --trainpref train.help \\
        --validpref valid.help --testpref test.help --tokenizer sentencepiece \\
        --vocab-size 8000 --joined-dictionary --destdir data-bin/help.en-de

Train and decode:

    python -m seqjax.train --config configs/libreoffice_en_de.py --workdir runs/help
    python -m seqjax.generate --checkpoint runs/help --input test.help.en --output test.hyp.de
    python -m seqjax.score --sys test.hyp.de --ref test.help.de --metric sacrebleu chrf
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """A small transformer with the dropout that 36 k sentences ask for."""
    return ConfigDict({
        "task": {"name": "translation", "data": "data-bin/help.en-de",
                 "source_lang": "en", "target_lang": "de"},
        "model": {"arch": "transformer_iwslt_de_en", "share_all_embeddings": True,
                  "dropout": 0.3, "encoder_embed_dim": 256, "decoder_embed_dim": 256,
                  "encoder_normalize_before": True, "decoder_normalize_before": True},
        "loss": {"name": "label_smoothed_cross_entropy", "label_smoothing": 0.1},
        "train": {"lr": 1e-3, "max_update": 20_000, "clip_norm": 1.0},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.98), "weight_decay": 1e-4},
        "schedule": {"name": "inverse_sqrt", "warmup_updates": 2000},
        "batching": {"mode": "packed", "max_tokens": 8192, "pack_length": 256},
        "valid": {"every_updates": 1000, "metric": "bleu", "patience": 5},
        "generation": {"beam": 5, "max_len_a": 1.5, "max_len_b": 20},
    })
