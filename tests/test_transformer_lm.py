"""The transformer language model against what fairseq computes, and by itself."""

from __future__ import annotations

import dataclasses

import family_goldens as goldens
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import config, models
from seqjax.interop.fairseq import checkpoint as fairseq_weights
from seqjax.models.transformer.lm_config import ARCHS, TransformerLanguageModelConfig

CASES = (
    "learned", "widths", "adaptive", "adaptive_words", "adaptive_apart", "adaptive_softmax",
    "normformer",
)


@pytest.fixture(scope="module", params=CASES)
def golden(request):
    return goldens.load(f"transformer_lm/{request.param}")


@pytest.fixture(scope="module", params=("widths", "adaptive", "normformer"))
def one(request):
    return goldens.load(f"transformer_lm/{request.param}")


def test_log_probabilities_loss_and_gradients_are_fairseqs(golden):
    goldens.check_numbers(golden)


def test_decoding_equals_full_forward_and_fairseq(golden):
    goldens.check_decoding(golden)


def test_round_trip_keeps_every_tensor(golden):
    goldens.check_round_trip(golden)


def test_packed_rows_equal_separate_rows(one):
    goldens.check_packing(one)


def test_padding_changes_nothing(one):
    goldens.check_padding(one)


@pytest.mark.parametrize("case", ["adaptive", "normformer"])
def test_the_same_on_a_mesh(case):
    goldens.check_mesh(goldens.load(f"transformer_lm/{case}"))


def test_dropout(one):
    goldens.check_dropout(one)


def test_initialisation(one):
    fresh = goldens.check_init(one)["decoder"]
    words = fresh["embed_tokens"]
    bands = [words] if "embedding" in words else [words[k]["embed"] for k in sorted(words)]
    for band in bands:
        assert (np.asarray(band["embedding"])[1] == 0).all()


def small(**values) -> TransformerLanguageModelConfig:
    return TransformerLanguageModelConfig(
        decoder_embed_dim=8, decoder_ffn_embed_dim=8, decoder_layers=1,
        decoder_attention_heads=2, max_target_positions=6, **values,
    )


def build(cfg: TransformerLanguageModelConfig, vocab: int = 20, output: int | None = None):
    return models.build(
        cfg, source_vocab_size=vocab, target_vocab_size=vocab if output is None else output,
        compute_dtype=jnp.float32,
    )


def test_a_truncated_output_dictionary_has_its_own_width():
    model = build(small(), output=12)
    params = jax.eval_shape(model.init, jax.random.key(0))
    tokens = jnp.array([[2, 19, 5]])
    found = jax.eval_shape(lambda p: model.features(p, tokens).logits(), params)
    assert found.shape == (1, 3, 12)


def test_old_checkpoints_without_final_norm_or_with_tied_projections():
    golden = goldens.load("transformer_lm/adaptive")
    args = {
        "arch": "transformer_lm_wiki103", "tokens_per_sample": 20, "decoder_embed_dim": 16,
        "decoder_ffn_embed_dim": 12, "decoder_attention_heads": 2, "decoder_layers": 2,
        "adaptive_input_cutoff": "8,14", "adaptive_softmax_cutoff": "8,14",
        # An old file says these; its weights have no final norm and equal projections.
        "no_tie_adaptive_proj": False, "tie_adaptive_proj": False,
        "no_decoder_final_norm": False,
    }
    found = fairseq_weights.from_tree({"args": args, "model": golden.state})
    assert found.config.tie_adaptive_proj and found.config.no_decoder_final_norm
    assert jax.tree.map(np.shape, found.params) == jax.tree.map(
        np.shape, golden.checkpoint.params)


def test_named_architectures_resolve():
    for arch in ARCHS:
        found = config.resolve_model({"arch": arch}, models=models.CONFIGS, archs=models.ARCHS)
        assert isinstance(found, TransformerLanguageModelConfig)
        assert found.decoder_normalize_before == (arch != "transformer_lm")
    wiki = config.resolve_model(
        {"arch": "transformer_lm_wiki103", "adaptive_softmax_dropout": "0.1"},
        models=models.CONFIGS, archs=models.ARCHS,
    )
    assert wiki.adaptive_input_cutoff == (20000, 60000) and wiki.adaptive_softmax_dropout == 0.1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(adaptive_input=True), "needs adaptive_input_cutoff"),
        (dict(tie_adaptive_weights=True), "needs adaptive_input and"),
        (dict(adaptive_softmax_cutoff=(10, 8)), "ids must grow"),
        (dict(adaptive_input=True, adaptive_input_cutoff=(10,),
              share_decoder_input_output_embed=True), "tie_adaptive_weights instead"),
        (dict(adaptive_input=True, adaptive_input_cutoff=(10,), adaptive_softmax_cutoff=(12,),
              tie_adaptive_weights=True), "the same cutoffs and factor"),
        (dict(adaptive_input=True, adaptive_input_cutoff=(10,), adaptive_softmax_cutoff=(10,),
              tie_adaptive_weights=True, decoder_output_dim=4), "to be equal"),
        (dict(share_decoder_input_output_embed=True, decoder_input_dim=4), "decoder_output_dim"),
        (dict(dropout=1.5), "not in"),
    ],
)
def test_contradictions_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        small(**values)


@pytest.mark.parametrize(
    ("values", "sizes", "message"),
    [
        (dict(adaptive_softmax_cutoff=(10, 30)), (20, 20), "does not fit a dictionary of 20"),
        (dict(adaptive_input=True, adaptive_input_cutoff=(6, 9, 12)), (20, 20),
         "leave nothing for the last"),
        (dict(share_decoder_input_output_embed=True), (20, 12), "not the first 12"),
    ],
)
def test_what_does_not_fit_the_dictionary_is_refused(values, sizes, message):
    with pytest.raises(ValueError, match=message):
        build(small(**values), *sizes)


def test_rows_over_learned_positions_are_refused():
    model = build(small(decoder_learned_pos=True))
    params = jax.eval_shape(model.init, jax.random.key(0))
    with pytest.raises(ValueError, match="7 tokens.*6 positions"):
        jax.eval_shape(model.features, params, jnp.full((1, 7), 2))


def test_runtime_settings_change_no_number():
    base = small(adaptive_softmax_cutoff=(8,), dropout=0.0)
    model = build(base)
    params = jax.jit(model.init)(jax.random.key(0))
    tokens = jnp.array([[2, 7, 9, 11]])
    expected = jax.jit(lambda p: model.features(p, tokens).logits())(params)
    other = build(dataclasses.replace(base, remat="full", scan_unroll=1))
    found = jax.jit(lambda p: other.features(p, tokens).logits())(params)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_cutoff_at_the_end_of_the_vocabulary_is_exported_and_read_again():
    cfg = small(
        adaptive_input=True, adaptive_input_cutoff=(8, 20), adaptive_softmax_cutoff=(8, 20),
        tie_adaptive_weights=True,
    )
    params = jax.device_get(jax.jit(build(cfg).init)(jax.random.key(0)))
    state = fairseq_weights.to_state(params, cfg, source_vocab_size=20, target_vocab_size=20)
    args = {**dataclasses.asdict(cfg), "arch": "transformer_lm"}
    again = fairseq_weights.from_tree({"args": args, "model": state})
    assert again.config.adaptive_softmax_cutoff == (8,)
    jax.tree.map(np.testing.assert_array_equal, again.params, params)
