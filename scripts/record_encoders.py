"""Records what fairseq computes for tiny models that only encode: RoBERTa and its masked_lm loss.

Needs fairseq (main branch of 2025) and torch; seqjax and its tests need neither. Writes
`FOLDER/FAMILY/CASE.npz`:

    python scripts/record_encoders.py tests/goldens [FAMILY/CASE ...]

`about`, `weights` and `grads` are as `record_families.py` has them. `source` [B, S] holds masked
sentences, `target` what stood at the masked places and padding elsewhere; `lprobs` are the
log-probabilities of every position, `loss` and `sample_size` what fairseq's `masked_lm` says,
`features` [B, S, D] the states in front of its head.

And `FOLDER/FAMILY/archs.json`, what fairseq's named architectures make of no keys at all:

    python scripts/record_encoders.py tests/goldens bart/archs roberta/archs
"""

from __future__ import annotations

import argparse
import json
import pathlib
import types
from typing import Any

import numpy as np
import record_families as families
import torch
from fairseq.criterions.masked_lm import MaskedLmLoss
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY

_SIZES = dict(
    encoder_embed_dim=8, encoder_ffn_embed_dim=12, encoder_attention_heads=2, encoder_layers=2,
    max_positions=20,
)
CASES: dict[str, tuple[str, dict]] = {
    "roberta/base": ("roberta", dict(_SIZES)),
    "roberta/prenorm_untied": ("roberta_prenorm", dict(
        _SIZES, untie_weights_roberta=True, activation_fn="gelu_accurate")),
    "roberta/no_positions": ("roberta_large", dict(
        _SIZES, no_token_positional_embeddings=True, no_scale_embedding=False,
        activation_fn="relu", layernorm_embedding=False, encoder_layers=1)),
    "roberta/sinusoids": ("xlm", dict(
        _SIZES, encoder_learned_pos=False, encoder_normalize_before=True)),
}
ENTRIES = 18


ARCHS = {
    "bart": ("bart_base", "bart_large"),
    "mbart": ("mbart_base", "mbart_base_wmt20", "mbart_large"),
    "roberta": ("roberta", "roberta_base", "roberta_large", "roberta_prenorm", "xlm"),
}


def build(arch: str, given: dict) -> Any:
    """fairseq's model with every parameter moved off its start."""
    args = types.SimpleNamespace(**given)
    ARCH_CONFIG_REGISTRY[arch](args)
    dictionary = families.dictionary(ENTRIES)
    task = types.SimpleNamespace(source_dictionary=dictionary)
    model = ARCH_MODEL_REGISTRY[arch].build_model(args, task)
    for value in model.parameters():
        value.data.add_(0.2 * torch.randn_like(value))
    return model.eval()


def batch(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sentences `<s> ... </s>` of different lengths, and which of their words were masked; of
    the last one none is."""
    source, target = np.ones((4, 9), np.int64), np.ones((4, 9), np.int64)
    for row, length in enumerate((9, 7, 4, 5)):
        source[row, :length] = [0, *rng.integers(4, ENTRIES - 1, length - 2), 2]
    for row, places in enumerate(((1, 4, 8), (2, 3), (0,), ())):
        for place in places:
            target[row, place] = source[row, place]
            source[row, place] = ENTRIES - 1
    source[0, 4] = 5  # a word that another one replaced
    return source, target


def record(arch: str, given: dict) -> dict[str, Any]:
    """Everything about one case."""
    torch.manual_seed(1)
    model = build(arch, given)
    source, target = batch(np.random.default_rng(2))
    tokens = torch.tensor(source)
    criterion = MaskedLmLoss(
        types.SimpleNamespace(tpu=False), types.SimpleNamespace(
            target_dictionary=families.dictionary(ENTRIES)))
    loss, sample_size, _ = criterion(model, {
        "net_input": {"src_tokens": tokens}, "target": torch.tensor(target),
        "ntokens": int((source != 1).sum()), "nsentences": len(source)})
    loss.backward()
    gradients = {k: v.grad.norm() for k, v in model.named_parameters() if v.grad is not None}
    state = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
    about = {
        "arch": arch, "args": given, "grads": list(gradients),
        "weights": {name: list(value.shape) for name, value in state.items()},
    }
    lprobs = model.get_normalized_probs(model(tokens), log_probs=True)
    return {
        "about": np.array(json.dumps(about)), "source": source.astype(np.int8),
        "target": target.astype(np.int8), "loss": loss.detach().numpy(),
        "sample_size": sample_size.numpy(), "lprobs": lprobs.detach().numpy(),
        "features": model(tokens, features_only=True)[0].detach().numpy(),
        "grads": torch.stack(list(gradients.values())).numpy(),
        "weights": torch.cat([value.reshape(-1) for value in state.values()]).numpy(),
    }


def archs(names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Architecture -> its keys."""
    found = {}
    for arch in names:
        args = types.SimpleNamespace()
        ARCH_CONFIG_REGISTRY[arch](args)
        found[arch] = {k: v for k, v in vars(args).items() if v is not None}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Record what fairseq computes for encoders.")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*", help="only these cases")
    args = parser.parse_args()
    for name in args.names or [*CASES, *(f"{family}/archs" for family in ARCHS)]:
        path = args.folder / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/archs"):
            found = archs(ARCHS[name.removesuffix("/archs")])
            path.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
            continue
        arch, given = CASES[name]
        np.savez_compressed(path, allow_pickle=False, **record(arch, given))
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
