"""Records what fairseq computes for tiny speech-to-text models whose weights are of a seed.

Needs fairseq (main branch of 2025) and torch; seqjax and its tests need neither. Writes
`FOLDER/CASE.npz`:

    python scripts/record_speech_to_text.py tests/goldens/seeded_speech [CASE ...]

Weights are `seeded_state` of tests/seeded_weights.py (`SEED`); so is the batch. `about` (JSON) has
the model's keys, the weights' names and shapes, the norms of gradients and the loss
(`label_smoothed_cross_entropy`, 0.1, and with `ctc_weight` the CTC loss beside it) of the pass
`eval`; of a conformer also of `train`, without dropout, behind which its buffers are `after`.
`order` has the optimizer's names. `states` are the encoder's, of frames that are `real`; `lprobs`
[B, T, V] those of the decoder; `fresh` mean and deviation of each fresh weight.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import pathlib
import sys
import types
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss
from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))
from seeded_weights import seeded_state

SEED, WORDS, FEATURES = 7, 23, 8
LENGTHS, TARGETS = (37, 30, 22), (6, 7, 4)
SAMPLES = (413, 333, 190)
_TINY = dict(
    encoder_embed_dim=12, encoder_ffn_embed_dim=16, encoder_layers=2, encoder_attention_heads=2,
    decoder_layers=1, decoder_attention_heads=3, conv_channels=10, dropout=0.0,
    attention_dropout=0.0, activation_dropout=0.0, input_feat_per_channel=FEATURES,
    max_source_positions=100, max_target_positions=50)
_ONE = dict(_TINY, encoder_layers=1)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "transformer": ("s2t_transformer_xs", dict(
        _TINY, conv_kernel_sizes="3,5", ctc_weight=0.3, input_channels=2, activation_fn="gelu")),
    "planes": ("s2t_transformer", dict(
        _ONE, conv_version="convtransformer", conv_out_channels=5, encoder_normalize_before=False,
        decoder_normalize_before=False, share_decoder_input_output_embed=True,
        no_scale_embedding=True, layernorm_embedding=True, decoder_embed_dim=6)),
    "convtransformer": ("convtransformer_espnet", dict(
        _ONE, conv_out_channels=5, decoder_output_dim=9)),
    "conformer_abs": ("s2t_conformer", dict(_TINY, depthwise_conv_kernel_size=5)),
    "conformer_espnet_abs": ("s2t_conformer", dict(
        _ONE, depthwise_conv_kernel_size=3, attn_type="espnet", pos_enc_type="abs",
        conv_version="convtransformer", conv_out_channels=4)),
    "conformer_rel_pos": ("s2t_conformer", dict(
        _TINY, depthwise_conv_kernel_size=7, attn_type="espnet", pos_enc_type="rel_pos")),
    "conformer_rope": ("s2t_conformer", dict(
        _TINY, depthwise_conv_kernel_size=5, attn_type="espnet", pos_enc_type="rope")),
    "conformer_no_positions": ("s2t_conformer", dict(
        _ONE, depthwise_conv_kernel_size=1, attn_type="", pos_enc_type="rope")),
}

_WAVES = dict(
    conv_feature_layers="[(8, 10, 5)] + [(8, 3, 2)] * 2", encoder_layers=2, encoder_embed_dim=12,
    encoder_ffn_embed_dim=16, encoder_attention_heads=2, conv_pos=6, conv_pos_groups=3,
    feature_grad_mult=0.1)  # which fairseq overrides in files that it reads
_BOTH = dict(
    encoder_embed_dim=12, decoder_embed_dim=8, decoder_ffn_embed_dim=10, decoder_layers=1,
    decoder_attention_heads=2, decoder_dropout=0.0, activation_fn="relu", freeze_regex=None,
    w2v_path=None,
    data=".", max_target_positions=50, max_source_positions=1000)
CASES |= {
    "xm_plain": ("xm_transformer", dict(_BOTH, w2v=_WAVES, adaptor_n_layers=2)),
    "xm_projections": ("xm_transformer", dict(
        _BOTH, adaptor_proj=True, adaptor_layernorm=True, adaptor_kernel_size=5, adaptor_stride=3,
        adaptor_n_layers=1, finetune_w2v_params="layer_norm,layers.1.",
        finetune_decoder_params="encoder_attn,layer_norm", decoder_learned_pos=True,
        decoder_normalize_before=True, layernorm_embedding=True, no_scale_embedding=True,
        share_decoder_input_output_embed=True, w2v=dict(
            _WAVES, extractor_mode="layer_norm", layer_norm_first=True, conv_bias=True))),
    "xm_bare": ("xm_transformer", dict(
        _BOTH, encoder_proj=True, adaptor_n_layers=0, w2v=dict(
            _WAVES, extractor_mode="layer_norm", encoder_layers=1))),
}


def waves(given: dict[str, Any]) -> Any:
    """`w2v_args` of an encoder of these keys."""
    from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config
    from omegaconf import OmegaConf

    return OmegaConf.create({
        "model": {**dataclasses.asdict(Wav2Vec2Config(**given)), "_name": "wav2vec2"},
        "task": {"_name": "audio_pretraining", "data": ".", "normalize": False}})


def build(arch: str, given: dict[str, Any]) -> Any:
    """fairseq's model of these keys."""
    importlib.import_module("fairseq.models.speech_to_text")
    words = Dictionary()
    for i in range(WORDS - len(words)):
        words.add_symbol(f"w{i}")
    given = dict(given)
    inner = given.pop("w2v", None)
    args = argparse.Namespace(arch=arch, fp16=False, **given)
    if inner is not None:
        args.w2v_args = waves(inner)
    ARCH_CONFIG_REGISTRY[arch](args)
    task = types.SimpleNamespace(target_dictionary=words, multitask_tasks={})
    return ARCH_MODEL_REGISTRY[arch].build_model(args, task), args


