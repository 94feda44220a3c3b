"""What is peculiar to the recurrent families; what every model does is in test_conformance.py."""

from __future__ import annotations

import family_goldens as goldens
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import config, models
from seqjax.models.lstm.config import LSTMConfig, LSTMLanguageModelConfig


@pytest.mark.parametrize("name", ["lstm/bidirectional", "lstm/lm_residual"])
def test_initialisation(name):
    fresh = jax.jit(goldens.load(name).model.init)(jax.random.key(0))
    kernel = np.asarray(fresh["decoder"]["layers_0"]["ih"]["kernel"])
    assert 0.09 < np.abs(kernel).max() <= 0.1 and np.abs(kernel.mean()) < 0.02


def test_frozen_embeddings_get_no_gradient():
    golden = goldens.load("lstm/shared")
    source, prev, target = golden.batch()
    for side in ("encoder", "decoder"):
        frozen = golden.changed(**{f"{side}_freeze_embed": True})

        def loss(params, frozen=frozen):
            return goldens.loss_of(frozen, frozen.features(params, source, prev), target)

        gradient = jax.grad(loss)(golden.params)
        assert (gradient["encoder"]["embed_tokens"]["embedding"] == 0).all()
        assert np.abs(gradient["decoder"]["layers_0"]["ih"]["kernel"]).max() > 0


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
