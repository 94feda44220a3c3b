"""Records what fairseq computes for tiny HuBERT and data2vec models and for models fine-tuned for
CTC, and twenty updates of each way of pretraining.

Needs fairseq (main branch of 2025) and torch; seqjax and its tests need neither. Writes

    python scripts/record_hubert.py tests/goldens [FAMILY/CASE ...]

`FAMILY/CASE.npz`: `about` (JSON) has the model's whole configuration, the seed and the shapes of
its weights (`tests/seeded_weights.py` makes them), the loss's options and, of the pass `eval`, the
loss, what the criterion logged and `grads`, the norm of the gradient of each parameter that
has one. `samples` [B, N] float16 and `lengths` [B] are the batch, `mask` and `channels` what was
drawn; HuBERT's `labels_I` [B, L], CTC's `target`. `features` are the unmasked states, `real`
their frames; `row_K` the states of layer K of the second row alone, `last` its last ones,
`proj` what `final_proj` makes of layer 1; CTC's `logits`. `trace` [U, 2]: loss and gradient norm
of each update of a training without dropout, with `masks` [U, B, T] (and wav2vec 2.0's `negatives`
[U, B, M * K]). data2vec's `ema` is the norm of each parameter of its teacher after it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
import types
from typing import Any

import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import fairseq  # noqa: E402
from fairseq.criterions.ctc import CtcCriterion, CtcCriterionConfig  # noqa: E402
from fairseq.criterions.hubert_criterion import HubertCriterion  # noqa: E402
from fairseq.criterions.model_criterion import ModelCriterion  # noqa: E402
from fairseq.criterions.wav2vec_criterion import Wav2vecCriterion  # noqa: E402
from fairseq.data import Dictionary, data_utils  # noqa: E402
from fairseq.models.hubert import hubert, hubert_asr  # noqa: E402
from fairseq.models.wav2vec import wav2vec2, wav2vec2_asr  # noqa: E402
from fairseq.optim.adam import Adam  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from seeded_weights import seeded_state  # noqa: E402

EXAMPLES = pathlib.Path(fairseq.__file__).resolve().parent.parent / "examples" / "data2vec"
sys.path.insert(0, str(EXAMPLES))
from models import data2vec_audio  # noqa: E402

SEED = 7
UPDATES = 20
LEARNING_RATE = 2e-3
_TINY = dict(
    conv_feature_layers="[(8, 10, 5)] + [(8, 3, 2)] * 2", encoder_layers=2, encoder_embed_dim=12,
    encoder_ffn_embed_dim=16, encoder_attention_heads=2, conv_pos=6, conv_pos_groups=3,
    dropout=0.0, attention_dropout=0.0)
_LARGE = dict(_TINY, extractor_mode="layer_norm", layer_norm_first=True, conv_bias=True)
_MASKS = dict(mask_length=2, mask_prob=0.5)
RATE, FRAMES = 1000, 19
"""Samples of a second, of which a frame is 20; and frames of the longest row."""
CASES: dict[str, dict[str, Any]] = {
    "hubert/base": dict(
        model=dict(_TINY, **_MASKS, final_dim=8, feature_grad_mult=0.1, label_rate=50),
        classes=[9], weights=(1.0, 0.5), trace=True),
    "hubert/large": dict(
        model=dict(_LARGE, **_MASKS, final_dim=8, untie_final_proj=True, label_rate=100,
                   target_glu=True, skip_nomask=True, mask_channel_prob=0.3,
                   mask_channel_length=2),
        classes=[7, 7], weights=(1.0, 0.0)),
    "hubert/batch_norm": dict(
        model=dict(_TINY, **_MASKS, final_dim=8, label_rate=50, conv_pos_batch_norm=True),
        classes=[9], weights=(1.0, 0.0)),
    "data2vec_audio/base": dict(
        data2vec=dict(
            _LARGE, **_MASKS, layer_norm_first=False, pos_conv_depth=2, average_top_k_layers=2,
            instance_norm_target_layer=True, layer_norm_targets=True, ema_decay=0.9,
            ema_end_decay=0.99, ema_anneal_end_step=12, max_update=12), trace=True),
    "data2vec_audio/smooth": dict(
        data2vec=dict(
            _TINY, **_MASKS, pos_conv_depth=2, average_top_k_layers=1,
            batch_norm_target_layer=True,
            instance_norm_targets=True, loss_beta=0.3, loss_scale=0.7, ema_decay=0.9,
            ema_end_decay=0.9, ema_anneal_end_step=12, max_update=12)),
    "wav2vec2_trace": dict(
        contrastive=dict(
            _LARGE, **_MASKS, quantize_targets=True, latent_vars=4, latent_groups=2, final_dim=8,
            num_negatives=4), lr=5e-4),
    "wav2vec_seq2seq/base": dict(inner=dict(_TINY, feature_grad_mult=0.0), seq2seq=dict(
        w2v_path="x", decoder_embed_dim=8, decoder_ffn_embed_dim=10, decoder_layers=2,
        decoder_attention_heads=2, decoder_normalize_before=True)),
    "wav2vec_ctc/adapters": dict(
        inner=dict(_LARGE, layer_type="trf_adp", adp_num=1, adp_dim=5, quantize_targets=True,
                   latent_vars=4, feature_grad_mult=0.5), layer_type="trf_adp",
        feature_grad_mult=0.5,
        adp_num=1, adp_dim=5, blank_weight=0.7),
    "hubert_ctc/base": dict(inner=dict(_TINY, label_rate=50, feature_grad_mult=0.0),
                            hubert=True),
}


def load_seeded(model: torch.nn.Module) -> dict[str, list[int]]:
    """Gives a model its weights; their shapes by name."""
    state = model.state_dict()
    shapes = {name: list(value.shape) for name, value in state.items() if value.ndim}
    drawn = seeded_state({n: tuple(s) for n, s in shapes.items()}, SEED)
    model.load_state_dict(  # a batch norm counts its batches besides
        {**state, **{name: torch.from_numpy(value) for name, value in drawn.items()}})
    return shapes


def batch() -> tuple[np.ndarray, np.ndarray, dict[str, torch.Tensor]]:
    """Samples, their lengths, and both as fairseq takes them."""
    lengths = np.array([413, 377, 290])
    samples = 0.5 * np.random.RandomState(1).standard_normal((len(lengths), lengths.max()))
    real = np.arange(lengths.max()) < lengths[:, None]
    samples = np.where(real, samples, 0).astype(np.float16)
    return samples, lengths, {"source": torch.from_numpy(samples.astype(np.float32)),
                              "padding_mask": torch.from_numpy(~real)}


class Masks:
    """Masks of frames and channels: those that are given, or drawn once."""

    def __init__(self, width: int) -> None:
        self.found: dict[str, np.ndarray] = {}
        self.width, self.draw = width, data_utils.compute_mask_indices
        hubert.compute_mask_indices = self
        wav2vec2.compute_mask_indices = self
        data2vec_audio.compute_mask_indices = self

    def __call__(self, shape: tuple[int, int], *args: Any, **kwargs: Any) -> np.ndarray:
        name = "channels" if shape[1] == self.width else "mask"
        if name not in self.found:
            self.found[name] = self.draw(shape, *args, **kwargs)
        return self.found[name]


def one_pass(model: Any, sample: dict, criterion: Any) -> dict[str, Any]:
    """The criterion's loss, log and gradients."""
    model.zero_grad()
    loss, _, log = criterion(model, sample)
    loss.backward()
    return {
        "loss": loss.item(), "log": {key: float(value) for key, value in log.items()},
        "grads": {name: p.grad.norm().item() for name, p in model.named_parameters()
                  if p.grad is not None}}


