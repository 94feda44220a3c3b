"""MuST-C: talks in English, recognised, then translated into German (and seven others).

Paper:     "fairseq S2T: Fast Speech-to-Text Modeling with fairseq" (arXiv 2010.05171) and fairseq's
           examples/speech_to_text/docs/mustc_example.md; s2t_transformer_s. `:asr-de`
           recognises, 29.5 M parameters; `:st-de` translates, 31.1 M parameters, and begins with
           the encoder of the first. Likewise es, fr, it, nl, pt, ro and ru
Expected:  tst-COMMON, of that page, for de / es / fr / it / nl / pt / ro / ru: word error rate 18.2
           / 17.7 / 17.2 / 17.9 / 17.6 / 19.1 / 18.1 / 17.7 (in lower case, without punctuation),
           sacreBLEU 22.7 / 27.2 / 32.9 / 22.7 / 27.3 / 28.1 / 21.9 / 15.3
Hardware:  fairseq: 8 GPUs, or one with update_freq 8 as here: 320,000 frames an update. On 8
           devices: --config.batching.max_tokens=320000 --config.train.update_freq=1. Not run by
           us yet: the corpus is given to those who ask for it
Data:      ict.fbk.eu/must-c, unpacked: must-c/en-de/data/train and so on; both tasks read the same
           filterbanks, which the first command makes

    python -m seqjax.preprocess s2t must-c/en-de --layout mustc --task asr \\
        --dest data-bin/mustc.en-de --vocab-type unigram --vocab-size 5000 --specaugment lb
    python -m seqjax.preprocess s2t must-c/en-de --layout mustc --task st \\
        --dest data-bin/mustc.en-de --vocab-type unigram --vocab-size 8000 --specaugment lb

Train recognition, average its last ten epochs; train translation on top of that encoder:

    python -m seqjax.train --config configs/mustc.py:asr-de --workdir runs/mustc-asr-de
    python -m seqjax.average --inputs runs/mustc-asr-de --num-update-checkpoints 10 \\
        --output runs/mustc-asr-de-average
    python -m seqjax.train --config configs/mustc.py:st-de --workdir runs/mustc-st-de
    python -m seqjax.average --inputs runs/mustc-st-de --num-update-checkpoints 10 \\
        --output runs/mustc-st-de-average

Decode and score both:

    python -m seqjax.generate --checkpoint runs/mustc-asr-de-average --beam 5 \\
        --data data-bin/mustc.en-de --subset tst-COMMON_asr --max-tokens 50000 --output asr.hyp
    tail -n +2 data-bin/mustc.en-de/tst-COMMON_asr.tsv | cut -f 4 > asr.ref
    python -m seqjax.score --sys asr.hyp --ref asr.ref --metric wer --tokenize 13a \\
        --ignore-case --no-punctuation
    python -m seqjax.generate --checkpoint runs/mustc-st-de-average --beam 5 \\
        --data data-bin/mustc.en-de --subset tst-COMMON_st --max-tokens 50000 --output st.hyp
    tail -n +2 data-bin/mustc.en-de/tst-COMMON_st.tsv | cut -f 4 > st.ref
    python -m seqjax.score --sys st.hyp --ref st.ref --metric sacrebleu

Its models of all eight languages at once are not here.
"""

from ml_collections import ConfigDict


def get_config(name: str = "st-de") -> ConfigDict:
    """fairseq's command for a task, `asr` or `st`, and the target language, flag by flag."""
    task, lang = name.split("-")
    translates = task == "st"
    begin = {"init_from": f"runs/mustc-asr-{lang}-average", "init_parts": "encoder"}
    return ConfigDict({
        **(begin if translates else {}),
        "task": {"name": "speech_to_text", "data": f"data-bin/mustc.en-{lang}",
                 "config_yaml": f"config_{task}.yaml", "train_subset": f"train_{task}",
                 "scoring": "bleu" if translates else "wer"},
        "model": {"arch": "s2t_transformer_s"},
        "loss": {"name": "label_smoothed_cross_entropy", "label_smoothing": 0.1,
                 "report_accuracy": True},
        "train": {"lr": 2e-3 if translates else 1e-3, "max_update": 100_000, "update_freq": 8,
                  "clip_norm": 10.0},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.999)},
        "schedule": {"name": "inverse_sqrt", "warmup_updates": 10_000},
        "batching": {"mode": "bucketed", "max_tokens": 40_000},
        "valid": {"subset": f"dev_{task}", "metric": "loss"},
        "checkpoint": {"keep_last": 10},
        "generation": {"beam": 5},
    })
