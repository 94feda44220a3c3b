"""Lightweight and dynamic convolutions against what fairseq computes, and by themselves."""

from __future__ import annotations

import dataclasses

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

CASES = ("lightweight", "dynamic", "odd", "wide_kernel", "lm", "lm_adaptive")
SHORT = ("wide_kernel",)
"""Its kernels are longer than the sentences, and what they make of them shows."""


@pytest.fixture(scope="module", params=CASES)
def golden(request):
    return goldens.load(f"lightconv/{request.param}")


def with_config(golden, **changes):
    cfg = dataclasses.replace(golden.checkpoint.config, **changes)
    return dataclasses.replace(golden, model=dataclasses.replace(golden.model, config=cfg))


@pytest.mark.parametrize("name", CASES)
def test_log_probabilities_loss_and_gradients_are_fairseqs(name):
    golden = goldens.load(f"lightconv/{name}")
    goldens.check_numbers(with_config(golden, short_batch_softmax=name in SHORT))


def test_short_batches_normalise_over_whole_kernels_unless_asked():
    golden = goldens.load("lightconv/wide_kernel")
    with pytest.raises(AssertionError):
        goldens.check_numbers(golden)


def test_decoding_equals_full_forward_and_fairseq(golden):
    goldens.check_decoding(golden)


def test_round_trip_keeps_every_tensor(golden):
    goldens.check_round_trip(golden)


def test_packed_rows_equal_separate_rows(golden):
    goldens.check_packing(golden)


@pytest.mark.parametrize("name", CASES)
def test_padding_changes_nothing(name):
    golden = goldens.load(f"lightconv/{name}")
    goldens.check_padding(with_config(golden, short_batch_softmax=name in SHORT))


def test_dropout(golden):
    goldens.check_dropout(with_config(golden, weight_dropout=0.2))


def test_weight_dropout_alone_changes_the_result():
    quiet = dict(dropout=0.0, input_dropout=0.0, attention_dropout=0.0, weight_dropout=0.3)
    for name in ("lightweight", "dynamic"):
        goldens.check_dropout(with_config(goldens.load(f"lightconv/{name}"), **quiet))


def test_initialisation(golden):
    fresh = goldens.check_init(golden)
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


@pytest.mark.parametrize("changes", [
    dict(scan_unroll=1), dict(scan_unroll=1, remat="dots"), dict(remat="full")])
def test_how_it_is_compiled_changes_no_gradient(changes):
    goldens.check_numbers(with_config(goldens.load("lightconv/lightweight"), **changes))


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


def test_export_without_an_origin_has_what_fairseq_expects():
    golden = goldens.load("lightconv/dynamic")
    state = fairseq_weights.to_state(
        golden.checkpoint.params, golden.checkpoint.config,
        source_vocab_size=golden.checkpoint.source_vocab_size,
        target_vocab_size=golden.checkpoint.target_vocab_size)
    assert {k: v.shape for k, v in state.items()} == {
        k: v.shape for k, v in golden.state.items()}


def test_half_precision_stays_close():
    golden = goldens.load("lightconv/lightweight")
    source, prev, target = golden.batch()
    half = dataclasses.replace(
        golden, model=dataclasses.replace(golden.model, compute_dtype=jnp.bfloat16))
    features = half.features(golden.params, source, prev)
    assert features.hidden.dtype == jnp.bfloat16 and features.logits().dtype == jnp.float32
    real = np.asarray(target) != 1
    np.testing.assert_allclose(
        jax.nn.log_softmax(features.logits())[real], golden.arrays["lprobs"][real], atol=0.25)


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


def test_mesh_changes_nothing():
    goldens.check_mesh(goldens.load("lightconv/dynamic"))