def trained(
    model: Any, sample: dict, criterion: Any, masks: Masks, lr: float = LEARNING_RATE
) -> dict[str, np.ndarray]:
    """Updates of fairseq's Adam: the loss and the gradient's norm of each, per frame."""
    optimizer = Adam(model.parameters(), lr=lr, betas=(0.9, 0.98), eps=1e-6)
    model.train()
    rows, drawn = [], []
    for update in range(UPDATES):
        masks.found.pop("mask")
        model.set_num_updates(update)
        optimizer.zero_grad()
        loss, size, _ = criterion(model, sample)
        loss.backward()
        for p in model.parameters():
            if p.grad is not None:
                p.grad.div_(size)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
        optimizer.step()
        rows.append([loss.item() / size, norm.item()])
        drawn.append(masks.found["mask"])
    return {"trace": np.array(rows), "masks": np.stack(drawn)}


def record_hubert(case: dict[str, Any]) -> dict[str, Any]:
    dictionaries = []
    for size in case["classes"]:
        dictionary = Dictionary()
        for i in range(size - len(dictionary)):
            dictionary.add_symbol(str(i))
        dictionaries.append(dictionary)
    cfg = hubert.HubertConfig(**case["model"])
    model = hubert.HubertModel(cfg, types.SimpleNamespace(sample_rate=RATE), dictionaries)
    shapes = load_seeded(model)
    samples, lengths, inputs = batch()
    count = int(FRAMES * model.feat2tar_ratio) - 1  # one label short: a frame is left out
    labels = [np.random.RandomState(2 + i).randint(4, size, (len(lengths), count)).astype(np.int32)
              for i, size in enumerate(case["classes"])]
    sample = {"id": torch.arange(len(lengths)), "net_input": inputs,
              "target_list": [torch.from_numpy(x).long() for x in labels]}
    masked, unmasked = case["weights"]
    options = dict(pred_masked_weight=masked, pred_nomask_weight=unmasked, loss_weights=[10.0])
    criterion = HubertCriterion(types.SimpleNamespace(), **options)
    masks = Masks(cfg.encoder_embed_dim)
    model.eval()
    about = {"eval": one_pass(model, sample, criterion)}
    arrays = dict(masks.found)
    with torch.no_grad():
        states, padding = model.extract_features(**inputs)
        row = inputs["source"][1:2, : lengths[1]]
        for layer in (1, 2):
            arrays[f"row_{layer}"] = model.extract_features(row, output_layer=layer)[0][0].numpy()
        arrays["last"] = model.extract_features(row)[0][0].numpy()
        arrays["proj"] = model.final_proj(torch.from_numpy(arrays["row_1"])).numpy()
    if case.get("trace"):
        arrays |= trained(model, sample, criterion, masks)
    about |= {"model": {**dataclasses.asdict(cfg), "_name": "hubert"}, "options": options,
              "task": {"_name": "hubert_pretraining", "sample_rate": RATE}}
    arrays |= {f"labels_{i}": x for i, x in enumerate(labels)}
    return {"about": {**about, "weights": shapes, "seed": SEED}, "samples": samples,
            "lengths": lengths, "features": states.numpy(), "real": ~padding.numpy(), **arrays}


