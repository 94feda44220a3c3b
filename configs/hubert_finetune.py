"""HuBERT base, fine-tuned to write what is said, with ten hours of transcripts.

Paper:     "HuBERT: Self-Supervised Speech Representation Learning by Masked Prediction of Hidden
           Units" (arXiv 2106.07447), table II, and fairseq's
           examples/hubert/config/finetune/base_10h.yaml; 94.4 M parameters
Expected:  with LibriSpeech's 4-gram model: word error rate 4.3 of test-clean and 9.4 of test-other
           in the paper; torchaudio's recipe (examples/hubert) for the same has 4.4 and 9.5, and
           10.9 and 17.8 without a language model
Hardware:  fairseq: 8 GPUs (config/finetune/run), each 3,200,000 samples an update, here 8 times
           that. Not run by us at this size (the recordings could not be had here). fairseq's
           schedule rises for 8,000 of its 25,000 updates and is then cut off: it would fall until
           80,000
Data:      openslr.org/12, unpacked, and the labelled ten hours of Libri-Light
           (dl.fbaipublicfiles.com/librilight/data/librispeech_finetuning.tgz), a hundredth of
           them held out

    python -m seqjax.preprocess audio librispeech_finetuning --ext flac --valid-percent 0.01 \\
        --transcripts librispeech_finetuning --dest data-bin/ls10h
    for split in test-clean test-other; do
        python -m seqjax.preprocess audio LibriSpeech/$split --split ${split/-/_} --ext flac \\
            --transcripts LibriSpeech/$split --dest data-bin/ls10h; done

Train. The pretrained model is `runs/hubert-iter2`, of configs/hubert_base.py; fairseq's instead:
--config.model.w2v_path=hubert_base_ls960.pt

    python -m seqjax.train --config configs/hubert_finetune.py --workdir runs/hubert-10h

Recognise and score; 4-gram.arpa.gz is of openslr.org/11, weights are those of fairseq's
config/decode:

    python -m seqjax.generate --checkpoint runs/hubert-10h --data data-bin/ls10h \\
        --subset test_clean --output greedy.txt
    python -m seqjax.score --sys greedy.txt --ref data-bin/ls10h/test_clean.wrd --metric wer
    python -m seqjax.generate --checkpoint runs/hubert-10h --data data-bin/ls10h \\
        --subset test_clean --output beam.txt --beam 500 --lm-path 4-gram.arpa.gz \\
        --lm-weight 2 --word-score -1
    python -m seqjax.score --sys beam.txt --ref data-bin/ls10h/test_clean.wrd --metric wer
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """fairseq's base_10h.yaml, key by key."""
    return ConfigDict({
        "seed": 1337,
        "task": {"name": "hubert_pretraining", "data": "data-bin/ls10h", "fine_tuning": True,
                 "labels": ("ltr",), "single_target": True, "normalize": False},
        "model": {"name": "hubert_ctc", "w2v_path": "runs/hubert-iter2", "apply_mask": True,
                  "mask_selection": "static", "mask_length": 10, "mask_other": 0.0,
                  "mask_prob": 0.75, "mask_channel_selection": "static",
                  "mask_channel_length": 64, "mask_channel_other": 0.0, "mask_channel_prob": 0.5,
                  "layerdrop": 0.1, "dropout": 0.0, "activation_dropout": 0.1,
                  "attention_dropout": 0.0, "feature_grad_mult": 0.0,
                  "freeze_finetune_updates": 10_000},
        "loss": {"name": "ctc", "zero_infinity": True},
        "train": {"lr": 2e-5, "max_update": 25_000, "update_freq": 8, "sentence_avg": True},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.98), "adam_eps": 1e-8},
        "schedule": {"name": "tri_stage", "warmup_updates": 8000, "hold_steps": 0,
                     "decay_steps": 72_000, "final_lr_scale": 0.05},
        "batching": {"mode": "bucketed", "max_tokens": 3_200_000},
        "valid": {"every_epochs": 5, "after_updates": 10_000, "metric": "wer"},
        "checkpoint": {"every_epochs": 5, "keep_last": 1},
        "log": {"interval_updates": 200},
    })
