"""What is peculiar to the convolutional families; what every model does is in
test_conformance.py."""

from __future__ import annotations

import family_goldens as goldens
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import config, models
from seqjax.interop.fairseq import checkpoint as fairseq_weights
from seqjax.models.fconv import layers as fconv_layers
from seqjax.models.fconv.config import ConvSpec, FConvConfig, parse_attention, parse_layers
from seqjax.models.parts.windows import windows


@pytest.mark.parametrize("name", ["fconv/mixed", "fconv/lm"])
def test_initialisation(name):
    fresh = jax.jit(goldens.load(name).model.init)(jax.random.key(0))
    convolution = fresh["decoder"]["convolutions_0"]
    np.testing.assert_allclose(
        fconv_layers.kernel(convolution), convolution["weight_v"], atol=1e-6)
    width, inputs, _ = convolution["weight_v"].shape
    wanted = (4 * 0.9 / (width * inputs)) ** 0.5
    assert 0.7 * wanted < float(convolution["weight_v"].std()) < 1.3 * wanted


def test_first_versions_lengths_are_converted():
    """Until decoder.version 2 the decoder's convolutions had one length per tap."""
    golden = goldens.load("fconv/shared")
    state = dict(golden.state)
    v = state["decoder.convolutions.0.weight_v"]
    lengths = np.linspace(0.5, 2, v.shape[0], dtype=np.float32).reshape(-1, 1, 1)
    state["decoder.convolutions.0.weight_g"] = lengths
    del state["decoder.version"]
    args = golden.checkpoint.fairseq.model
    params = fairseq_weights.from_tree({"args": args, "model": state}).params
    wanted = v / np.linalg.norm(v.reshape(v.shape[0], -1), axis=1)[:, None, None] * lengths
    found = fconv_layers.kernel(jax.tree.map(jnp.asarray, params["decoder"]["convolutions_0"]))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_windows_are_a_convolution():
    x = jax.random.normal(jax.random.key(0), (2, 7, 3))
    weight = jax.random.normal(jax.random.key(1), (4, 3, 5))
    ours = jnp.einsum("btkc,kco->bto", windows(x, 4, 1), weight)
    theirs = jax.lax.conv_general_dilated(
        x, weight, (1,), [(1, 2)], dimension_numbers=("NWC", "WIO", "NWC"))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_attention_is_fairseqs_mean():
    golden = goldens.load("fconv/mixed")
    source, prev, _ = golden.batch()
    attention = np.asarray(golden.features(golden.params, source, prev).attention)
    assert attention.shape == (1, 3, 1, prev.shape[1], source.shape[1])
    np.testing.assert_allclose(attention.sum(-1), 2 / 3, atol=1e-5)  # 2 of 3 layers attend
    assert (attention[:, 2, :, :, 4:] == 0).all()


def test_positions_stop_two_before_the_table():
    model = goldens.load("fconv/mixed").model
    assert (model.max_source_positions, model.max_target_positions) == (18, 18)


def test_layer_expressions():
    assert parse_layers("[(512, 3)] * 2 + 1 * [(8, 1, 0)]", "k") == (
        ConvSpec(channels=512, width=3), ConvSpec(channels=512, width=3),
        ConvSpec(channels=8, width=1, residual=0))
    assert parse_attention("True", 2, "k") == (True, True)
    assert parse_attention("[True, False] * 2", 4, "k") == (True, False, True, False)
    for wrong in ("__import__('os').getcwd()", "[(512, 3)] * 100000", "512", "[]", "[(1,)]",
                  "[(1, 2, 3, 4)]", "[(1.5, 2)]", "[(0, 3)]", "[(4, 3, 2)]", "(", "[(4, -3)]"):
        with pytest.raises(ValueError, match="encoder_layers"):
            parse_layers(wrong, "encoder_layers")
    with pytest.raises(ValueError, match="2 layers"):
        parse_attention("[True]", 2, "decoder_attention")


def test_architectures():
    def make(arch):
        return config.resolve_model({"arch": arch}, models=models.CONFIGS, archs=models.ARCHS)

    assert len(make("fconv").encoder_convolutions) == 20
    french = make("fconv_wmt_en_fr")
    assert [s.channels for s in french.encoder_convolutions[-3:]] == [1024, 2048, 4096]
    assert (french.encoder_embed_dim, french.decoder_out_embed_dim) == (768, 512)
    assert make("fconv_wmt_en_ro").decoder_out_embed_dim == 512
    assert [s.width for s in make("fconv_wmt_en_de").decoder_convolutions] == [3] * 13 + [1] * 2
    assert len(make("fconv_iwslt_de_en").decoder_convolutions) == 3
    assert len(make("fconv_lm_dauphin_gbw").decoder_convolutions) == 40
    assert make("fconv_lm_dauphin_wikitext103").adaptive_softmax_cutoff == (10000, 20000, 200000)
    assert len(make("fconv_lm").decoder_convolutions) == 13


@pytest.mark.parametrize("changes, names", [
    (dict(decoder_attention="False"), "no layer attends"),
    (dict(encoder_embed_dim=8), "decoder_embed_dim"),
    (dict(share_input_output_embed=True), "decoder_out_embed_dim"),
    (dict(dropout=-0.1), "dropout"),
])
def test_bad_configurations_are_named(changes, names):
    with pytest.raises(ValueError, match=names):
        FConvConfig(**changes)