def record_data2vec(case: dict[str, Any]) -> dict[str, Any]:
    cfg = data2vec_audio.Data2VecAudioConfig(**case["data2vec"])
    model = data2vec_audio.Data2VecAudioModel(cfg)
    shapes = load_seeded(model)
    samples, lengths, inputs = batch()
    sample = {"id": torch.arange(len(lengths)), "net_input": inputs}
    options = {"loss_weights": {}, "log_keys": ["ema_decay", "target_var", "pred_var"]}
    criterion = ModelCriterion(types.SimpleNamespace(), **options)
    masks = Masks(cfg.encoder_embed_dim)
    model.train()
    model.set_num_updates(0)
    about = {"eval": one_pass(model, sample, criterion)}
    arrays = dict(masks.found)
    model.eval()
    with torch.no_grad():
        found = model.extract_features(**inputs)
        arrays |= {"features": found["x"].numpy(), "real": ~found["padding_mask"].numpy()}
    if case.get("trace"):
        arrays |= trained(model, sample, criterion, masks)
        model.set_num_updates(UPDATES)
        about["ema"] = {k: v.norm().item() for k, v in model.ema.fp32_params.items()}
    about |= {"model": {**dataclasses.asdict(cfg), "_name": "data2vec_audio"},
              "options": options, "task": {"_name": "audio_pretraining"}}
    return {"about": {**about, "weights": shapes, "seed": SEED}, "samples": samples,
            "lengths": lengths, **arrays}


