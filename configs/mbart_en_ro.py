"""mBART on WMT16 English to Romanian: a model of 25 languages, fine-tuned on one pair.

Paper:     "Multilingual Denoising Pre-training for Neural Machine Translation" (arXiv 2001.08210)
           and fairseq's examples/mbart; mbart_large, 12 + 12 layers, 610 M parameters
Expected:  37.7 BLEU on newstest2016 (ro-en: 37.8) without back-translated data, by sacrebleu on
           text tokenised with the scripts of wmt16-scripts (Romanian: diacritics removed);
           34.3 from random weights
Hardware:  GPUs of 32 GB; not run by us yet: neither data nor weights are ours to embed
Data:      the folder `mbart.cc25` of fairseq's release (`model.pt`, `dict.txt`,
           `sentence.bpe.model`), and the pair in pieces:

    for lang in en_XX ro_RO; do for split in train valid test; do
        spm_encode --model mbart.cc25/sentence.bpe.model \\
            < wmt16/$split.$lang > wmt16/$split.spm.$lang; done; done
    python -m seqjax.preprocess --source-lang en_XX --target-lang ro_RO \\
        --trainpref wmt16/train.spm --validpref wmt16/valid.spm --testpref wmt16/test.spm \\
        --srcdict mbart.cc25/dict.txt --tgtdict mbart.cc25/dict.txt \\
        --destdir data-bin/wmt16.en-ro --workers 8

Train, decode, score (what is compared with the paper's number is tokenised by its own scripts):

    python -m seqjax.train --config configs/mbart_en_ro.py --workdir runs/mbart-en-ro
    python -m seqjax.generate --checkpoint runs/mbart-en-ro --data data-bin/wmt16.en-ro \\
        --subset test --beam 5 --format fairseq --post-process sentencepiece --output en-ro.out
    grep '^D-' en-ro.out | sort -V | cut -f 3- | tokenize ro > en-ro.hyp
    grep '^T-' en-ro.out | sort -V | cut -f 2- | tokenize ro > en-ro.ref
    sacrebleu -tok none -s none en-ro.ref < en-ro.hyp

From a folder of Hugging Face's (docs/hugging-face.md): preprocess text that is not cut into pieces,
with `--tokenizer hf:facebook/mbart-large-cc25` in the place of --srcdict and --tgtdict, then

    python -m seqjax.train --config configs/mbart_en_ro.py --workdir runs/mbart-en-ro \\
        --config.task.name=seq2seq --config.init_from=hf:facebook/mbart-large-cc25
"""

from ml_collections import ConfigDict

LANGUAGES = (
    "ar_AR,cs_CZ,de_DE,en_XX,es_XX,et_EE,fi_FI,fr_XX,gu_IN,hi_IN,it_IT,ja_XX,kk_KZ,ko_KR,lt_LT,"
    "lv_LV,my_MM,ne_NP,nl_XX,ro_RO,ru_RU,si_LK,tr_TR,vi_VN,zh_CN")
"""Of the pretraining, in its order, which the ids of their tokens follow."""


def get_config() -> ConfigDict:
    """fairseq's command for mBART on English and Romanian, flag by flag."""
    return ConfigDict({
        "init_from": "mbart.cc25/model.pt",
        "seed": 222,
        "task": {"name": "translation_from_pretrained_bart", "data": "data-bin/wmt16.en-ro",
                 "source_lang": "en_XX", "target_lang": "ro_RO",
                 "langs": LANGUAGES.split(","), "post_process": "sentencepiece"},
        "model": {"arch": "mbart_large", "encoder_normalize_before": True,
                  "decoder_normalize_before": True, "layernorm_embedding": True,
                  "dropout": 0.3, "attention_dropout": 0.1},
        "loss": {"name": "label_smoothed_cross_entropy", "label_smoothing": 0.2},
        "train": {"lr": 3e-5, "max_update": 40_000, "update_freq": 2},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.98), "adam_eps": 1e-6},
        "schedule": {"name": "polynomial_decay", "warmup_updates": 2500,
                     "total_num_update": 40_000},
        "batching": {"mode": "bucketed", "max_tokens": 1024},
        "valid": {"metric": "bleu", "every_updates": 5000},
        "checkpoint": {"every_updates": 5000, "keep_last": 2, "keep_best": 2},
        "generation": {"beam": 5},
    })
