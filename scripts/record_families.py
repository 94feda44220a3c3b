"""Records what fairseq computes for tiny models that read or write sentences.

Needs fairseq (main branch of 2025) and torch; seqjax and its tests need neither. Writes
`FOLDER/FAMILY/CASE.npz`:

    python scripts/record_families.py tests/goldens [FAMILY/CASE ...]

`about` (JSON) has the architecture, the `args` given beyond it, the weights' names and
shapes in the order of the flat `weights`, the names of those with a gradient in the order of
`grads`, its norms, and keys of ours that only whole rows are compared under (`TEACHER_FORCED`).
`source`, `prev` and `target` are the batch (padded on the right; fairseq is given its sources
padded on the left), `lprobs` the log-probabilities, `loss` the label-smoothed loss (with an
adaptive softmax: adaptive_loss), `step_lprobs` the log-probabilities of position-by-position
decoding.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import types
from typing import Any

import numpy as np
import torch
from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY

SMOOTHING = 0.1

_LSTM = dict(
    encoder_embed_dim=6, decoder_embed_dim=6, decoder_out_embed_dim=6, encoder_hidden_size=5,
    decoder_hidden_size=7, encoder_layers=2, decoder_layers=2,
)
_FCONV = dict(encoder_embed_dim=6, decoder_embed_dim=6, decoder_out_embed_dim=5)
_LIGHT = dict(
    encoder_embed_dim=8, decoder_embed_dim=8, encoder_ffn_embed_dim=10, decoder_ffn_embed_dim=12,
    encoder_attention_heads=2, decoder_attention_heads=2, encoder_layers=2, decoder_layers=2,
    encoder_conv_type="lightweight", decoder_conv_type="lightweight", weight_softmax=True,
    encoder_kernel_size_list=[3, 7], decoder_kernel_size_list=[3, 5],
    encoder_glu=True, decoder_glu=True,
)
_LIGHT_LM = dict(
    decoder_embed_dim=8, decoder_ffn_embed_dim=12, decoder_attention_heads=2, decoder_layers=2,
    decoder_kernel_size_list=[3, 5], weight_softmax=True, dropout=0.1, attention_dropout=0.0,
    relu_dropout=0.0, no_token_positional_embeddings=False,
    share_decoder_input_output_embed=False, decoder_conv_type="dynamic", decoder_glu=True,
)
_TRANSFORMER_LM = dict(
    decoder_embed_dim=16, decoder_ffn_embed_dim=12, decoder_attention_heads=2, decoder_layers=2,
)
_ADAPTIVE_LM = dict(
    _TRANSFORMER_LM, criterion="adaptive_loss", adaptive_input=True, adaptive_input_cutoff="8,14",
    adaptive_softmax_cutoff="8,14", adaptive_input_factor=2, adaptive_softmax_factor=2,
)
_BART = dict(
    encoder_embed_dim=8, encoder_ffn_embed_dim=12, encoder_attention_heads=2, encoder_layers=2,
    decoder_layers=2, decoder_attention_heads=2,
)
CASES: dict[str, tuple[str, dict]] = {
    "bart/shared": ("bart_base", dict(_BART, share_all_embeddings=True)),
    "bart/prenorm_untied": ("bart_large", dict(
        _BART, share_all_embeddings=False, share_decoder_input_output_embed=False,
        encoder_normalize_before=True, decoder_normalize_before=True, layernorm_embedding=False,
        no_scale_embedding=False, decoder_embed_dim=8, decoder_ffn_embed_dim=10)),
    "mbart/prenorm": ("mbart_base", dict(
        _BART, share_all_embeddings=True, encoder_normalize_before=True,
        decoder_normalize_before=True)),
    "mbart/wmt20": ("mbart_base_wmt20", dict(
        _BART, share_all_embeddings=False, share_decoder_input_output_embed=False,
        encoder_normalize_before=True, decoder_embed_dim=8, decoder_ffn_embed_dim=10)),
    "transformer_lm/learned": ("transformer_lm_gpt3_small", dict(_TRANSFORMER_LM)),
    "transformer_lm/widths": ("transformer_lm_big", dict(
        _TRANSFORMER_LM, decoder_input_dim=6, decoder_output_dim=10, layernorm_embedding=True,
        no_scale_embedding=True)),
    "transformer_lm/adaptive": ("transformer_lm_wiki103", dict(
        _ADAPTIVE_LM, adaptive_input_factor=4, adaptive_softmax_factor=4,
        tie_adaptive_weights=True)),
    "transformer_lm/adaptive_words": ("transformer_lm_gbw", dict(
        _ADAPTIVE_LM, tie_adaptive_weights=True)),
    "transformer_lm/adaptive_apart": ("transformer_lm_gpt", dict(
        _ADAPTIVE_LM, decoder_output_dim=12, decoder_input_dim=10,
        no_token_positional_embeddings=True)),
    "transformer_lm/adaptive_softmax": ("transformer_lm_gpt", dict(
        _TRANSFORMER_LM, criterion="adaptive_loss", adaptive_softmax_cutoff="8,18",
        adaptive_softmax_factor=3)),
    "transformer_lm/normformer": ("transformer_lm_gpt", dict(
        _TRANSFORMER_LM, scale_attn=True, scale_fc=True, scale_heads=True, scale_resids=True)),
    "lstm/bidirectional": ("lstm", dict(_LSTM, encoder_bidirectional=True)),
    "lstm/tied_no_attention": ("lstm", dict(
        _LSTM, decoder_attention="0", share_decoder_input_output_embed=True)),
    "lstm/shared": ("lstm", dict(
        encoder_embed_dim=6, decoder_embed_dim=6, decoder_out_embed_dim=6,
        share_all_embeddings=True)),
    "lstm/adaptive": ("lstm", dict(
        _LSTM, decoder_hidden_size=16, criterion="adaptive_loss", adaptive_softmax_cutoff="8,14")),
    "fconv/mixed": ("fconv", dict(
        _FCONV, encoder_layers="[(6, 3)] * 2 + [(5, 2), (8, 4, 2), (7, 1, 0)]",
        decoder_layers="[(6, 3), (5, 2, 0), (7, 4, 2)]", decoder_attention="[True, False, True]")),
    "fconv/shared": ("fconv", dict(
        _FCONV, decoder_out_embed_dim=6, share_input_output_embed=True,
        encoder_layers="[(4, 3)]", decoder_layers="[(4, 3), (4, 1)]")),
    "lightconv/lightweight": ("lightconv", dict(_LIGHT)),
    "lightconv/dynamic": ("lightconv", dict(
        _LIGHT, encoder_conv_type="dynamic", decoder_conv_type="dynamic", encoder_glu=False,
        decoder_glu=False, encoder_normalize_before=True, decoder_normalize_before=True,
        encoder_learned_pos=True, decoder_learned_pos=True)),
    "lightconv/odd": ("lightconv", dict(
        _LIGHT, weight_softmax=False, encoder_conv_dim=4, decoder_conv_dim=6,
        decoder_input_dim=6, decoder_output_dim=10, decoder_conv_type="dynamic",
        decoder_kernel_size_list=[31], no_token_positional_embeddings=True,
        tie_adaptive_weights=False)),
    "lightconv/wide_kernel": ("lightconv", dict(
        _LIGHT, decoder_conv_type="dynamic", decoder_kernel_size_list=[31],
        share_all_embeddings=True)),
    "lstm/lm_residual": ("lstm_lm", dict(
        decoder_embed_dim=6, decoder_hidden_size=7, decoder_out_embed_dim=6, decoder_layers=3,
        share_decoder_input_output_embed=True, residuals=True)),
    "lstm/lm_adaptive": ("lstm_lm", dict(
        decoder_embed_dim=6, decoder_hidden_size=16, decoder_out_embed_dim=16,
        criterion="adaptive_loss", adaptive_softmax_cutoff="8,14")),
    "fconv/lm": ("fconv_lm", dict(
        decoder_embed_dim=6, decoder_layers="[(6, 3), (5, 2), (6, 1, 0)]")),
    "fconv/lm_adaptive": ("fconv_lm", dict(
        decoder_embed_dim=6, decoder_layers="[(16, 3), (16, 4)]", criterion="adaptive_loss",
        adaptive_softmax_cutoff="8,14")),
    "lightconv/lm": ("lightconv_lm", dict(_LIGHT_LM)),
    "lightconv/lm_adaptive": ("lightconv_lm", dict(
        _LIGHT_LM, decoder_embed_dim=16, decoder_input_dim=16, decoder_output_dim=16,
        adaptive_input=True, adaptive_input_cutoff="8,14", adaptive_softmax_cutoff="8,14",
        adaptive_input_factor=2, adaptive_softmax_factor=2, tie_adaptive_weights=True,
        tie_adaptive_proj=True, decoder_conv_type="lightweight",
        no_token_positional_embeddings=True)),
}

TEACHER_FORCED = {"lightconv/wide_kernel": {"short_batch_softmax": True}}
"""Cases whose kernels are longer than their sentences, so that fairseq's Python code normalises
them in whole rows otherwise than in decoding."""


def dictionary(entries: int) -> Dictionary:
    """A dictionary of made-up words."""
    result = Dictionary()
    for i in range(entries - len(result)):
        result.add_symbol(f"w{i}")
    return result


def fresh(arch: str, given: dict, sizes: tuple[int, int]):
    """fairseq's model as it begins."""
    values = dict(criterion="label_smoothed_cross_entropy", max_source_positions=20,
                  max_target_positions=20, tokens_per_sample=20, tie_adaptive_weights=False)
    args = types.SimpleNamespace(**{**values, **given})
    ARCH_CONFIG_REGISTRY[arch](args)
    source, target = dictionary(sizes[0]), dictionary(sizes[1])
    task = types.SimpleNamespace(
        source_dictionary=source, target_dictionary=target, dictionary=target,
        output_dictionary=target)
    return ARCH_MODEL_REGISTRY[arch].build_model(args, task)


