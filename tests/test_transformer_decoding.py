"""Search over the real transformer: the cache, its growth, and the compiled program."""

from __future__ import annotations

import dataclasses

import compiled_checks
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import models
from seqjax.config import ConfigError, GenerationConfig
from seqjax.generation.allowed import TokenTrie
from seqjax.generation.beam_search import Search, options_of
from seqjax.generation.decoder import Decoder
from seqjax.generation.output_constraints import PhraseConstraint, TrieConstraint
from seqjax.generation.processors import Sentences
from seqjax.generation.scoring import Scorer
from seqjax.models.transformer.config import TransformerConfig

V = 331
CONFIG = TransformerConfig(
    encoder_embed_dim=32, decoder_embed_dim=32, encoder_ffn_embed_dim=48,
    decoder_ffn_embed_dim=48, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
    decoder_attention_heads=2, max_source_positions=64, max_target_positions=80)


@pytest.fixture(scope="module")
def model():
    return models.build(CONFIG, source_vocab_size=V, target_vocab_size=V,
                        compute_dtype=jnp.float32)


@pytest.fixture(scope="module")
def params(model):
    return model.init(jax.random.key(0))


def make_sources(count, longest=40):
    rng = np.random.default_rng(0)
    return [np.append(rng.integers(4, V, rng.integers(1, longest)), 2) for _ in range(count)]


def test_scores_equal_teacher_forced_ones_across_grown_caches(model, params):
    """min_len 60 takes the cache through three capacities."""
    config = GenerationConfig(beam=4, nbest=4, min_len=60, max_len_b=70)
    sources = make_sources(3)
    found = Decoder(model, config).decode(params, sources)
    pairs = [(s, h) for s, hypotheses in zip(sources, found, strict=True) for h in hypotheses]
    again = Scorer(model).score(params, [s for s, _ in pairs], [h.tokens for _, h in pairs])
    assert len({h.tokens.tobytes() for _, h in pairs}) == 12
    for (_, h), scored in zip(pairs, again, strict=True):
        assert len(h.tokens) > 60
        np.testing.assert_allclose(h.positional_scores, scored.positional_scores, atol=1e-5)
        np.testing.assert_allclose(h.score, scored.score, atol=1e-5)


def test_results_do_not_depend_on_batches(model, params):
    config = GenerationConfig(beam=3, nbest=3, max_len_a=0.5, max_len_b=5)
    sources = make_sources(7)
    together = Decoder(model, config).decode(params, sources)
    alone = Decoder(model, config)
    for i, source in enumerate(sources):
        for a, b in zip(together[i], alone.decode(params, [source])[0], strict=True):
            assert a.tokens.tolist() == b.tokens.tolist()
            np.testing.assert_allclose(a.positional_scores, b.positional_scores, atol=1e-5)


def test_a_batch_may_lie_on_several_devices(model, params):
    """Rows over eight devices, parameters on each, sentences moved between batches too."""
    config = GenerationConfig(beam=3, nbest=2, max_len_a=3, max_len_b=2, batch_size=8)
    sources = make_sources(21, longest=12)
    wanted = Decoder(model, config).decode(params, sources)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    decoder = Decoder(model, config, row_multiple=8, sharding=spread)
    found = decoder.decode(jax.device_put(params, everywhere), sources)
    for a, b in zip(found, wanted, strict=True):
        assert [h.tokens.tolist() for h in a] == [h.tokens.tolist() for h in b]
        np.testing.assert_allclose([h.score for h in a], [h.score for h in b], atol=1e-5)


def test_demands_may_lie_on_several_devices(model, params):
    config = GenerationConfig(beam=3, max_len_b=9)
    sources = make_sources(9, longest=6)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    params = jax.device_put(params, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))
    decoder = Decoder(model, config, row_multiple=8, sharding=spread)
    for constraints in (
        {"constraints": [[[7 + i], [8, 9]] for i in range(9)], "constraint_order": "unordered"},
        {"allowed": TokenTrie([[5, 6, 2], [5, 2], [7, 8, 9, 2]])},
    ):
        found = decoder.decode(params, sources, **constraints)
        wanted = Decoder(model, config).decode(params, sources, **constraints)
        assert [h[0].tokens.tolist() for h in found] == [h[0].tokens.tolist() for h in wanted]
    with pytest.raises(ConfigError, match="called by one device"):
        decoder.decode(params, sources, prefix_allowed_tokens_fn=lambda *_: [2])


