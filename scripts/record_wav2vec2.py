"""Records what fairseq computes for tiny wav2vec 2.0 models.

Needs fairseq (main branch of 2025) and torch; seqjax and its tests need neither. Writes
`FOLDER/CASE.npz`:

    python scripts/record_wav2vec2.py tests/goldens/wav2vec2 [CASE ...]

`about` (JSON) has the model's whole configuration, the weights' names and shapes in the order of
the flat `weights`, the loss's options, and of both passes, `eval` and `train`: what the criterion
logged (`log`), the loss, and `grads`, the norm of its gradient for each parameter that has one.
`samples` [B, N] and `lengths` [B] are the batch; `mask`, `negatives`, `channels` and
`codebook` what was drawn for it; `features` the unmasked states, `logits` [1 + K, B, M] those of
the pass without noise. The pass `train` is at update `update`, without dropout; `noise` is the
Gumbel noise of each quantizer in the order of their calls. `updates` and `temps` are a schedule
of temperatures.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import types
from typing import Any

import numpy as np
import torch
from fairseq.criterions.wav2vec_criterion import Wav2vecCriterion
from fairseq.data.data_utils import compute_mask_indices
from fairseq.models.wav2vec import wav2vec2
from fairseq.modules import gumbel_vector_quantizer

UPDATE = 150_000
UPDATES = (0, 1, 1000, UPDATE, 400_000)
_CONVS = "[(8, 10, 5)] + [(8, 3, 2)] * 2"
_TINY = dict(
    conv_feature_layers=_CONVS, encoder_layers=2, encoder_embed_dim=12, encoder_ffn_embed_dim=16,
    encoder_attention_heads=2, conv_pos=6, conv_pos_groups=3, final_dim=8, latent_vars=5,
    latent_groups=2, num_negatives=4, mask_length=2, mask_prob=0.5, dropout=0.0,
    attention_dropout=0.0,
)
CASES: dict[str, dict[str, Any]] = {
    "group_norm": dict(
        _TINY, quantize_targets=True, cross_sample_negatives=2, feature_grad_mult=0.1,
        conv_pos=5),
    "layer_norm": dict(
        _TINY, lengths=[413, 333, 401], extractor_mode="layer_norm", layer_norm_first=True,
        conv_bias=True, quantize_targets=True, mask_channel_prob=0.3, mask_channel_length=2,
        crop_seq_to_multiple=2, quantizer_depth=2, latent_dim=6),
    "quantized_input": dict(
        _TINY, quantize_targets=True, quantize_input=True, same_quantizer=True, target_glu=True,
        codebook_negatives=3, pos_conv_depth=2, final_dim=0),
    "two_quantizers": dict(
        _TINY, lengths=[420, 377, 401], extractor_mode="layer_norm", quantize_targets=True,
        quantize_input=True, negatives_from_everywhere=True, latent_temp=(2.0, 0.5, 0.9999)),
    "continuous": dict(
        _TINY, encoder_embed_dim=8, conv_pos_groups=2, negatives_from_everywhere=True,
        mask_channel_prob=0.3, mask_channel_length=2, mask_channel_before=True,
        feature_grad_mult=0.0, activation_fn="relu"),
}


class Draws:
    """Masks, negatives and noise: drawn in the first pass, given again in the others."""

    def __init__(self, model: wav2vec2.Wav2Vec2Model) -> None:
        self.found: dict[str, np.ndarray] = {}
        self.noise: list[torch.Tensor] = []
        self._sample = model.sample_negatives
        wav2vec2.compute_mask_indices = self.mask
        model.sample_negatives = self.negatives
        gumbel_vector_quantizer.F.gumbel_softmax = self.gumbel
        self.width = model.cfg.encoder_embed_dim
        if model.quantizer is not None:
            model.quantizer.sample_from_codebook = self.codebook
            self._quantizer = model.quantizer

    def mask(self, shape: tuple[int, int], *args: Any, **kwargs: Any) -> np.ndarray:
        name = "channels" if shape[1] == self.width else "mask"
        if name not in self.found:
            self.found[name] = compute_mask_indices(shape, *args, **kwargs)
        return self.found[name]

    def negatives(self, y: torch.Tensor, num: Any, padding_count: Any = None) -> Any:
        if "negatives" not in self.found:
            self.found["negatives"] = self._sample(y, num, padding_count)[1].numpy()
        index = torch.from_numpy(self.found["negatives"])
        picked = y.reshape(-1, y.shape[-1])[index.view(-1)]
        return picked.view(len(index), int(num), -1, y.shape[-1]).permute(2, 0, 1, 3), index

    def codebook(self, b: int, n: int) -> torch.Tensor:
        table = self._quantizer.get_codebook_indices().view(-1, self._quantizer.groups)
        if "codebook" not in self.found:
            self.found["codebook"] = torch.randint(0, len(table), (b * n,)).numpy()
        chosen = table[torch.from_numpy(self.found["codebook"])].flatten()
        return self._quantizer.vars.squeeze(0).index_select(0, chosen).view(b, n, -1)

    def gumbel(self, logits: torch.Tensor, *, tau: float, hard: bool) -> torch.Tensor:
        """torch's, with noise that is kept."""
        noise = -torch.empty_like(logits).exponential_().log()
        self.noise.append(noise)
        soft = ((logits + noise) / tau).softmax(-1)
        return torch.zeros_like(logits).scatter_(
            -1, soft.argmax(-1, keepdim=True), 1.0) - soft.detach() + soft


