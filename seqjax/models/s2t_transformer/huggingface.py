"""Hugging Face's Speech2Text: keys of `config.json` and names of weights in, those of
`s2t_transformer` out, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqjax.models.s2t_transformer.config import SpeechConfig
from seqjax.models.tables import HuggingFaceKeys, HuggingFaceTable, State, WeightNames
from seqjax.models.transformer import huggingface

_TARGET = "model.decoder.embed_tokens.weight"
_SAME = (
    "encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads",
    "encoder_layerdrop", "decoder_layerdrop", "dropout", "attention_dropout",
    "activation_dropout", "max_source_positions", "max_target_positions", "conv_channels",
    "input_feat_per_channel", "input_channels")
"""Keys that are called the same there."""
KEYS = HuggingFaceKeys(
    ours={
        "d_model": ("encoder_embed_dim", "decoder_embed_dim"),
        "encoder_ffn_dim": ("encoder_ffn_embed_dim",),
        "decoder_ffn_dim": ("decoder_ffn_embed_dim",),
        "activation_function": ("activation_fn",), "scale_embedding": ("no_scale_embedding",),
        "tie_word_embeddings": ("share_decoder_input_output_embed",),
        **{key: (key,) for key in _SAME},
    },
    defaults={
        "d_model": 256, "encoder_layers": 12, "decoder_layers": 6, "encoder_ffn_dim": 2048,
        "decoder_ffn_dim": 2048, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0, "activation_function": "relu",
        "dropout": 0.1, "attention_dropout": 0.0, "activation_dropout": 0.0,
        "scale_embedding": True, "max_source_positions": 6000, "max_target_positions": 1024,
        "conv_channels": 1024, "input_feat_per_channel": 80, "input_channels": 1,
        "tie_word_embeddings": True, "is_encoder_decoder": True,
    },
    spelled=huggingface.SPELLED, fixed={"is_encoder_decoder": (True,)},
    always={"encoder_normalize_before": True, "decoder_normalize_before": True,
            "conv_version": "s2t_transformer"},
)


def _sizes(hf: Mapping[str, Any]) -> dict[str, Any]:
    """Widths of the convolutions, and where positions begin."""
    sizes = hf.get("conv_kernel_sizes", (5, 5))
    return {"conv_kernel_sizes": ",".join(map(str, sizes)),
            "position_offset": huggingface.behind(hf.get("pad_token_id", 1))}


def _widths(config: SpeechConfig) -> dict[str, Any]:
    """And back."""
    sizes = list(config.kernel_sizes)
    return {"conv_kernel_sizes": sizes, "num_conv_layers": len(sizes)}


def copies(config: SpeechConfig) -> Mapping[str, str]:
    """A tied output projection."""
    return {"lm_head.weight": _TARGET} if config.ties_output else {}


def vocabulary(state: State) -> tuple[int, int]:
    """There are no words in the source."""
    return 0, state[_TARGET].shape[0]


READ = huggingface.reader(KEYS, _sizes)
HUGGINGFACE = HuggingFaceTable(
    model_types=("speech_to_text",),
    architectures=("Speech2TextForConditionalGeneration", "Speech2TextModel"),
    config_from=READ,
    config_to=huggingface.writer(
        KEYS, READ, more=_widths, elsewhere={"position_offset": (None, 2)},
        unsaid=("conv_out_channels", "ctc_weight")),
    names=WeightNames(
        vocabulary=vocabulary, copies=copies,
        ignored=(r"model\.(encoder|decoder)\.embed_positions\.weights?",),
        renames=(
            (r"^encoder\.subsample\.conv_layers_(\d+)\.", r"encoder.conv.conv_layers.\1."),
            (r"^decoder\.output_projection\.weight$", "lm_head.weight"),
            (r"^(encoder|decoder)\.", r"model.\1."))),
    prefix="model.", kind="speech",
    special={"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2,
             "decoder_start_token_id": 2},
    vocabularies=("", "vocab_size"),
)
