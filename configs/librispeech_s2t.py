"""LibriSpeech, recognition from filterbanks by an encoder and a decoder.

Paper:     "fairseq S2T: Fast Speech-to-Text Modeling with fairseq" (arXiv 2010.05171) and fairseq's
           examples/speech_to_text/docs/librispeech_example.md; s2t_transformer_s (`:s`),
           29.5 M parameters, s2t_transformer_m (`:m`), 71.2 M parameters, or s2t_transformer_l
           (`:l`), 267.8 M parameters
Expected:  word error rates of dev-clean / dev-other / test-clean / test-other, of that page:
           s 3.8 / 8.9 / 4.4 / 9.0, m 3.2 / 8.0 / 3.4 / 7.9, l 3.0 / 7.5 / 3.2 / 7.5
Hardware:  fairseq: 8 GPUs, or one with update_freq 8 as here: 320,000 frames an update. On 8
           devices: --config.batching.max_tokens=320000 --config.train.update_freq=1. Not run by
           us yet: the recordings (60 GB) could not be had here
Data:      openslr.org/12, all seven archives unpacked: LibriSpeech/train-clean-100 and so on. 960
           hours of filterbanks take 110 GB; with `--store files` they are made of the .flac files
           whenever batches are, and take none

    python -m seqjax.preprocess s2t LibriSpeech --layout librispeech --dest data-bin/librispeech \\
        --vocab-type unigram --vocab-size 10000 --specaugment ld

Train, average the last ten epochs, transcribe, score:

    python -m seqjax.train --config configs/librispeech_s2t.py --workdir runs/librispeech
    python -m seqjax.average --inputs runs/librispeech --num-update-checkpoints 10 \\
        --output runs/librispeech-average
    for split in dev-clean dev-other test-clean test-other; do
        python -m seqjax.generate --checkpoint runs/librispeech-average --beam 5 \\
            --data data-bin/librispeech --subset $split --max-tokens 50000 --output $split.hyp
        tail -n +2 data-bin/librispeech/$split.tsv | cut -f 4 > $split.ref
        python -m seqjax.score --sys $split.hyp --ref $split.ref --metric wer cer
    done

fairseq's own model and dictionary are read as they are: docs/speech-to-text.md.
"""

from ml_collections import ConfigDict

RATES = {"s": 2e-3, "m": 1e-3, "l": 5e-4}
"""Highest learning rate of each size."""


def get_config(size: str = "s") -> ConfigDict:
    """fairseq's command for one of `RATES`, flag by flag."""
    return ConfigDict({
        "task": {"name": "speech_to_text", "data": "data-bin/librispeech", "scoring": "wer",
                 "train_subset": "train-clean-100,train-clean-360,train-other-500"},
        "model": {"arch": f"s2t_transformer_{size}", "share_decoder_input_output_embed": True},
        "loss": {"name": "label_smoothed_cross_entropy", "label_smoothing": 0.1,
                 "report_accuracy": True},
        "train": {"lr": RATES[size], "max_update": 300_000, "update_freq": 8, "clip_norm": 10.0},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.999)},
        "schedule": {"name": "inverse_sqrt", "warmup_updates": 10_000},
        "batching": {"mode": "bucketed", "max_tokens": 40_000},
        "valid": {"subset": "dev-clean", "metric": "loss"},
        "checkpoint": {"keep_last": 10},
        "generation": {"beam": 5},
    })