def record_contrastive(case: dict[str, Any]) -> dict[str, Any]:
    """wav2vec 2.0's updates; what else it computes, record_wav2vec2.py records. The likeliest
    entries are chosen, as in evaluation, so that no noise is in it."""
    cfg = wav2vec2.Wav2Vec2Config(**case["contrastive"])
    model = wav2vec2.Wav2Vec2Model(cfg)
    shapes = load_seeded(model)
    samples, lengths, inputs = batch()
    sample = {"id": torch.arange(len(lengths)), "net_input": inputs}
    options = {"infonce": True, "loss_weights": [0.1, 10.0], "log_keys": []}
    criterion = Wav2vecCriterion(types.SimpleNamespace(), **options)
    masks = Masks(cfg.encoder_embed_dim)
    masks.found["mask"] = np.zeros(0)
    draw, negatives = model.sample_negatives, []

    def keep(*args: Any, **kwargs: Any) -> Any:
        found = draw(*args, **kwargs)
        negatives.append(found[1].numpy())
        return found

    model.sample_negatives = keep
    model.quantizer.train = lambda mode=True: model.quantizer
    model.quantizer.training = False
    found = trained(model, sample, criterion, masks, lr=case["lr"])
    width = max(x.shape[1] for x in negatives)
    padded = np.stack([np.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in negatives])
    about = {"model": {**dataclasses.asdict(cfg), "_name": "wav2vec2"}, "options": options,
             "lr": case["lr"], "widths": [x.shape[1] for x in negatives]}
    return {"about": {**about, "weights": shapes, "seed": SEED}, "samples": samples,
            "lengths": lengths, "negatives": padded, **found}


def record_ctc(case: dict[str, Any]) -> dict[str, Any]:
    dictionary = Dictionary()
    for letter in "abcdef":
        dictionary.add_symbol(letter)
    fine = {k: v for k, v in case.items() if k not in ("inner", "hubert")}
    if case.get("hubert"):
        inner = hubert.HubertConfig(**case["inner"])
        encoder = hubert.HubertModel(inner, types.SimpleNamespace(sample_rate=RATE), [None])
        cfg: Any = hubert_asr.HubertCtcConfig(**fine)
        model = hubert_asr.HubertCtc.__new__(hubert_asr.HubertCtc)
        wrapper = hubert_asr.HubertEncoder
        name, inner_name, task = "hubert_ctc", "hubert", "hubert_pretraining"
    else:
        inner = wav2vec2.Wav2Vec2Config(**case["inner"])
        encoder = wav2vec2.Wav2Vec2Model(inner)
        cfg = wav2vec2_asr.Wav2Vec2CtcConfig(**fine)
        model = wav2vec2_asr.Wav2VecCtc.__new__(wav2vec2_asr.Wav2VecCtc)
        wrapper = wav2vec2_asr.Wav2VecEncoder
        name, inner_name, task = "wav2vec_ctc", "wav2vec2", "audio_pretraining"
    encoder.remove_pretraining_modules()
    # What their constructors do behind reading a file.
    around = wrapper.__new__(wrapper)
    torch.nn.Module.__init__(around)
    around.w2v_model, around.apply_mask, around.is_d2v_multi = encoder, False, False
    around.final_dropout = torch.nn.Dropout(cfg.final_dropout)
    around.freeze_finetune_updates, around.num_updates = 0, 0
    around.proj = torch.nn.Linear(inner.encoder_embed_dim, len(dictionary))
    torch.nn.Module.__init__(model)
    model.cfg, model.w2v_encoder = cfg, around
    model.blank_weight = getattr(cfg, "blank_weight", 0)
    model.blank_mode = getattr(cfg, "blank_mode", "add")
    shapes = load_seeded(model)
    samples, lengths, inputs = batch()
    if case.get("layer_type") == "trf_adp":
        inputs["corpus_key"] = [0] * len(lengths)
    target = np.array([[4, 4, 7, 8], [9, 5, 1, 1], [6, 6, 6, 1]], np.int32)
    sample = {"id": torch.arange(len(lengths)), "net_input": inputs,
              "target": torch.from_numpy(target).long()}
    criterion = CtcCriterion(
        CtcCriterionConfig(zero_infinity=True, sentence_avg=False, post_process="letter"),
        types.SimpleNamespace(target_dictionary=dictionary, blank_symbol="<s>"))
    model.train()
    about = {"eval": one_pass(model, sample, criterion)}
    model.eval()
    with torch.no_grad():
        net = model(**inputs)
        lprobs = model.get_normalized_probs(net, log_probs=True)
    given = {**dataclasses.asdict(cfg), "_name": name, "w2v_args": {
        "model": {**dataclasses.asdict(inner), "_name": inner_name}, "task": {"_name": task}}}
    about |= {"model": given, "options": {"zero_infinity": True},
              "task": {"_name": "audio_finetuning", "normalize": False}}
    return {"about": {**about, "weights": shapes, "seed": SEED}, "samples": samples,
            "lengths": lengths, "target": target, "real": ~net["padding_mask"].numpy(),
            "lprobs": lprobs.transpose(0, 1).numpy()}


