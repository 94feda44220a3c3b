"""A key gives each family the parameters that it gave before: paths, shapes and values; and where
these are not as they ever were, models begin as fairseq's do.

`tests/goldens/initial_values/values.json` was recorded with this file (`python
tests/test_initial_values.py` prints it): of every parameter its shape, its first and last value
and the sum of all absolute ones. What it prints must stay the same to the last digit on one
machine. Those of lstm and fconv are since Linen draws them (docs/decisions/0008), all others
since before layers were shared by both passes. `fairseq.json` is of
`scripts/record_initial_weights.py`.
"""

from __future__ import annotations

import functools
import json
import math
import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import models
from seqjax.interop.fairseq.checkpoint import to_state

RECORDED = pathlib.Path(__file__).parent / "goldens" / "initial_values" / "values.json"
BOTH = {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in dict(
    embed_dim=8, ffn_embed_dim=12, layers=2, attention_heads=2).items()}
OWN = {key: value for key, value in BOTH.items() if key.startswith("decoder")}
BANDS = {f"adaptive_{part}_cutoff": (8, 14) for part in ("input", "softmax")}
CASES = {
    "transformer": {**BOTH, "decoder_learned_pos": True, "layernorm_embedding": True,
                    "decoder_normalize_before": True, "decoder_input_dim": 6,
                    "decoder_output_dim": 10},
    "transformer_align": {**BOTH, "share_all_embeddings": True, "scale_attn": True,
                          "scale_fc": True, "scale_heads": True, "scale_resids": True},
    "transformer_lm": {**OWN, **BANDS, "adaptive_input": True, "tie_adaptive_weights": True,
                       "adaptive_input_factor": 2.0, "adaptive_softmax_factor": 2.0},
    "lightconv": {**BOTH, "encoder_kernel_size_list": (3, 5), "decoder_kernel_size_list": (3, 4)},
    "lightconv_lm": {**OWN, "decoder_kernel_size_list": (3,), "decoder_conv_type": "lightweight",
                     "adaptive_softmax_cutoff": (8, 14), "adaptive_softmax_factor": 2.0},
    "lstm": dict(encoder_embed_dim=8, encoder_hidden_size=6, decoder_embed_dim=7,
                 decoder_hidden_size=9, decoder_out_embed_dim=10, encoder_bidirectional=True),
    "lstm_lm": dict(decoder_embed_dim=7, decoder_hidden_size=9, decoder_out_embed_dim=9,
                    adaptive_softmax_cutoff=(14,)),
    "fconv": dict(encoder_embed_dim=8, decoder_embed_dim=8, decoder_out_embed_dim=6,
                  encoder_layers="[(8, 3), (10, 2)]", decoder_layers="[(8, 3)]"),
    "fconv_lm": dict(decoder_embed_dim=8, decoder_layers="[(16, 3)]",
                     adaptive_softmax_cutoff=(8, 14)),
}


FAIRSEQ = json.loads(RECORDED.with_name("fairseq.json").read_text())
MODELS = 20
"""So many of ours are compared with ten times as many of fairseq's."""


def initial_params(name: str) -> Any:
    """Fresh parameters of a case."""
    model = models.build(
        models.CONFIGS[name](**CASES[name]), source_vocab_size=20, target_vocab_size=20,
        compute_dtype=jnp.float32)
    return jax.device_get(jax.jit(model.init)(jax.random.key(7, impl="threefry2x32")))


def initial(name: str) -> dict[str, list]:
    """[shape, first, last, sum of absolute values] of every parameter."""
    found = {}
    for path, x in jax.tree_util.tree_leaves_with_path(initial_params(name)):
        flat = np.asarray(x, np.float64).ravel()
        key = jax.tree_util.keystr(path, simple=True, separator=".")
        found[key] = [list(x.shape), float(flat[0]), float(flat[-1]), float(np.abs(flat).sum())]
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_key_gives_the_same_parameters(name: str) -> None:
    recorded, found = json.loads(RECORDED.read_text())[name], initial(name)
    assert found.keys() == recorded.keys()
    for key, (shape, *values) in recorded.items():
        assert found[key][0] == shape, key
        # Tests are compiled without LLVM's passes (conftest.py), which join a product and a sum
        # into one rounding: a draw near 0 then differs by the last bit of its largest.
        np.testing.assert_allclose(found[key][1:], values, rtol=1e-5, atol=1e-7, err_msg=key)


def moments(x: np.ndarray) -> tuple[list[int], float, float, float, list[int]]:
    """Shape, mean, deviation, kurtosis and zero rows of a weight of many models [N, ...], as
    `scripts/record_initial_weights.py` takes them."""
    zero = [i for i in range(x.shape[1]) if x.ndim > 2 and not x[:, i].any()]
    rest = np.delete(x.astype(np.float64), zero, axis=1)
    centred, deviation = rest - rest.mean(), rest.std()
    kurtosis = float((centred**4).mean() / deviation**4) if deviation else 0.0
    return list(x.shape[1:]), float(rest.mean()), float(deviation), kurtosis, zero


@pytest.mark.parametrize("case", FAIRSEQ)
def test_models_begin_as_fairseqs_do(case: str) -> None:
    """Every weight has fairseq's name, shape, zero rows and, up to chance, moments, which tell a
    uniform distribution and its bounds from a normal one."""
    args, weights = FAIRSEQ[case]["args"], FAIRSEQ[case]["weights"]
    keys = {k: tuple(map(int, v.split(","))) if k.endswith("cutoff") else v
            for k, v in args.items() if k != "criterion"}
    if case.startswith("fconv") and "_lm" not in case:
        keys.update(max_source_positions=20, max_target_positions=20)
    config = models.CONFIGS[case.partition(" ")[0]](**keys)
    sizes: Any = {"source_vocab_size": 40, "target_vocab_size": 40}
    model = models.build(config, **sizes, compute_dtype=jnp.float32)
    drawn = jax.device_get(jax.jit(jax.vmap(model.init))(
        jax.random.split(jax.random.key(1, impl="threefry2x32"), MODELS)))
    states = [to_state(jax.tree.map(lambda x, i=i: x[i], drawn), config, **sizes)
              for i in range(MODELS)]
    ours = {name for name, x in states[0].items() if x.dtype == np.float32}
    assert ours == weights.keys()
    for name, (shape, mean, deviation, kurtosis, zero) in weights.items():
        found = moments(np.stack([state[name] for state in states]))
        assert (found[0], found[4]) == (shape, zero), name
        chance = 6 / math.sqrt(MODELS * math.prod(shape))  # of six standard errors, and more
        assert abs(found[1] - mean) <= chance * deviation + 1e-4, name
        assert abs(found[2] - deviation) <= chance * deviation + 1e-4, name
        assert abs(found[3] - kurtosis) <= 5 * chance * kurtosis / 3 + 1e-3, name


def test_weight_normalisation_begins_with_its_directions_lengths() -> None:
    found = initial_params("fconv")
    seen = 0
    for path, v in jax.tree_util.tree_leaves_with_path(found):
        if path[-1].key == "weight_v":
            place = functools.reduce(lambda tree, part: tree[part.key], path[:-1], found)
            lengths = np.sqrt((np.asarray(v, np.float64) ** 2).sum(tuple(range(v.ndim - 1))))
            np.testing.assert_allclose(place["weight_g"], lengths, rtol=1e-6)
            seen += 1
    assert seen >= 8


if __name__ == "__main__":
    lines = [f'"{name}": {{\n' + ",\n".join(
        f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in initial(name).items()) + "}"
        for name in CASES]
    sys.stdout.write("{" + ",\n".join(lines) + "}\n")
