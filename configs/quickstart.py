"""English to German on the embedded corpus: a translator in about ten minutes on two cores.

Data:     configs/quickstart/ha_medium.en-de.tsv, 10,721 training pairs (PROVENANCE.md)
Model:    transformer, d=192, 2+2 layers, joint vocabulary of 2,000 pieces, 2.5 M parameters
Expected: sacreBLEU 28 to 29 on the 300 test sentences. The checkpoint with the lowest validation
          loss is decoded, which is the last one. By BLEU of the 200 short validation sentences
          update 1,392 or 1,740 was chosen, with 26.4 or 27.9; the average of the last five
          saved every 50 updates has 28.9.
Command:  make demo      (launch/demo.sh has each step)
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The demo's configuration."""
    return ConfigDict({
        "task": {"name": "translation", "data": "runs/demo/data",
                 "source_lang": "en", "target_lang": "de"},
        "model": {
            "name": "transformer", "share_all_embeddings": True, "dropout": 0.2,
            "encoder_embed_dim": 192, "encoder_ffn_embed_dim": 768, "encoder_layers": 2,
            "encoder_attention_heads": 4, "encoder_normalize_before": True,
            "decoder_embed_dim": 192, "decoder_ffn_embed_dim": 768, "decoder_layers": 2,
            "decoder_attention_heads": 4, "decoder_normalize_before": True,
        },
        "loss": {"name": "label_smoothed_cross_entropy", "label_smoothing": 0.1},
        "train": {"lr": 1.5e-3, "max_update": 2350, "clip_norm": 1.0},
        "optimizer": {"name": "adam", "adam_betas": (0.9, 0.98)},
        "schedule": {"name": "polynomial_decay", "warmup_updates": 300},
        "batching": {"mode": "packed", "max_tokens": 1024, "pack_length": 64},
        "valid": {"every_epochs": 8, "metric": "loss", "decode_sentences": 0, "samples": 3},
        "generation": {"beam": 5, "max_len_a": 1.5, "max_len_b": 20},
        "log": {"interval_updates": 100},
    })
