"""The recurrent families against what fairseq computes, and by themselves."""

from __future__ import annotations

import dataclasses

import family_goldens as goldens
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import config, models
from seqjax.models.lstm.config import LSTMConfig, LSTMLanguageModelConfig

CASES = ("bidirectional", "tied_no_attention", "shared", "adaptive", "lm_residual", "lm_adaptive")


@pytest.fixture(scope="module", params=CASES)
def golden(request):
    return goldens.load(f"lstm/{request.param}")


def test_log_probabilities_loss_and_gradients_are_fairseqs(golden):
    goldens.check_numbers(golden)


def test_decoding_equals_full_forward_and_fairseq(golden):
    goldens.check_decoding(golden)


def test_round_trip_keeps_every_tensor(golden):
    goldens.check_round_trip(golden)


def test_packed_rows_equal_separate_rows(golden):
    goldens.check_packing(golden)


def test_padding_changes_nothing(golden):
    goldens.check_padding(golden)


def test_dropout(golden):
    goldens.check_dropout(golden)


def test_initialisation(golden):
    fresh = goldens.check_init(golden)
    table = np.asarray(
        fresh["decoder" if golden.is_lm else "encoder"]["embed_tokens"]["embedding"])
    assert (table[1] == 0).all()
    kernel = np.asarray(fresh["decoder"]["layers_0"]["ih"]["kernel"])
    assert 0.09 < np.abs(kernel).max() <= 0.1 and np.abs(kernel.mean()) < 0.02


def test_unroll_changes_nothing():
    golden = goldens.load("lstm/bidirectional")
    source, prev, _ = golden.batch()
    cfg = dataclasses.replace(golden.checkpoint.config, time_unroll=4)
    unrolled = dataclasses.replace(golden, model=dataclasses.replace(golden.model, config=cfg))
    np.testing.assert_allclose(
        unrolled.features(golden.params, source, prev).logits(),
        golden.features(golden.params, source, prev).logits(), atol=1e-6,
    )


def test_frozen_embeddings_get_no_gradient():
    golden = goldens.load("lstm/shared")
    source, prev, target = golden.batch()
    for side in ("encoder", "decoder"):
        cfg = dataclasses.replace(golden.checkpoint.config, **{f"{side}_freeze_embed": True})
        frozen = dataclasses.replace(golden, model=dataclasses.replace(golden.model, config=cfg))

        def loss(params, frozen=frozen):
            return goldens.loss_of(frozen, frozen.features(params, source, prev), target)

        gradient = jax.grad(loss)(golden.params)
        assert (gradient["encoder"]["embed_tokens"]["embedding"] == 0).all()
        assert np.abs(gradient["decoder"]["layers_0"]["ih"]["kernel"]).max() > 0


def test_half_precision_stays_close():
    golden = goldens.load("lstm/bidirectional")
    source, prev, target = golden.batch()
    half = dataclasses.replace(
        golden, model=dataclasses.replace(golden.model, compute_dtype=jnp.bfloat16))
    features = half.features(golden.params, source, prev)
    assert features.hidden.dtype == jnp.bfloat16 and features.logits().dtype == jnp.float32
    real = np.asarray(target) != 1
    np.testing.assert_allclose(
        jax.nn.log_softmax(features.logits())[real], golden.arrays["lprobs"][real], atol=0.1)


def test_attention_is_reported():
    golden = goldens.load("lstm/bidirectional")
    source, prev, _ = golden.batch()
    attention = np.asarray(golden.features(golden.params, source, prev).attention)
    assert attention.shape == (1, 3, 1, prev.shape[1], source.shape[1])
    np.testing.assert_allclose(attention.sum(-1), 1, atol=1e-5)
    assert (attention[:, 2, :, :, 4:] == 0).all()
    assert goldens.load("lstm/tied_no_attention").features(
        goldens.load("lstm/tied_no_attention").params, source, prev).attention is None


def test_architectures():
    make = lambda arch: config.resolve_model(  # noqa: E731
        {"arch": arch}, models=models.CONFIGS, archs=models.ARCHS)
    luong, wiseman = make("lstm_luong_wmt_en_de"), make("lstm_wiseman_iwslt_de_en")
    assert (luong.encoder_width, luong.encoder_layers, luong.decoder_out_rate) == (1000, 4, 0.0)
    assert (luong.encoder_in_rate, luong.decoder_in_rate) == (0.1, 0.1)
    assert (wiseman.decoder_width, wiseman.decoder_in_rate, wiseman.decoder_out_rate) == (
        256, 0.0, 0.1)
    assert make("lstm") == LSTMConfig(arch="lstm")
    assert make("lstm_lm") == LSTMLanguageModelConfig(arch="lstm_lm")


@pytest.mark.parametrize("changes, names", [
    (dict(encoder_layers=2), "decoder_layers"),
    (dict(share_all_embeddings=True, encoder_embed_dim=8), "encoder_embed_dim"),
    (dict(share_decoder_input_output_embed=True, decoder_out_embed_dim=8), "out_embed_dim"),
    (dict(dropout=1.0), "dropout"),
    (dict(decoder_hidden_size=-1), "decoder_hidden_size"),
    (dict(adaptive_softmax_cutoff=(5, 3)), "adaptive_softmax_cutoff"),
])
def test_bad_configurations_are_named(changes, names):
    with pytest.raises(ValueError, match=names):
        LSTMConfig(**changes)


def test_shared_embeddings_need_one_dictionary():
    with pytest.raises(ValueError, match="joined"):
        models.build(LSTMConfig(share_all_embeddings=True), source_vocab_size=8,
                     target_vocab_size=9, compute_dtype=jnp.float32)
    with pytest.raises(ValueError, match="cutoff"):
        models.build(LSTMConfig(adaptive_softmax_cutoff=(4, 20)), source_vocab_size=8,
                     target_vocab_size=9, compute_dtype=jnp.float32)


def test_decoding_grows_its_cache():
    goldens.check_decoding(goldens.load("lstm/shared"), capacity=4)


def test_mesh_changes_nothing():
    goldens.check_mesh(goldens.load("lstm/bidirectional"))