def batch(width: int | None) -> dict[str, np.ndarray]:
    """Features, or samples where there is no `width`, lengths, what the decoder reads and the
    target."""
    stream, lengths = np.random.RandomState(SEED), np.array(SAMPLES if width is None else LENGTHS)
    shape = (len(lengths), lengths.max(), width or 1)
    values = stream.standard_normal(shape).astype(np.float32)
    real = np.arange(shape[1]) < lengths[:, None]
    target = stream.randint(4, WORDS, (len(TARGETS), max(TARGETS)))
    for row, length in zip(target, TARGETS, strict=True):
        row[length - 1:] = [2, *[1] * (len(row) - length)]
    prev = np.concatenate([np.full((len(target), 1), 2), target[:, :-1]], axis=1)
    prev[prev == 2] = 1
    prev[:, 0] = 2
    values = np.where(real[..., None], values, 0)
    return {"values": values[..., 0] if width is None else values, "lengths": lengths,
            "prev": prev, "target": target}


def one_pass(model: Any, given: dict[str, np.ndarray], ctc_weight: float) -> dict[str, Any]:
    """The loss, gradients and what they are made of."""
    model.zero_grad()
    values, lengths, prev, target = (torch.from_numpy(given[key]) for key in (
        "values", "lengths", "prev", "target"))
    encoded = model.encoder(src_tokens=values, src_lengths=lengths)
    logits, _ = model.decoder(prev_output_tokens=prev, encoder_out=encoded)
    lprobs = logits.float().log_softmax(-1)
    loss, _ = label_smoothed_nll_loss(
        lprobs.view(-1, WORDS), target.view(-1), 0.1, ignore_index=1)
    if ctc_weight:
        out, frames = model.get_ctc_output((logits, {"encoder_out": encoded}), {})
        sizes = (target != 1).sum(1)
        loss = loss + ctc_weight * F.ctc_loss(
            out, target[target != 1], frames, sizes, reduction="sum", zero_infinity=True)
    loss.backward()
    padding = encoded["encoder_padding_mask"]
    states = encoded["encoder_out"][0].detach().transpose(0, 1).numpy()
    return {"loss": loss.item(), "lprobs": lprobs.detach().numpy(), "states": states,
            "real": ~padding[0].numpy() if padding else np.ones(states.shape[:2], bool),
            "grads": {name: p.grad.norm().item() for name, p in model.named_parameters()
                      if p.grad is not None}}


def fresh(arch: str, given: dict[str, Any]) -> dict[str, list[float]]:
    """Mean and deviation of each weight as models begin, over a few of them."""
    torch.manual_seed(1)
    states = [build(arch, given)[0].state_dict() for _ in range(6)]
    weights = {name: torch.stack([s[name] for s in states]) for name in states[0]}
    return {name: [v.mean().item(), v.std().item()] for name, v in weights.items()
            if v.is_floating_point()}


def record(arch: str, given: dict[str, Any]) -> dict[str, Any]:
    """Everything about one case."""
    model, args = build(arch, given)
    state = model.state_dict()
    shapes = {name: tuple(v.shape) for name, v in state.items()
              if v.is_floating_point() and not name.endswith("version")}
    weights = seeded_state(shapes, SEED)
    if given.get("share_decoder_input_output_embed"):
        weights["decoder.output_projection.weight"] = weights["decoder.embed_tokens.weight"]
    model.load_state_dict(
        {name: torch.from_numpy(weights[name]) if name in weights else v
         for name, v in state.items()})
    given_batch = batch(None if "w2v" in given else FEATURES * given.get("input_channels", 1))
    weight = float(given.get("ctc_weight", 0.0))
    model.eval()
    found = one_pass(model, given_batch, weight)
    about: dict[str, Any] = {
        "args": {k: {"model": dict(v.model)} if k == "w2v_args" else v
                 for k, v in vars(args).items()},
        "shapes": {name: list(v.shape) for name, v in state.items()},
        "order": [name for name, _ in model.named_parameters()],
        "eval": {"loss": found["loss"], "grads": found["grads"]}, "fresh": fresh(arch, given)}
    arrays = {name: found[name] for name in ("lprobs", "states", "real")}
    if any("running_mean" in name for name in state):
        model.train()
        trained = one_pass(model, given_batch, weight)
        about["train"] = {"loss": trained["loss"], "grads": trained["grads"]}
        about["after"] = {name: v.tolist() for name, v in model.state_dict().items()
                          if "running" in name}
        arrays["train_states"] = trained["states"]
    return {"about": np.array(json.dumps(about, default=str)), **arrays}


def main() -> None:
    parser = argparse.ArgumentParser(description="Record what fairseq computes for tiny models.")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*", help="only these cases")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in args.names or CASES:
        path = args.folder / f"{name}.npz"
        np.savez_compressed(path, allow_pickle=False, **record(*CASES[name]))
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