def build(arch: str, given: dict, sizes: tuple[int, int]):
    """fairseq's model with every parameter moved off its start."""
    model = fresh(arch, given, sizes)
    for name, value in model.named_parameters():
        if "conv_bias" in name:
            value.data.zero_()
        value.data.add_(0.2 * torch.randn_like(value))
    return model.eval()


def batch(rng: np.random.Generator, sizes: tuple[int, int]):
    """Three sentences of different lengths, padded on the right."""
    source, target = np.ones((3, 9), np.int64), np.ones((3, 8), np.int64)
    for row, (s, t) in enumerate(((9, 7), (6, 8), (4, 3))):
        source[row, :s] = [*rng.integers(3, sizes[0], s - 1), 2]
        target[row, :t] = [*rng.integers(3, sizes[1], t - 1), 2]
    prev = np.ones_like(target)
    for row in range(3):
        length = (target[row] != 1).sum()
        prev[row, :length] = [2, *target[row, : length - 1]]
    return source, prev, target


def left_padded(source: np.ndarray) -> torch.Tensor:
    """The same sentences, as fairseq wants them."""
    return torch.tensor(np.stack([np.roll(row, (row == 1).sum()) for row in source]))


def objective(model, output, target: torch.Tensor) -> torch.Tensor:
    """The summed loss of fairseq's criterions."""
    softmax = getattr(model.decoder, "adaptive_softmax", None)
    if softmax is not None:
        logits, targets = softmax(output[0], target)
        return sum(
            torch.nn.functional.cross_entropy(x, y, ignore_index=1, reduction="sum")
            for x, y in zip(logits, targets, strict=True) if y is not None)
    lprobs = model.get_normalized_probs(output, log_probs=True)
    keep = target != 1
    nll = -lprobs.gather(2, target[..., None])[..., 0][keep].sum()
    each = SMOOTHING / (lprobs.shape[-1] - 1)
    return (1 - SMOOTHING - each) * nll - each * lprobs[keep].sum()