def build(given: dict[str, Any]) -> wav2vec2.Wav2Vec2Model:
    """fairseq's model with every parameter moved off its start."""
    model = wav2vec2.Wav2Vec2Model(wav2vec2.Wav2Vec2Config(**given))
    for value in model.parameters():
        value.data.add_(0.2 * torch.randn_like(value))
    return model


def one_pass(model: wav2vec2.Wav2Vec2Model, sample: dict, options: dict) -> dict[str, Any]:
    """The criterion's loss, log and gradients."""
    model.zero_grad()
    loss, _, log = Wav2vecCriterion(types.SimpleNamespace(), **options)(model, sample)
    loss.backward()
    return {
        "loss": loss.item(),
        "log": {key: float(value) for key, value in log.items()},
        "grads": {name: p.grad.norm().item() for name, p in model.named_parameters()
                  if p.grad is not None},
    }


def record(given: dict[str, Any]) -> dict[str, Any]:
    """Everything about one case."""
    torch.manual_seed(1)
    np.random.seed(1)
    given = dict(given)
    lengths = np.array(given.pop("lengths", [413, 413, 413]))
    model = build(given)
    samples = 0.5 * np.random.default_rng(2).standard_normal((len(lengths), lengths.max()))
    real = np.arange(lengths.max()) < lengths[:, None]
    samples = np.where(real, samples, 0).astype(np.float16).astype(np.float32)
    inputs = {"source": torch.from_numpy(samples)}
    if not real.all():
        inputs["padding_mask"] = torch.from_numpy(~real)
    has_codes = model.quantizer is not None
    options = {"infonce": True, "loss_weights": [0.1, 10.0] if has_codes else [10.0],
               "log_keys": ["prob_perplexity", "code_perplexity", "temp"] if has_codes else []}
    draws = Draws(model)
    sample = {"id": torch.arange(len(lengths)), "net_input": inputs}
    model.eval()
    about: dict[str, Any] = {"eval": one_pass(model, sample, options)}
    with torch.no_grad():
        found = model.extract_features(inputs["source"], inputs.get("padding_mask"))
        output = model(**inputs)
    quantizers = [m for m in model.modules() if hasattr(m, "set_num_updates") and m is not model]
    temps = []
    for update in (*UPDATES, UPDATE):
        for quantizer in quantizers:
            quantizer.set_num_updates(update)
        temps.append(quantizers[0].curr_temp if quantizers else 0.0)
    model.train()
    about["train"] = one_pass(model, sample, options)
    state = model.state_dict()
    about |= {
        "model": {**dataclasses.asdict(model.cfg), "_name": "wav2vec2"}, "options": options,
        "weights": {name: list(value.shape) for name, value in state.items()}, "update": UPDATE,
        "noise": [list(noise.shape) for noise in draws.noise],
    }
    mask = found["padding_mask"]
    noise = [noise.reshape(-1) for noise in draws.noise]
    return {
        "about": np.array(json.dumps(about, default=str)),
        "samples": samples.astype(np.float16), "lengths": lengths,
        **draws.found, "features": found["x"].numpy(), "logits": output["x"].numpy(),
        "real": np.ones(found["x"].shape[:2], bool) if mask is None else ~mask.numpy(),
        "weights": torch.cat([value.reshape(-1) for value in state.values()]).numpy(),
        "noise": torch.cat(noise).numpy() if noise else np.zeros(0, np.float32),
        "updates": np.array(UPDATES), "temps": np.array(temps[:-1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Record what fairseq computes for tiny models.")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*", help="only these cases")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in args.names or CASES:
        path = args.folder / f"{name}.npz"
        np.savez_compressed(path, allow_pickle=False, **record(CASES[name]))
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
