"""What is peculiar to the transformer: switches, initialisation, configurations; what every model
does is in test_conformance.py."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import config, models
from seqjax.models.protocol import source_attention, token_source
from seqjax.models.transformer.config import TransformerAlignConfig, TransformerConfig

VOCAB = 40
BASE = TransformerConfig(
    encoder_embed_dim=32, encoder_ffn_embed_dim=64, encoder_layers=2, encoder_attention_heads=4,
    decoder_embed_dim=32, decoder_ffn_embed_dim=48, decoder_layers=2, decoder_attention_heads=4,
    max_source_positions=64, max_target_positions=48,
)
PRENORM = dict(encoder_normalize_before=True, decoder_normalize_before=True)
SWITCHES = {
    "postnorm": {},
    "normformer": dict(
        PRENORM, scale_attn=True, scale_fc=True, scale_heads=True, scale_resids=True),
    "adaptive": dict(
        share_all_embeddings=True, adaptive_softmax_cutoff=(10, 25), adaptive_softmax_factor=2.0),
    "cross_self": dict(cross_self_attention=True, scale_heads=True),
    "blind": dict(no_cross_attention=True),
}


def make(**changes):
    cfg = dataclasses.replace(BASE, **changes)
    return models.build(
        cfg, source_vocab_size=VOCAB, target_vocab_size=VOCAB, compute_dtype=jnp.float32
    )


def batch(rows=3, source=7, target=6, seed=0):
    rng = np.random.default_rng(seed)
    src = rng.integers(4, VOCAB, (rows, source))
    src[1, source - 2 :] = 1
    prev = rng.integers(4, VOCAB, (rows, target))
    prev[:, 0] = 2
    return jnp.asarray(src), jnp.asarray(prev)


def moved(params):
    """Every parameter off its start, so that those which begin with 1 or 0 show."""
    rng = np.random.default_rng(4)
    return jax.tree.map(lambda a: a + 0.1 * rng.normal(size=a.shape).astype(np.float32), params)


def test_initialisation_is_fairseqs():
    cfg = dict(encoder_embed_dim=256, decoder_embed_dim=256, encoder_ffn_embed_dim=512)
    params = jax.jit(make(**cfg).init)(jax.random.key(0))
    layer = params["encoder"]["layers"]
    bound = (6 / 512) ** 0.5
    assert np.abs(layer["self_attn"]["q_proj"]["kernel"]).max() == pytest.approx(
        bound * 2**-0.5, rel=1e-2)
    assert np.abs(layer["self_attn"]["out_proj"]["kernel"]).max() == pytest.approx(bound, rel=1e-2)
    assert not layer["self_attn"]["out_proj"]["bias"].any()
    assert np.abs(layer["fc1"]["kernel"]).max() == pytest.approx(256**-0.5, rel=1e-2)
    assert np.abs(layer["fc2"]["bias"]).max() == pytest.approx(512**-0.5, rel=5e-2)
    scales = jax.jit(make(**SWITCHES["normformer"]).init)(jax.random.key(0))["decoder"]["layers"]
    for name, size in (("c_attn", 4), ("w_resid", 32)):
        np.testing.assert_array_equal(scales[name], np.ones((2, size)))
    for name, size in (("attn_ln", 32), ("ffn_layernorm", 48)):
        np.testing.assert_array_equal(scales[name]["scale"], np.ones((2, size)))
        np.testing.assert_array_equal(scales[name]["bias"], np.zeros((2, size)))
    table = params["encoder"]["embed_tokens"]["embedding"]
    assert not table[1].any()
    assert float(table.std()) == pytest.approx(256**-0.5, rel=5e-2)


def test_named_architectures_and_overrides():
    resolved = config.resolve_model(
        {"arch": "transformer_iwslt_de_en", "dropout": 0.3}, models=models.CONFIGS,
        archs=models.ARCHS,
    )
    assert (resolved.encoder_ffn_embed_dim, resolved.decoder_attention_heads) == (1024, 4)
    assert resolved.dropout == 0.3
    big = config.resolve_model(
        {"arch": "transformer_wmt_en_de_big_t2t"}, models=models.CONFIGS, archs=models.ARCHS
    )
    assert big.encoder_normalize_before and big.activation_dropout == 0.1
    kept = config.resolve_model(
        {"encoder_layers_to_keep": "0,2,4", "decoder_layers": 9}, models=models.CONFIGS,
        archs=models.ARCHS)
    assert (kept.encoder_layers, kept.encoder_layers_to_keep) == (3, (0, 2, 4))
    assert kept.decoder_layers == 9


@pytest.mark.parametrize("changes, message", [
    ({"encoder_attention_heads": 5}, "not a multiple"),
    ({"dropout": 1.5}, r"not in \[0, 1\)"),
    ({"share_all_embeddings": True, "encoder_embed_dim": 64}, "share_all_embeddings"),
    ({"cross_self_attention": True, "encoder_embed_dim": 64}, "cross_self_attention needs"),
    ({"adaptive_softmax_cutoff": (20, 10)}, "adaptive_softmax_cutoff: .*must grow"),
    ({"adaptive_softmax_cutoff": (10, 50)}, "does not fit a dictionary of 40"),
    ({"adaptive_softmax_dropout": 1.0}, r"not in \[0, 1\)"),
    ({"decoder_layers_to_keep": (0, 0)}, "name each layer that stays once"),
    ({"decoder_layers_to_keep": (0,)}, "are 1 layers, but decoder_layers is 2"),
])
def test_impossible_sizes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_sharing_needs_a_joined_dictionary():
    cfg = dataclasses.replace(BASE, share_all_embeddings=True)
    with pytest.raises(ValueError, match="joined-dictionary"):
        models.build(cfg, source_vocab_size=40, target_vocab_size=48, compute_dtype=jnp.float32)


def test_an_adaptive_softmax_drops_out_in_front_of_the_output_and_in_its_tails():
    values = {**SWITCHES["adaptive"], "dropout": 0.0}
    model = make(**values, adaptive_softmax_dropout=0.4)
    params = moved(jax.jit(model.init)(jax.random.key(0)))
    src, prev = batch()

    def run(model, seed):
        key = None if seed is None else jax.random.key(seed)
        encoded = model.encode(params, token_source(src, pad=1), rng=key)
        return model.features(params, prev, encoded, rng=key)

    plain, found = run(model, None), run(model, 1)
    assert (found.hidden == 0).mean() == pytest.approx(0.4, abs=0.1)
    assert found.projection.key is not None and plain.projection.key is None
    np.testing.assert_array_equal(run(make(**values), 1).logits(), plain.logits())


def test_a_decoder_without_attention_to_the_source_gives_no_alignment():
    model = make(no_cross_attention=True)
    params = jax.jit(model.init)(jax.random.key(0))
    src, prev = batch()
    features = model.features(params, prev, model.encode(params, token_source(src, pad=1)))
    with pytest.raises(ValueError, match="no attention to the source"):
        source_attention(features)
    other = model.features(params, prev, model.encode(params, token_source(src[::-1], pad=1)))
    np.testing.assert_array_equal(features.hidden, other.hidden)
    with pytest.raises(ValueError, match="no_cross_attention: a transformer_align aligns"):
        TransformerAlignConfig(no_cross_attention=True)


def test_switches_add_their_parameters_and_no_others():
    layers = {name: set(jax.eval_shape(make(**values).init, jax.random.key(0))["decoder"]["layers"])
              for name, values in SWITCHES.items()}
    plain = layers["postnorm"]
    assert layers["normformer"] - plain == {"c_attn", "w_resid", "attn_ln", "ffn_layernorm"}
    assert plain - layers["blind"] == {"encoder_attn", "encoder_attn_layer_norm"}
    assert layers["cross_self"] == plain | {"c_attn"}
