"""What is peculiar to the transformer language model; what every model does is in
test_conformance.py."""

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
