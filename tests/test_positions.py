"""Sinusoidal positions are fairseq's recorded rows (scripts/record_tables.py), in whole
sequences and step by step, in every family that has them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import models
from seqjax.models.parts import layers
from seqjax.models.transformer import modules as transformer

LAST = 6001
"""The largest recorded position."""


@pytest.fixture(scope="module")
def recorded(goldens):
    with np.load(goldens / "positions" / "sinusoids.npz") as file:
        return dict(file)


@pytest.mark.parametrize("dim", [4, 9, 16, 32, 40, 64, 512])
def test_rows_are_fairseqs(recorded, dim):
    table = layers.sinusoid_table(LAST, dim, 2)
    np.testing.assert_allclose(
        table[recorded["positions"] - 2], recorded[f"dim_{dim}"], rtol=0, atol=4e-6)


@pytest.mark.parametrize("dim", [24, 1024])
def test_a_last_bit_of_few_frequencies_is_all_that_is_apart_elsewhere(recorded, dim):
    """torch's `exp` rounds those the other way."""
    positions = recorded["positions"]
    apart = np.abs(layers.sinusoid_table(LAST, dim, 2)[positions - 2] - recorded[f"dim_{dim}"])
    half = dim // 2
    last_bit = np.spacing(np.exp(np.arange(half) * -np.log(1e4) / (half - 1)).astype(np.float32))
    angle = positions[:, None] * np.tile(last_bit, 2)
    angle += np.spacing(positions.astype(np.float32))[:, None]  # the product is rounded as well
    assert (apart <= angle + 6e-8).all()
    assert (apart > 4e-6).any(axis=0).sum() <= max(2, dim // 85)


def test_every_frequency_is_rounded_correctly():
    half = 256
    exponents = np.arange(half, dtype=np.float32) * -np.float32(np.log(10000.0) / (half - 1))
    frequencies = np.array([np.float32(np.exp(float(x))) for x in exponents])
    for position in (2, 1000, 6000):
        angles = [float(np.float32(position) * f) for f in frequencies]
        wanted = np.float32([*np.sin(angles), *np.cos(angles)])
        np.testing.assert_array_equal(layers.sinusoid_table(1, 2 * half, position)[0], wanted)


def test_whole_sequences_use_the_table(recorded):
    tokens = jnp.full((1, LAST - 1), 5)
    places = transformer.Positions(dim=40, learned=False, max_positions=LAST)
    segments = jnp.ones_like(tokens)
    for found in (places.apply({}, tokens, None), places.apply({}, tokens, segments)):
        np.testing.assert_allclose(np.asarray(found)[0, recorded["positions"] - 2],
                                   recorded["dim_40"], rtol=0, atol=4e-6)


@pytest.mark.parametrize("name", ["transformer", "transformer_align", "transformer_lm",
                                  "lightconv", "lightconv_lm"])
def test_steps_use_the_table(recorded, name):
    sides = ["decoder"] if name.endswith("_lm") else ["encoder", "decoder"]
    values = {f"{side}_{key}": value for side in sides for key, value in {
        "embed_dim": 40, "ffn_embed_dim": 8, "layers": 1, "attention_heads": 1}.items()}
    if name.startswith("lightconv"):
        values |= {f"{side}_kernel_size_list": (3,) for side in sides}
        values |= {f"{side}_conv_dim": 40 for side in sides} if len(sides) == 2 else {}
    if name == "transformer_align":
        values |= {"alignment_heads": 1, "alignment_layer": 0}
    if name.endswith("_lm"):
        values |= {"decoder_input_dim": 40, "decoder_output_dim": 40}
    config = models.CONFIGS[name](max_target_positions=LAST, **values)
    size = {"target_vocab_size": 12, "source_vocab_size": 12}
    model = models.build(config, **size, compute_dtype=jnp.float32)
    found = model.prepare(jax.jit(model.init)(jax.random.key(0))).positions
    np.testing.assert_allclose(np.asarray(found)[recorded["positions"] - 2], recorded["dim_40"],
                               rtol=0, atol=4e-6)
