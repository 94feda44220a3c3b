"""`seqjax.load` and what can be done with a loaded model."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_checkpoint import write_checkpoint
from tiny_run import write_data

import seqjax
from seqjax.config import ConfigError

TEXTS = ["aa1 aa2", "aa0", "aa3 aa4 aa5 aa6 aa7 aa8", "aa9 aa1 aa1", "aa2 aa2 aa2 aa2 unknown"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    data = write_data(root / "data")
    return [write_checkpoint(root / f"run{i}", data, seed=i) for i in range(2)]


@pytest.fixture(scope="module")
def model(folders):
    return seqjax.load(folders[0])


@pytest.fixture(scope="module")
def found(model):
    return model.generate(TEXTS, beam=2, nbest=2)


def test_a_string_for_a_string_and_a_list_for_a_list(model, found):
    assert model.translate(TEXTS, beam=2) == [h[0].text for h in found]
    assert model.translate(TEXTS[2], beam=2) == found[2][0].text
    assert model.translate([]) == []


def test_hypotheses_are_complete(found):
    for hypotheses in found:
        assert len(hypotheses) == 2 and hypotheses[0].score >= hypotheses[1].score
        for h in hypotheses:
            assert h.tokens[-1] == 2 and len(h.tokens) == len(h.positional_scores)
            assert h.score == pytest.approx(h.positional_scores.mean(), abs=1e-5)


def test_ids_and_texts_are_the_same_input(model, found):
    ids = [model.encode(text) for text in TEXTS]
    again = model.generate([x.tolist() for x in ids], beam=2, nbest=2)
    for a, b in zip(found, again, strict=True):
        assert a[0].text == b[0].text and a[0].score == pytest.approx(b[0].score, abs=1e-5)


def test_results_do_not_depend_on_the_batch(model, found):
    order = [3, 0, 4, 2, 1]
    shuffled = model.generate([TEXTS[i] for i in order], beam=2, nbest=2)
    for place, i in enumerate(order):
        assert np.array_equal(shuffled[place][0].tokens, found[i][0].tokens)
        assert shuffled[place][0].score == pytest.approx(found[i][0].score, abs=1e-5)
    alone = model.generate([TEXTS[4]], beam=2, nbest=2)[0]
    assert alone[1].score == pytest.approx(found[4][1].score, abs=1e-5)


def test_a_beams_score_is_its_teacher_forced_score(model, found):
    scored = model.score(TEXTS, [h[0].tokens for h in found])
    for h, s in zip(found, scored, strict=True):
        assert s.score == pytest.approx(h[0].score, abs=1e-5)
        np.testing.assert_allclose(s.positional_scores, h[0].positional_scores, atol=1e-5)


def test_log_probs_are_those_of_the_search(model, found):
    ids = [model.encode(text) for text in TEXTS]
    previous = [[2, *h[0].tokens[:-1].tolist()] for h in found]
    out = model.log_probs(ids, previous)
    assert out.shape == (5, max(map(len, previous)), len(model.task.target_vocab))
    for i, h in enumerate(found):
        n = len(h[0].tokens)
        np.testing.assert_allclose(
            out[i, np.arange(n), h[0].tokens], h[0].positional_scores, atol=1e-5)
        assert not out[i, n:].any()
        np.testing.assert_allclose(np.exp(out[i, :n]).sum(-1), 1, atol=1e-5)


def test_prefixes_are_kept(model):
    h = model.generate(TEXTS[:2], prefixes=["bb3 bb4", []], beam=2)[0][0]
    assert h.text.startswith("bb3 bb4")


def test_sampling_depends_on_the_seed_alone(model):
    options = dict(sampling=True, beam=3, nbest=3, temperature=1.5)
    texts = [[h.text for h in hs] for hs in model.generate(TEXTS, seed=1, **options)]
    again = [[h.text for h in hs] for hs in model.generate(TEXTS, seed=1, **options)]
    other = [[h.text for h in hs] for hs in model.generate(TEXTS, seed=2, **options)]
    assert texts == again and texts != other


def test_an_ensemble_averages_probabilities(folders, model):
    both = seqjax.load(f"{folders[0]}:{folders[1]}")
    assert len(seqjax.load(folders).models) == 2
    second = seqjax.load(folders[1])
    ids, previous = [model.encode(TEXTS[0])], [[2, 5, 6]]
    expected = np.log((np.exp(model.log_probs(ids, previous))
                       + np.exp(second.log_probs(ids, previous))) / 2)
    np.testing.assert_allclose(both.log_probs(ids, previous), expected, atol=1e-5)
    h = both.generate(TEXTS[:1], beam=2)[0][0]
    assert h.score == pytest.approx(both.score(TEXTS[:1], [h.tokens])[0].score, abs=1e-5)


@pytest.mark.parametrize(("given", "kind", "message"), [
    (dict(allowed="bb1"), TypeError, r"allowed: got the text 'bb1'; .*model.trie\(\['bb1'\]\)"),
    (dict(prefix_allowed_tokens_fn=lambda number, ids: "x"), TypeError, "gave str 'x'.*in a list"),
    (dict(prefix_allowed_tokens_fn=lambda number, ids: None), TypeError, "gave NoneType None"),
    (dict(prefix_allowed_tokens_fn=lambda number, ids: [2.5]), TypeError, r"gave list \[2.5\]"),
    (dict(max_len_b=-1), ValueError, "at most -1 tokens but need min_len=1"),
    (dict(prefixes=[[5], [6]]), ValueError, "prefixes: 2 for 1 inputs"),
    (dict(constraints=[[], []]), ValueError, "constraints: 2 lists for 1 inputs"),
])
def test_demands_that_are_none_say_so(model, given, kind, message):
    with pytest.raises(kind, match=message):
        model.generate(["aa1"], beam=2, **{"max_len_b": 5, **given})


def test_a_function_may_permit_nothing(model):
    found = model.generate(["aa1"], beam=2, max_len_b=5,
                           prefix_allowed_tokens_fn=lambda number, ids: [])
    assert found[0][0].score == -np.inf


def test_mistakes(model, tmp_path):
    with pytest.raises(ConfigError, match="no such file or folder"):
        seqjax.load(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="holds no (complete )?checkpoint"):
        seqjax.load(tmp_path)
    with pytest.raises(ConfigError, match=r"generation\.bean: unknown key.*'beam'"):
        model.translate("aa1", bean=3)
    with pytest.raises(TypeError, match="list of texts"):
        model.generate("aa1")
    with pytest.raises(ValueError, match="source 1 has 1200 tokens"):
        model.generate(["aa1", [5] * 1199 + [2]])
    with pytest.raises(ValueError, match="2 sources but 1 targets"):
        model.score(["aa1", "aa2"], ["bb1"])