def record(arch: str, given: dict) -> dict[str, Any]:
    """Everything about one case."""
    torch.manual_seed(1)
    shared = given.get("share_all_embeddings", False)
    sizes = (18, 18) if shared or "_lm" in arch else (16, 18)
    model = build(arch, given, sizes)
    source, prev, target = batch(np.random.default_rng(2), sizes)
    inputs, truth = torch.tensor(prev), torch.tensor(target)
    encoded, extra = None, {}
    if "_lm" not in arch:
        lengths = torch.tensor((source != 1).sum(1))
        encoded = model.encoder(left_padded(source), lengths)
        extra = {"encoder_out": encoded}
    output = model.decoder(inputs, **extra)
    loss = objective(model, output, truth)
    loss.backward()
    gradients = {k: v.grad.norm() for k, v in model.named_parameters() if v.grad is not None}
    state = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
    about = {
        "arch": arch, "args": given, "grads": list(gradients),
        "weights": {name: list(value.shape) for name, value in state.items()},
    }
    with torch.no_grad():
        lprobs = model.get_normalized_probs(output, log_probs=True, sample={"target": None})
    result = {
        "about": np.array(json.dumps(about)), "source": source.astype(np.int8),
        "prev": prev.astype(np.int8), "target": target.astype(np.int8),
        "loss": loss.detach().numpy(), "lprobs": lprobs.numpy(),
        "grads": torch.stack(list(gradients.values())).numpy(),
        "weights": torch.cat([value.reshape(-1) for value in state.values()]).numpy(),
    }
    with torch.no_grad():
        cache, steps = {}, []
        for t in range(prev.shape[1]):
            out = model.decoder(inputs[:, : t + 1], incremental_state=cache, **extra)
            steps.append(model.get_normalized_probs(
                out, log_probs=True, sample={"target": None})[:, -1])
    result["step_lprobs"] = torch.stack(steps, 1).numpy()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Record what fairseq computes for tiny models.")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*", help="only these cases")
    args = parser.parse_args()
    folder = args.folder
    for name in args.names or CASES:
        arch, given = CASES[name]
        path = folder / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        found = record(arch, given)
        about = {**json.loads(str(found.pop("about"))),
                 "teacher_forced": TEACHER_FORCED.get(name, {})}
        np.savez_compressed(path, allow_pickle=False, about=np.array(json.dumps(about)), **found)
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