def compiled_chunk(model, params, *, beam=5, rows=3, capacity=32, constraint=None):
    config = GenerationConfig(beam=beam)
    strategy = None if constraint is None else constraint.strategy
    options = options_of(config, pad=1, eos=2, unk=3, vocabulary=V, strategy=strategy)
    search = Search([model], options)
    weights = (jax.eval_shape(model.prepare, params),)
    number = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)  # noqa: E731
    sentences = Sentences(
        source_len=number(rows), max_len=number(rows), prefix=number(rows, 0), bos=number(rows),
        index=number(rows), seed=jax.ShapeDtypeStruct((), jnp.uint32),
        constraints=None if constraint is None else constraint.pack(range(rows), rows=rows))
    begin = lambda p, w, s, x: search.begin(p, w, s, x, capacity=capacity)  # noqa: E731
    caches, state = jax.eval_shape(begin, (params,), weights, number(rows, 16), sentences)
    tables = None if constraint is None else constraint.tables
    text = search.chunk.lower(
        weights, sentences, caches, state, np.int32(9), tables=tables).compile().as_text()
    return text, caches


CONSTRAINTS = {
    "plain": None,
    "ordered": PhraseConstraint(phrases=[[[5, 6]], [], [[7]]], order="ordered"),
    "unordered": PhraseConstraint(phrases=[[[5, 6]], [], [[7]]], order="unordered"),
    "permitted": TrieConstraint(tries=[TokenTrie([[5, 2], [6, 7, 2]])] * 3),
}


@pytest.mark.parametrize(("name", "changes"), [
    *((name, {}) for name in CONSTRAINTS), ("plain", {"cross_self_attention": True})])
def test_the_compiled_search_never_copies_its_cache(model, params, name, changes):
    constraint = CONSTRAINTS[name]
    if constraint is not None:
        constraint.check(np.array([20] * 3), pad=1, eos=2, bos=2, vocabulary=V)
    if changes:
        model = dataclasses.replace(model, config=dataclasses.replace(CONFIG, **changes))
        params = jax.eval_shape(model.init, jax.random.key(0))
    text, caches = compiled_chunk(model, params, constraint=constraint)
    shapes = {x.shape for x in (*caches[0].keys, *caches[0].values)}
    assert shapes == {(3, 2, 16, 32 * 5), (3, 2, 32 * 5, 16)}
    compiled_checks.assert_no_cache_copy(text, shapes)


def test_the_check_sees_copies():
    """The same check on programs that do what the search must not do."""
    shape = (3, 7, 11)

    def loop(change):
        def body(i, cache):
            return change(i, cache)
        program = jax.jit(lambda x: jax.lax.fori_loop(0, 5, body, x), donate_argnums=0)
        return program.lower(jax.ShapeDtypeStruct(shape, jnp.float32)).compile().as_text()

    def write(i, cache):
        row = jnp.full((3, 1, 11), i, cache.dtype) + cache.sum()
        return jax.lax.dynamic_update_slice_in_dim(cache, row, i, axis=1)

    compiled_checks.assert_no_cache_copy(loop(write), [shape])
    for copying in (lambda i, c: write(i, c[:, ::-1]),
                    lambda i, c: write(i, jnp.take(c, jnp.array([1, 0, 2]) * (i % 2), axis=0)),
                    lambda i, c: write(i, jnp.where(i > 2, c, 0))):
        with pytest.raises(AssertionError, match="the cache is copied"):
            compiled_checks.assert_no_cache_copy(loop(copying), [shape])
    with pytest.raises(AssertionError, match="nothing of the size"):
        compiled_checks.assert_no_cache_copy(loop(write), [(3, 7, 12)])
