"""A key gives each family the parameters that it gave before: paths, shapes and values.

`tests/goldens/initial_values/values.json` was recorded with this file (`python
tests/test_initial_values.py` prints it) before layers were shared by both passes: of every
parameter its shape, its first and last value and the sum of all absolute ones. What it prints
must stay the same to the last digit on one machine.
"""

from __future__ import annotations

import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import models

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


def initial(name: str) -> dict[str, list]:
    """[shape, first, last, sum of absolute values] of every parameter."""
    model = models.build(
        models.CONFIGS[name](**CASES[name]), source_vocab_size=20, target_vocab_size=20,
        compute_dtype=jnp.float32)
    params = jax.jit(model.init)(jax.random.key(7, impl="threefry2x32"))
    found = {}
    for path, x in jax.tree_util.tree_leaves_with_path(jax.device_get(params)):
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


if __name__ == "__main__":
    lines = [f'"{name}": {{\n' + ",\n".join(
        f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in initial(name).items()) + "}"
        for name in CASES]
    sys.stdout.write("{" + ",\n".join(lines) + "}\n")
