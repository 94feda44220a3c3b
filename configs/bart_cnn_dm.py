"""BART large on CNN/DailyMail: a news article, and the sentences that sum it up.

Paper:     "BART: Denoising Sequence-to-Sequence Pre-training" (arXiv 1910.13461), table 3;
           fairseq's examples/bart/README.summarization.md; bart_large, 406 M parameters
Expected:  ROUGE-1 / 2 / L of the test set: 44.16 / 21.28 / 40.90 (files2rouge on text that
           CoreNLP tokenised)
Hardware:  fairseq: 8 V100 of 32 GB, about 5 hours, each 2,048 tokens and update_freq 4; here one
           mesh sees `max_tokens` x `update_freq` = 65,536 tokens an update all the same. On 8
           devices: --config.batching.max_tokens=16384 --config.train.update_freq=4. Not run by us
           at this size yet: neither data nor weights are ours to embed
Data:      articles and summaries, one a line, cased and not tokenised: cnn_dm/train.source,
           train.target, val.*, test.* (github.com/artmatsak/cnn-dailymail makes them), and the
           files of bart.large: model.pt, dict.txt and GPT-2's encoder.json and vocab.bpe

    python -m seqjax.preprocess --source-lang source --target-lang target \\
        --trainpref cnn_dm/train --validpref cnn_dm/val --testpref cnn_dm/test \\
        --tokenizer gpt2:bart.large --srcdict bart.large/dict.txt --tgtdict bart.large/dict.txt \\
        --destdir data-bin/cnn_dm --workers 8

Train, write summaries (beam, lengths and trigrams are those of `generation` below), score:

    python -m seqjax.train --config configs/bart_cnn_dm.py --workdir runs/cnn_dm
    python -m seqjax.generate --checkpoint runs/cnn_dm --input cnn_dm/test.source \\
        --too-long truncate --output test.hypo
    python -m rouge_score.rouge --target_filepattern=cnn_dm/test.target --use_stemmer=true \\
        --prediction_filepattern=test.hypo --output_filename=rouge.csv   # pip: rouge-score

or CoreNLP's tokens and files2rouge, with which the paper's figures were made:

    for f in cnn_dm/test.target test.hypo; do
        java edu.stanford.nlp.process.PTBTokenizer -ioFileList -preserveLines < $f > $f.tok; done
    files2rouge cnn_dm/test.target.tok test.hypo.tok

From a folder of Hugging Face's, with its own tokenizer (docs/hugging-face.md): preprocess with
`--tokenizer hf:facebook/bart-large` in the place of --tokenizer, --srcdict and --tgtdict, and train
with --config.init_from=hf:facebook/bart-large

XSum: `configs/bart_cnn_dm.py:xsum`, 45.14 / 22.27 / 37.25 in the paper's table 3.
"""

from ml_collections import ConfigDict

# Data: updates, tokens of an update, and how summaries are searched for.
SETS = {
    "cnn_dm": (20_000, 65_536, {"beam": 4, "lenpen": 2.0, "max_len_b": 140, "min_len": 55}),
    "xsum": (15_000, 32_768, {"beam": 6, "lenpen": 1.0, "max_len_b": 60, "min_len": 10}),
}


def get_config(name: str = "cnn_dm") -> ConfigDict:
    """fairseq's command for one of `SETS`, flag by flag, and the search of its summarize.py."""
    updates, tokens, search = SETS[name]
    return ConfigDict({
        "init_from": "bart.large/model.pt",
        "task": {"name": "translation", "data": f"data-bin/{name}",
                 "source_lang": "source", "target_lang": "target",
                 "truncate_source": True, "max_source_positions": 1024,
                 "max_target_positions": 1024},
        "model": {"arch": "bart_large", "dropout": 0.1, "attention_dropout": 0.1},
        "loss": {"name": "label_smoothed_cross_entropy", "label_smoothing": 0.1},
        "train": {"lr": 3e-5, "max_update": updates, "update_freq": tokens // 2048,
                  "clip_norm": 0.1},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.999), "adam_eps": 1e-8,
                      "weight_decay": 0.01},
        "schedule": {"name": "polynomial_decay", "warmup_updates": 500,
                     "total_num_update": updates},
        "batching": {"mode": "bucketed", "max_tokens": 2048, "required_batch_size_multiple": 1,
                     "skip_invalid_size_inputs_valid_test": True},
        "valid": {"metric": "loss", "decode": False},
        "checkpoint": {"keep_last": 2, "keep_best": 1},
        "generation": {**search, "no_repeat_ngram_size": 3},
    })