def record_seq2seq(case: dict[str, Any]) -> dict[str, Any]:
    dictionary = Dictionary()
    for letter in "abcdef":
        dictionary.add_symbol(letter)
    inner = wav2vec2.Wav2Vec2Config(**case["inner"])
    encoder = wav2vec2.Wav2Vec2Model(inner)
    encoder.remove_pretraining_modules()
    keys = dataclasses.asdict(wav2vec2_asr.Wav2Vec2Seq2SeqConfig(**case["seq2seq"]))
    cfg = OmegaConf.create({
        **{k: v for k, v in keys.items() if not str(v).startswith("${")},  # of other sections
        "encoder_embed_dim": case["seq2seq"]["decoder_embed_dim"]})  # what keys are made of
    wrapper = wav2vec2_asr.Wav2VecEncoder
    around = wrapper.__new__(wrapper)
    torch.nn.Module.__init__(around)
    around.w2v_model, around.apply_mask, around.is_d2v_multi = encoder, False, False
    around.final_dropout = torch.nn.Dropout(0.0)
    around.freeze_finetune_updates, around.num_updates = 0, 0
    around.proj = torch.nn.Linear(inner.encoder_embed_dim, cfg.decoder_embed_dim)
    words = wav2vec2_asr.Embedding(len(dictionary), cfg.decoder_embed_dim, dictionary.pad())
    decoder = wav2vec2_asr.TransformerDecoder(cfg, dictionary, words)
    model = wav2vec2_asr.Wav2Vec2Seq2SeqModel(around, decoder)
    shapes = load_seeded(model)
    samples, lengths, inputs = batch()
    target = np.array([[4, 4, 7, 8, 2], [9, 5, 2, 1, 1], [6, 6, 6, 2, 1]], np.int32)
    prev = np.roll(target, 1, axis=1)
    prev[:, 0] = 2
    prev[1, 3:], prev[2, 4:] = 1, 1
    model.eval()
    out = model(**inputs, prev_output_tokens=torch.from_numpy(prev).long())[0]
    lprobs = out.log_softmax(-1)
    picked = lprobs.gather(-1, torch.from_numpy(target).long()[..., None])[..., 0]
    loss = -(picked * torch.from_numpy(target != 1)).sum()
    loss.backward()
    about = {"eval": {"loss": loss.item(), "log": {}, "grads": {
        n: p.grad.norm().item() for n, p in model.named_parameters() if p.grad is not None}}}
    given = {**{k: v for k, v in cfg.items() if k != "encoder_embed_dim"},
             "_name": "wav2vec_seq2seq", "w2v_args": {
                 "model": {**dataclasses.asdict(inner), "_name": "wav2vec2"}}}
    about |= {"model": given, "task": {"_name": "audio_finetuning", "normalize": False}}
    return {"about": {**about, "weights": shapes, "seed": SEED}, "samples": samples,
            "lengths": lengths, "target": target, "prev": prev, "lprobs": lprobs.detach().numpy()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Record what fairseq computes for tiny models.")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*", help="only these cases")
    args = parser.parse_args()
    for name in args.names or CASES:
        torch.manual_seed(1)
        np.random.seed(1)
        case = CASES[name]
        kinds = {"classes": record_hubert, "data2vec": record_data2vec,
                 "contrastive": record_contrastive, "seq2seq": record_seq2seq}
        found = next((f for key, f in kinds.items() if key in case), record_ctc)(case)
        found["about"] = np.array(json.dumps(found["about"], default=str))
        path = args.folder / f"{name}.npz"  # of a trace alone, beside the families' folders
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, allow_pickle=False, **found)
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
