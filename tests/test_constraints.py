"""Lexical constraints and permitted outputs in the compiled search, against fairseq's
algorithms restated in `reference_constraints.py`."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import reference_constraints
import reference_search
from toy_models import RecurrentToy, ToyModel

from seqjax.config import ConfigError, GenerationConfig
from seqjax.generation import constraints, scheduling
from seqjax.generation.allowed import TokenTrie
from seqjax.generation.decoder import Decoder

MODEL = ToyModel(eos_bias=1.0)
PARAMS = MODEL.init(jax.random.key(0))
ORDERS = ("ordered", "unordered")


def make_sources(rng, count, longest=9):
    return [np.append(rng.integers(4, 12, rng.integers(0, longest)), 2) for _ in range(count)]


def make_phrases(rng):
    """None to four phrases of few different tokens, so that they repeat and overlap; 3 is the
    unknown word."""
    words = rng.choice(np.arange(3, 12), 3, replace=False)
    return [rng.choice(words, rng.integers(1, 4)).tolist() for _ in range(rng.integers(0, 5))]


def reference(source, config, constraint, *, model=MODEL, params=PARAMS, prefix=()):
    max_len = int(config.max_len_a * len(source) + config.max_len_b)
    return reference_search.search(
        lambda tokens: [model.numpy_logits(params, source, tokens)], beam=config.beam,
        vocabulary=model.vocabulary, max_len=max_len, source_len=len(source),
        min_len=config.min_len, unkpen=config.unkpen, lenpen=config.lenpen,
        temperature=config.temperature, ngram=config.no_repeat_ngram_size, prefix=prefix,
        constraint=constraint)


def assert_same(found, wanted, nbest):
    assert [h.tokens.tolist() for h in found] == [
        tokens for tokens, _, _ in wanted[:nbest]] or ([[2]] if not wanted else 0)
    for h, (_, score, positional) in zip(found, wanted, strict=False):
        np.testing.assert_allclose(h.score, score, rtol=0, atol=2e-5)
        np.testing.assert_allclose(h.positional_scores, positional, rtol=0, atol=2e-5)
    if not wanted:
        assert found[0].score == -np.inf


# ---- lexical constraints ----


@pytest.mark.parametrize("order", ORDERS)
def test_progress_is_that_of_plain_objects(order):
    """Every bank, wanted token and end of random walks, with overlap and repetition."""
    rng = np.random.default_rng(4)
    progress = constraints.progress_of(order)
    phrases = [make_phrases(rng) for _ in range(40)]
    packed = jax.tree.map(
        jax.numpy.asarray, progress.pack(phrases, size=progress.size(phrases), rows=41))
    w = 3
    memory = progress.start(packed, beam=w)
    states = [[reference_constraints.STATES[order](p)] * w for p in phrases]
    step = jax.jit(lambda memory, parents, tokens: (
        progress.moves(packed, memory), progress.finished(packed, memory),
        progress.follow(packed, memory, parents=parents, tokens=tokens)))
    for _ in range(25):
        parents = rng.integers(0, w, (41, w))
        tokens = rng.integers(3, 12, (41, w))
        for b in range(len(phrases)):
            useful = sorted({t for s in states[b] for t in s.next_tokens()})
            if useful and rng.random() < 0.8:
                tokens[b] = rng.choice(useful, w)
        moves, finished, memory = step(memory, parents, tokens)
        banks = moves.at(tokens, parents)
        for b, each in enumerate(states):
            for i, state in enumerate(each):
                wanted = np.asarray(moves.tokens[b, i])[np.asarray(moves.wanted[b, i])]
                assert sorted(wanted.tolist()) == sorted(state.next_tokens())
                assert bool(finished[b, i]) == state.finished
            states[b] = [each[parents[b, i]].advance(int(tokens[b, i])) for i in range(w)]
            assert [s.bank for s in states[b]] == np.asarray(banks[b]).tolist()
            assert int(progress.span(packed)[b]) == each[0].span


def check(config, order, *, rng, count=5, model=MODEL, params=PARAMS):
    sources = make_sources(rng, count)
    phrases = [make_phrases(rng) for _ in sources]
    results = Decoder(model, config).decode(
        params, sources, constraints=phrases, constraint_order=order)
    for source, asked, found in zip(sources, phrases, results, strict=True):
        constraint = reference_constraints.Constrained(asked, order, beam=min(config.beam, 11))
        wanted = reference(source, config, constraint, model=model, params=params)
        assert_same(found, wanted, config.nbest)
        for h in found:
            if h.score > -np.inf and config.min_len:
                assert reference_constraints.contains(h.tokens, asked, order)
    return results


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("options", [
    dict(beam=1), dict(beam=3, nbest=3, min_len=0), dict(beam=10, nbest=10),
    dict(beam=5, nbest=5, lenpen=0.5, no_repeat_ngram_size=2, unkpen=0.5, max_len_a=0.5,
         max_len_b=12, temperature=1.4),
], ids=lambda o: " ".join(o))
def test_outputs_are_the_references(options, order):
    config = GenerationConfig(**{"max_len_b": 20, **options})
    check(config, order, rng=np.random.default_rng(5), count=8)


@pytest.mark.parametrize("order", ORDERS)
def test_other_models(order):
    rng = np.random.default_rng(8)
    for trial, (kind, bias) in enumerate([(ToyModel, 3.0), (RecurrentToy, -1.0)]):
        model = kind(eos_bias=bias, sharpness=float(rng.choice([0.5, 4.0])))
        check(GenerationConfig(beam=4, nbest=4, max_len_b=16), order, rng=rng, model=model,
              params=model.init(jax.random.key(trial)))


@pytest.mark.parametrize("order", ORDERS)
def test_a_large_vocabulary(order):
    model = ToyModel(vocabulary=1037, width=6, eos_bias=4.0)
    config = GenerationConfig(beam=4, nbest=2, max_len_b=16)
    params = model.init(jax.random.key(3))
    sources = make_sources(np.random.default_rng(2), 3)
    phrases = [[[700, 1036], [5]], [], [[900], [901, 902]]]
    results = Decoder(model, config).decode(
        params, sources, constraints=phrases, constraint_order=order)
    for source, asked, found in zip(sources, phrases, results, strict=True):
        constraint = reference_constraints.Constrained(asked, order, beam=4)
        assert_same(found, reference(source, config, constraint, model=model, params=params), 2)


def test_without_phrases_nothing_changes():
    config = GenerationConfig(beam=4, nbest=4, max_len_b=12)
    sources = make_sources(np.random.default_rng(1), 6)
    decoder = Decoder(MODEL, config)
    plain = decoder.decode(PARAMS, sources)
    empty = decoder.decode(PARAMS, sources, constraints=[[]] * 6)
    for a, b in zip(plain, empty, strict=True):
        assert [h.tokens.tolist() for h in a] == [h.tokens.tolist() for h in b]


def test_prefixes_count_towards_constraints():
    config = GenerationConfig(beam=4, nbest=4, max_len_b=12)
    sources = make_sources(np.random.default_rng(1), 3)
    results = Decoder(MODEL, config).decode(
        PARAMS, sources, prefixes=[[7, 8], [9], []], constraints=[[[8, 5]], [[4], [6]], [[11]]])
    for found, prefix, phrases in zip(
            results, ([7, 8], [9], []), ([[8, 5]], [[4], [6]], [[11]]), strict=True):
        for h in found:
            assert h.score > -np.inf and h.tokens[:len(prefix)].tolist() == prefix
            assert reference_constraints.contains(h.tokens, phrases, "ordered")


def test_constraints_move_with_their_sentences(monkeypatch):
    """Batches of few long and many short outputs are moved together."""
    moves, old = [], scheduling.Run.take_in
    monkeypatch.setattr(
        scheduling.Run, "take_in", lambda self, other: (moves.append(1), old(self, other))[1])
    model = ToyModel(eos_bias=-9.0)
    params = model.init(jax.random.key(0))
    rng = np.random.default_rng(3)
    sources = [np.append(rng.integers(4, 12, 1 + i % 12), 2) for i in range(24)]
    phrases = [make_phrases(rng)[:2] if i % 3 else [] for i in range(24)]
    config = GenerationConfig(beam=3, nbest=3, max_len_a=2.0, max_len_b=8, batch_size=8)
    decoder = Decoder(model, config)
    together = decoder.decode(params, sources, constraints=phrases, constraint_order="unordered",
                              plan=[list(range(i, 24, 3)) for i in range(3)])
    assert moves
    for source, asked, found in list(zip(sources, phrases, together, strict=True))[::5]:
        constraint = reference_constraints.Constrained(asked, "unordered", beam=3)
        assert_same(found, reference(source, config, constraint, model=model, params=params), 3)


def test_what_cannot_be_met_is_a_lone_eos():
    """Room for both phrases only if the model had begun with them at once."""
    config = GenerationConfig(beam=1, max_len_b=4, no_repeat_ngram_size=1)
    results = Decoder(MODEL, config).decode(
        PARAMS, [np.array([5, 2])], constraints=[[[6, 7], [6, 8]]])
    assert results[0][0].tokens.tolist() == [2] and results[0][0].score == -np.inf


SOURCES = [np.array([5, 2]), np.array([6, 7, 2])]


@pytest.mark.parametrize(("options", "constraints", "error", "message"), [
    (dict(sampling=True, nbest=5), dict(constraints=[[[5]], []]), ConfigError,
     "constraints and sampling exclude"),
    (dict(diverse_beam_groups=5), dict(constraints=[[[5]], []]), ConfigError, "diverse_beam"),
    (dict(match_source_len=True), dict(allowed=TokenTrie([[5, 2]])), ConfigError, "match_source"),
    ({}, dict(constraints=[[], []], allowed=TokenTrie([[5, 2]])), ConfigError,
     "constraints and allowed"),
    ({}, dict(constraints=[[[5]], []], constraint_order="any"), ConfigError, "'any' is not one"),
    ({}, dict(constraints=[[[5]]]), ValueError, "1 lists of constraints for 2 sources"),
    ({}, dict(constraints=[[], [[5], []]]), ValueError, "source 1, constraint 1 is empty"),
    ({}, dict(constraints=[[], [[5, 2]]]), ValueError, "source 1, constraint 0 .*end of the sent"),
    ({}, dict(constraints=[[[12]], []]), ValueError, "id 12, but the vocabulary has 12"),
    (dict(max_len_b=3), dict(constraints=[[[5, 6], [7, 8]], []]), ValueError,
     "source 0: its constraints have 4 tokens.*at most 3"),
    ({}, dict(allowed=TokenTrie([[5, 40, 2]])), ValueError, "has the id 40"),
    ({}, dict(allowed=[TokenTrie([[5, 2]])]), ValueError, "1 tries .* for 2 sources"),
    ({}, dict(allowed=TokenTrie([[5, 3]], eos=3)), ValueError, "end in 3, but the model's eos"),
])
def test_bad_constraints_are_refused_before_any_work(options, constraints, error, message):
    decoder = Decoder(MODEL, GenerationConfig(**options))
    with pytest.raises(error, match=message):
        decoder.stream(PARAMS, SOURCES, **constraints)


# ---- permitted outputs ----


def make_outputs(rng, count=30):
    common = rng.integers(3, 12, 4)
    return [[*common[:rng.integers(0, 4)], *rng.integers(3, 12, rng.integers(1, 4)), 2]
            for _ in range(count)]


def follower(outputs):
    """The function that says what a trie says, by looking through all outputs."""
    def allowed(sentence, tokens):
        past = list(tokens)[1:]
        return sorted({int(o[len(past)]) for o in outputs
                       if len(o) > len(past) and list(o[:len(past)]) == past})
    return allowed


@pytest.mark.parametrize("options", [
    dict(beam=1), dict(beam=3, nbest=3), dict(beam=8, nbest=8, lenpen=0.5),
    dict(beam=4, nbest=4, max_len_b=3), dict(beam=4, nbest=4, no_repeat_ngram_size=1, unkpen=1.0),
], ids=lambda o: " ".join(o))
def test_a_trie_and_a_function_find_what_the_reference_finds(options):
    rng = np.random.default_rng(11)
    config = GenerationConfig(**{"max_len_b": 12, **options})
    sources, outputs = make_sources(rng, 5), make_outputs(rng)
    decoder = Decoder(MODEL, config)
    by_trie = decoder.decode(PARAMS, sources, allowed=TokenTrie(outputs))
    by_function = decoder.decode(PARAMS, sources, prefix_allowed_tokens_fn=follower(outputs))
    for i, source in enumerate(sources):
        wanted = reference(source, config, reference_constraints.Permitted(follower(outputs), i))
        assert_same(by_trie[i], wanted, config.nbest)
        assert_same(by_function[i], wanted, config.nbest)
        for h in by_trie[i]:
            assert h.tokens.tolist() in outputs or h.score == -np.inf


def test_every_sentence_may_have_its_own_outputs():
    rng = np.random.default_rng(12)
    config = GenerationConfig(beam=3, nbest=3, max_len_b=12)
    sources = make_sources(rng, 4)
    outputs = [make_outputs(rng, n) for n in (1, 5, 40)]
    tries = [TokenTrie(o) for o in outputs]
    which = [2, 0, 1, 0]
    found = Decoder(MODEL, config).decode(PARAMS, sources, allowed=[tries[i] for i in which])
    for i, (source, hypotheses) in enumerate(zip(sources, found, strict=True)):
        constraint = reference_constraints.Permitted(follower(outputs[which[i]]), i)
        assert_same(hypotheses, reference(source, config, constraint), 3)


def test_a_function_may_depend_on_the_sentence_and_on_anything_before():
    """Not two even tokens in a row; sentence 1 may end from its third token on only."""
    def allowed(sentence, tokens):
        words = [t for t in range(3, 12) if t % 2 or int(tokens[-1]) % 2 or len(tokens) == 1]
        return words + ([2] if sentence != 1 or len(tokens) > 3 else [])

    config = GenerationConfig(beam=4, nbest=4, max_len_b=9)
    sources = make_sources(np.random.default_rng(13), 3)
    found = Decoder(MODEL, config).decode(PARAMS, sources, prefix_allowed_tokens_fn=allowed)
    for i, (source, hypotheses) in enumerate(zip(sources, found, strict=True)):
        constraint = reference_constraints.Permitted(allowed, i)
        assert_same(hypotheses, reference(source, config, constraint), 4)


def test_prefixes_must_be_permitted():
    config = GenerationConfig(beam=2, nbest=2, max_len_b=9)
    trie = TokenTrie([[5, 6, 2], [5, 7, 2], [8, 2]])
    found = Decoder(MODEL, config).decode(
        PARAMS, SOURCES, prefixes=[[5], [9]], allowed=trie)
    assert sorted(h.tokens.tolist() for h in found[0]) == [[5, 6, 2], [5, 7, 2]]
    assert [h.tokens.tolist() for h in found[1]] == [[2]] and found[1][0].score == -np.inf


def test_what_a_function_raises_reaches_the_caller():
    def allowed(sentence, tokens):
        if len(tokens) == 3:
            raise KeyError("no such name")
        return range(3, 12)

    decoder = Decoder(MODEL, GenerationConfig(beam=2, max_len_b=9))
    with pytest.raises(KeyError, match="no such name"):
        decoder.decode(PARAMS, SOURCES, prefix_allowed_tokens_fn=allowed)
    with pytest.raises(ValueError, match="allowed the id 12 for sentence"):
        decoder.decode(PARAMS, SOURCES, prefix_allowed_tokens_fn=lambda *_: [12])


def test_another_function_does_not_compile_again():
    traced = []

    class Counting(ToyModel):
        def step(self, *args, **kwargs):
            traced.append(1)
            return super().step(*args, **kwargs)

    model = Counting()
    decoder = Decoder(model, GenerationConfig(beam=2, max_len_b=9))
    decoder.decode(PARAMS, SOURCES, prefix_allowed_tokens_fn=lambda *_: [5, 2])
    before = len(traced)
    found = decoder.decode(PARAMS, SOURCES, prefix_allowed_tokens_fn=lambda *_: [7, 2])
    assert len(traced) == before
    assert set(found[0][0].tokens.tolist()) <= {7, 2}


def test_tries():
    trie = TokenTrie([[5, 6, 2], [5, 2], [9, 2], [5, 6, 7, 2], [5, 6, 2]])
    assert trie.next_tokens([]) == [5, 9] and trie.next_tokens([5]) == [2, 6]
    assert trie.next_tokens([5, 6]) == [2, 7] and trie.next_tokens([5, 6, 2]) == []
    assert trie.next_tokens([6]) == [] and len(trie) == 9
    for wrong in ([[5, 6]], [[5, 2], []], [[2, 5, 2]], [[-1, 2]]):
        with pytest.raises(ValueError, match="permitted output"):
            TokenTrie(wrong)
    with pytest.raises(ValueError, match="no permitted outputs"):
        TokenTrie([])
