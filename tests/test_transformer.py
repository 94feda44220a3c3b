"""The transformer: cached decoding, packing, padding, switches, initialisation."""

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
    "prenorm_shared": dict(
        PRENORM, share_all_embeddings=True, encoder_learned_pos=True, decoder_learned_pos=True,
        layernorm_embedding=True, activation_fn="gelu",
    ),
    "odd": dict(
        PRENORM, encoder_embed_dim=24, encoder_layers=3, encoder_attention_heads=2,
        decoder_input_dim=20, decoder_output_dim=28, no_scale_embedding=True,
        no_token_positional_embeddings=True, no_decoder_final_norm=True,
        activation_fn="gelu_accurate",
    ),
    "tied_output": dict(share_decoder_input_output_embed=True, activation_fn="swish"),
    "merged": dict(merge_src_tgt_embed=True, encoder_normalize_before=True),
    "normformer": dict(
        PRENORM, scale_attn=True, scale_fc=True, scale_heads=True, scale_resids=True),
    "adaptive": dict(
        share_all_embeddings=True, adaptive_softmax_cutoff=(10, 25), adaptive_softmax_factor=2.0),
    "cross_self": dict(cross_self_attention=True, scale_heads=True),
    "cross_self_alone": dict(PRENORM, cross_self_attention=True, no_cross_attention=True),
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


@pytest.fixture(scope="module", params=sorted(SWITCHES))
def model_and_params(request):
    model = make(**SWITCHES[request.param])
    return model, moved(jax.jit(model.init)(jax.random.key(0)))


def moved(params):
    """Every parameter off its start, so that those which begin with 1 or 0 show."""
    rng = np.random.default_rng(4)
    return jax.tree.map(lambda a: a + 0.1 * rng.normal(size=a.shape).astype(np.float32), params)


def logits(model, params, src, prev, **kwargs):
    encoded = model.encode(
        params, token_source(src, pad=1, segments=kwargs.get("source_segments")))
    return model.features(
        params, prev, encoded, segments=kwargs.get("target_segments")
    ).logits()


def test_cached_decoding_equals_full_forward(model_and_params):
    model, params = model_and_params
    src, prev = batch()
    full = logits(model, params, src, prev)
    weights = model.prepare(params)
    encoded = model.encode(params, token_source(src, pad=1))
    cache = model.start(weights, encoded, rows=src.shape[0], beam=2, capacity=4)
    for t in range(prev.shape[1]):
        capacity = 4 if t < 4 else 8
        if t == 4:
            cache = model.grow(cache, capacity=8)
        ancestors = jnp.broadcast_to(jnp.arange(2)[None, :, None], (3, 2, capacity))
        tokens = jnp.stack([prev[:, t]] * 2, axis=1)
        features, cache = model.step(
            weights, tokens, cache, position=jnp.int32(t), ancestors=ancestors
        )
        np.testing.assert_allclose(features.logits()[:, 0], full[:, t], atol=1e-5)
        np.testing.assert_allclose(features.logits()[:, 1], full[:, t], atol=1e-5)


def test_ancestors_choose_the_history():
    """Two hypotheses that swap slots at every position see their own past."""
    model = make()
    params = jax.jit(model.init)(jax.random.key(0))
    src, first = batch()
    _, second = batch(seed=1)
    full = [logits(model, params, src, prev) for prev in (first, second)]
    weights = model.prepare(params)
    encoded = model.encode(params, token_source(src, pad=1))
    cache = model.start(weights, encoded, rows=src.shape[0], beam=2, capacity=6)
    for t in range(first.shape[1]):
        order = [0, 1] if t % 2 == 0 else [1, 0]  # slot -> sequence at this position
        tokens = jnp.stack([(first, second)[s][:, t] for s in order], axis=1)
        table = np.zeros((3, 2, 6), np.int32)
        for slot, sequence in enumerate(order):
            for c in range(6):
                held = [0, 1] if c % 2 == 0 else [1, 0]
                table[:, slot, c] = held.index(sequence) if c < t else slot
        features, cache = model.step(
            weights, tokens, cache, position=jnp.int32(t), ancestors=jnp.asarray(table)
        )
        for slot, sequence in enumerate(order):
            np.testing.assert_allclose(
                features.logits()[:, slot], full[sequence][:, t], atol=1e-5
            )


def test_packed_rows_equal_separate_rows(model_and_params):
    model, params = model_and_params
    src, prev = batch(rows=2, source=5, target=4)
    src = src.at[1, 3:].set(1)
    alone = logits(model, params, src, prev)
    packed_src = jnp.concatenate([src[0], src[1, :3], jnp.array([1, 1])])[None]
    packed_prev = jnp.concatenate([prev[0], prev[1], jnp.array([1])])[None]
    packed = logits(
        model, params, packed_src, packed_prev,
        source_segments=jnp.array([[1] * 5 + [2] * 3 + [0] * 2]),
        target_segments=jnp.array([[1] * 4 + [2] * 4 + [0]]),
    )
    np.testing.assert_allclose(packed[0, :4], alone[0], atol=1e-5)
    np.testing.assert_allclose(packed[0, 4:8], alone[1], atol=1e-5)


def test_padding_and_empty_rows_change_nothing():
    model = make()
    params = jax.jit(model.init)(jax.random.key(0))
    src, prev = batch()
    wide = jnp.pad(src, ((0, 2), (0, 5)), constant_values=1)
    long = jnp.pad(prev, ((0, 2), (0, 3)), constant_values=1)
    padded = logits(model, params, wide, long)
    np.testing.assert_allclose(padded[:3, :6], logits(model, params, src, prev), atol=1e-5)
    assert np.isfinite(padded).all()


@pytest.mark.parametrize("changes", [
    {"scan_unroll": 1}, {"remat": "full"}, {"remat": "dots", "scan_unroll": 1},
])
def test_unrolling_and_recomputation_change_no_gradient(changes):
    src, prev = batch()
    params = jax.jit(make().init)(jax.random.key(0))

    def gradient(model):
        def loss(params):
            key = jax.random.key(3)
            encoded = model.encode(params, token_source(src, pad=1), rng=key)
            return (model.features(params, prev, encoded, rng=key).logits() ** 2).mean()

        return jax.jit(jax.grad(loss))(params)

    expected, got = gradient(make()), gradient(make(**changes))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), expected, got)


def test_dropout_draws_anew_for_each_key_layer_and_place():
    model = make(dropout=0.3, attention_dropout=0.2, activation_dropout=0.1,
                 encoder_layerdrop=0.3, decoder_layerdrop=0.3)
    params = jax.jit(model.init)(jax.random.key(0))
    src, prev = batch()

    def run(seed):
        key = None if seed is None else jax.random.key(seed)
        encoded = model.encode(params, token_source(src, pad=1), rng=key)
        return model.features(params, prev, encoded, rng=key).logits()

    assert np.array_equal(run(1), run(1))
    assert not np.allclose(run(1), run(2))
    assert not np.allclose(run(1), run(None))


def test_bfloat16_stays_near_float32():
    model = make()
    params = jax.jit(model.init)(jax.random.key(0))
    half = dataclasses.replace(model, compute_dtype=jnp.bfloat16)
    src, prev = batch()
    exact, rough = logits(model, params, src, prev), logits(half, params, src, prev)
    assert rough.dtype == jnp.float32
    assert 0 < float(jnp.abs(exact - rough).max()) < 0.2


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
