"""What is peculiar to lightweight and dynamic convolutions; what every model does is in
test_conformance.py."""

from __future__ import annotations

import family_goldens as goldens
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import config, models
from seqjax.interop.fairseq import checkpoint as fairseq_weights
from seqjax.models.lightconv import layers as lightconv_layers
from seqjax.models.lightconv.config import LightConvConfig, LightConvLanguageModelConfig
from seqjax.models.lightconv.layers import causal_frame, centred_frame, convolve


def test_short_batches_normalise_over_whole_kernels_unless_asked():
    """As fairseq decodes, not as its Python code computes whole rows."""
    golden = goldens.load("lightconv/wide_kernel")
    source, prev, target = golden.batch()
    real = np.asarray(target) != 1
    logits = jax.jit(golden.features)(golden.params, source, prev).logits()
    lprobs = np.asarray(jax.nn.log_softmax(logits))[real]
    np.testing.assert_allclose(lprobs, golden.arrays["step_lprobs"][real], atol=1e-5)
    assert np.abs(lprobs - golden.arrays["lprobs"][real]).max() > 1e-2


@pytest.mark.parametrize("name", ["lightconv/dynamic", "lightconv/lm"])
def test_initialisation(name):
    fresh = jax.jit(goldens.load(name).model.init)(jax.random.key(0))
    layers = fresh["decoder"]["layers"]
    bound = (6 / sum(layers["fc1"]["kernel"].shape[1:])) ** 0.5
    assert 0.8 * bound < np.abs(layers["fc1"]["kernel"]).max() <= bound
    assert (layers["fc1"]["bias"] == 0).all() and (layers["linear2"]["bias"] == 0).all()


def test_lightweight_kernels_start_as_torchs():
    cfg = LightConvConfig(
        encoder_embed_dim=8, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_layers=1, decoder_layers=1, encoder_kernel_size_list=(31,),
        decoder_kernel_size_list=(31,), decoder_conv_type="lightweight")
    params = build(cfg).init(jax.random.key(0))
    weight = np.asarray(params["decoder"]["convs_0"]["weight"])
    bound = (6 / (31 + 4 * 31)) ** 0.5
    assert weight.shape == (4, 31) and 0.9 * bound < np.abs(weight).max() <= bound


def build(cfg):
    return models.build(cfg, source_vocab_size=11, target_vocab_size=12, compute_dtype=jnp.float32)


@pytest.mark.parametrize("length", [5, 9, 40, 75])
@pytest.mark.parametrize("width, left", [(1, 0), (7, 3), (4, 1), (31, 30)])
def test_convolution_is_a_sum_over_taps(monkeypatch, length, width, left):
    """Also in blocks, for rows that are longer than one band."""
    monkeypatch.setattr(lightconv_layers, "_BLOCK", 16)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, length, 2, 3)).astype(np.float32)
    for rows in (1, 2):
        taps = rng.normal(size=(rows, length, 2, width)).astype(np.float32)
        wanted = np.zeros_like(x)
        for t in range(length):
            for k in range(width):
                if 0 <= t - left + k < length:
                    wanted[:, t] += taps[:, t, :, k, None] * x[:, t - left + k]
        np.testing.assert_allclose(
            convolve(jnp.asarray(x), jnp.asarray(taps), left=left), wanted, atol=1e-4)


def test_frames_hold_every_kernel():
    causal, centred = causal_frame((3, 5)), centred_frame((3, 4, 1))
    assert (causal.width, causal.left) == (5, 4)
    assert causal.valid().tolist() == [[False, False, True, True, True], [True] * 5]
    assert (centred.width, centred.left) == (4, 1)
    assert centred.valid().tolist() == [
        [True, True, True, False], [True] * 4, [False, True, False, False]]
    placed = centred.place([jnp.arange(1.0, n + 1)[None] for n in (3, 4, 1)])
    assert placed[:, 0].tolist() == [[1, 2, 3, 0], [1, 2, 3, 4], [0, 1, 0, 0]]


def test_old_names_are_read():
    golden = goldens.load("lightconv/lightweight")
    state = {}
    for name, value in golden.state.items():
        name = name.replace("layer_norm1", "layer_norms.0").replace("layer_norm2", "layer_norms.1")
        name = name.replace("output_projection.weight", "embed_out")
        state[name] = value[:, 0] if name.endswith(".conv.weight") else value
    for leaf in ("weight", "bias"):
        for i in range(2):
            attention = f"decoder.layers.{i}.encoder_attn."
            state[f"{attention}in_proj_{leaf}"] = np.concatenate(
                [state.pop(f"{attention}{part}_proj.{leaf}") for part in "qkv"])
    args = golden.checkpoint.fairseq.model
    checkpoint = fairseq_weights.from_tree({"args": args, "model": state})
    jax.tree.map(np.testing.assert_array_equal, checkpoint.params, golden.checkpoint.params)


def test_attention_is_reported():
    golden = goldens.load("lightconv/lightweight")
    source, prev, _ = golden.batch()
    attention = np.asarray(golden.features(golden.params, source, prev).attention)
    assert attention.shape == (2, 3, 2, prev.shape[1], source.shape[1])
    assert (attention[:, 2, :, :, 4:] == 0).all()


def test_architectures():
    def make(arch):
        return config.resolve_model({"arch": arch}, models=models.CONFIGS, archs=models.ARCHS)

    base, iwslt = make("lightconv_wmt_en_de"), make("lightconv_iwslt_de_en")
    assert base.encoder_kernels == (3, 7, 15, 31, 31, 31, 31) and base.weight_rate == 0.0
    assert (base.decoder_width, base.decoder_ffn, base.decoder_glu) == (512, 2048, True)
    assert (iwslt.encoder_glu, iwslt.decoder_ffn, iwslt.input_dropout) == (False, 1024, 0.0)
    chinese, french = make("lightconv_wmt_zh_en_big"), make("lightconv_wmt_en_fr_big")
    assert (chinese.weight_rate, chinese.dropout, chinese.decoder_width) == (0.2, 0.2, 1024)
    assert (french.weight_rate, french.dropout) == (0.1, 0.1)
    assert make("lightconv_wmt_en_de_big").dropout == 0.3
    assert make("lightconv_lm_gbw").decoder_ffn_embed_dim == 4096
    assert make("lightconv_lm") == LightConvLanguageModelConfig(arch="lightconv_lm")


@pytest.mark.parametrize("cls, changes, names", [
    (LightConvConfig, dict(encoder_layers=3), "encoder_kernel_size_list"),
    (LightConvConfig, dict(decoder_kernel_size_list=(0,)), "decoder_kernel_size_list"),
    (LightConvConfig, dict(encoder_conv_dim=100), "encoder_attention_heads"),
    (LightConvConfig, dict(decoder_embed_dim=256), "decoder_embed_dim"),
    (LightConvConfig, dict(share_all_embeddings=True, decoder_output_dim=8), "decoder_output_dim"),
    (LightConvConfig, dict(weight_dropout=1.5), "weight_dropout"),
    (LightConvLanguageModelConfig, dict(adaptive_input=True), "adaptive_input_cutoff"),
    (LightConvLanguageModelConfig, dict(tie_adaptive_weights=True), "tie_adaptive_weights"),
])
def test_bad_configurations_are_named(cls, changes, names):
    with pytest.raises(ValueError, match=names):
        cls(**changes)
