"""wav2vec 2.0 base, fine-tuned to write what is said, with ten minutes of transcripts or more.

Paper:     "wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations" (arXiv
           2006.11477), table 1, and fairseq's examples/wav2vec/config/finetuning/base_10m.yaml;
           `:1h`, `:10h`, `:100h` and `:960h` are its other files; 94.4 M parameters
Expected:  with ten minutes and LibriSpeech's 4-gram model (weight 3.23, -0.26 a word): word error
           rate 8.9 of dev-clean, 9.1 of test-clean in the paper's table; with its transformer
           language model 13.2 of dev-other
Hardware:  fairseq: 2 GPUs, each 3,200,000 samples and update_freq 4, as 8 micro-batches here (of
           960 hours 8 GPUs). Not run by us yet: the recordings could not be had here
Data:      openslr.org/12, unpacked; the labelled ten minutes of Libri-Light
           (dl.fbaipublicfiles.com/librilight/data/librispeech_finetuning.tgz; the hour is
           librispeech_finetuning/1h); the letters, dict.ltr.txt, of fairseq's page
           (dl.fbaipublicfiles.com/fairseq/wav2vec/dict.ltr.txt), which must lie in data-bin/ls10m
           before: ten minutes do not say all of them

    python -m seqjax.preprocess audio librispeech_finetuning/1h/0 --split train --ext flac \\
        --transcripts librispeech_finetuning/1h/0 --dest data-bin/ls10m
    for split in dev-clean dev-other test-clean test-other; do
        python -m seqjax.preprocess audio LibriSpeech/$split --split ${split/-/_} --ext flac \\
            --transcripts LibriSpeech/$split --dest data-bin/ls10m; done

Train. The pretrained model is `runs/wav2vec2-base`, of configs/wav2vec2_base.py; fairseq's instead:
--config.model.w2v_path=wav2vec_small.pt

    python -m seqjax.train --config configs/wav2vec2_finetune.py --workdir runs/wav2vec2-10m

Recognise and score; 4-gram.arpa.gz is of openslr.org/11:

    python -m seqjax.generate --checkpoint runs/wav2vec2-10m --data data-bin/ls10m \\
        --subset test_clean --output greedy.txt
    python -m seqjax.score --sys greedy.txt --ref data-bin/ls10m/test_clean.wrd --metric wer
    python -m seqjax.generate --checkpoint runs/wav2vec2-10m --data data-bin/ls10m \\
        --subset test_clean --output beam.txt --beam 500 --lm-path 4-gram.arpa.gz \\
        --lm-weight 3.23 --word-score -0.26
    python -m seqjax.score --sys beam.txt --ref data-bin/ls10m/test_clean.wrd --metric wer
"""

from ml_collections import ConfigDict

# Learning rate, updates, masked frames, masked channels, layers left out, updates in which the
# encoder is as it was, micro-batches.
AMOUNTS = {
    "10m": (5e-5, 13_000, 0.65, 0.25, 0.1, 10_000, 8),
    "1h": (5e-5, 13_000, 0.65, 0.25, 0.1, 10_000, 8),
    "10h": (5e-5, 20_000, 0.65, 0.5, 0.05, 10_000, 8),
    "100h": (3e-5, 80_000, 0.65, 0.5, 0.1, 0, 8),
    "960h": (1e-4, 320_000, 0.5, 0.1, 0.1, 0, 8),
}
# Epochs from one validation to the next, and updates before the first.
VALIDATIONS = {"10m": (1000, 10_000), "1h": (1000, 10_000), "10h": (50, 10_000)}


def get_config(amount: str = "10m") -> ConfigDict:
    """fairseq's base_10m.yaml and its like, key by key."""
    lr, updates, frames, channels, layerdrop, frozen, freq = AMOUNTS[amount]
    epochs, first = VALIDATIONS.get(amount, (1, 0))
    return ConfigDict({
        "task": {"name": "audio_finetuning", "data": f"data-bin/ls{amount}", "labels": "ltr",
                 "normalize": False},
        "model": {"name": "wav2vec_ctc", "w2v_path": "runs/wav2vec2-base", "apply_mask": True,
                  "mask_prob": frames, "mask_channel_prob": channels, "mask_channel_length": 64,
                  "layerdrop": layerdrop, "activation_dropout": 0.1, "feature_grad_mult": 0.0,
                  "freeze_finetune_updates": frozen},
        "loss": {"name": "ctc", "zero_infinity": True},
        "train": {"lr": lr, "max_update": updates, "update_freq": freq, "sentence_avg": True},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.98), "adam_eps": 1e-8},
        "schedule": {"name": "tri_stage", "phase_ratio": (0.1, 0.4, 0.5), "final_lr_scale": 0.05},
        "batching": {"mode": "bucketed", "max_tokens": 3_200_000,
                     "skip_invalid_size_inputs_valid_test": True},
        "valid": {"subset": "dev_other", "every_epochs": epochs, "after_updates": first,
                  "metric": "wer"},
        "checkpoint": {"keep_last": 1},
        "log": {"interval_updates": 200},
    })
