"""`encode`, `decode`, `extract_features`, `fill_mask` and `log_probs` of loaded models: as
fairseq's hub has them, whatever the batch."""

from __future__ import annotations

import re
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hub_models import Words, arrays, facade, loaded, said
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjax import hub
from seqjax.config import ConfigError
from seqjax.data.vocabulary import Vocabulary, VocabularyError, placeholder
from seqjax.hub import rows, text_ids
from seqjax.hub.features import states_of
from seqjax.models import protocol
from seqjax.models.lstm.config import LSTMConfig
from seqjax.models.parts.stack import layers_apart, layers_stacked
from seqjax.models.roberta.config import RobertaConfig

READERS, WRITERS = ("roberta", "roberta_prenorm"), ("bart",)
CASES = (*READERS, *WRITERS)


@pytest.fixture(scope="module")
def recorded():
    return {case: loaded(case) for case in CASES}


# ---- as fairseq's hub ----


@pytest.mark.parametrize("case", CASES)
def test_ids_and_texts_are_fairseqs(recorded, case):
    model = recorded[case]
    for one in said(case)["texts"]:
        assert model.encode(one["text"]).tolist() == one["ids"]
        assert model.decode(one["ids"]) == one["decoded"] == one["text"]
    for pair in said(case)["pairs"]:
        ids = model.encode(*pair["texts"])
        assert ids.tolist() == pair["ids"]
        assert model.decode(ids) == pair["decoded"]
        assert model.encode([tuple(pair["texts"])])[0].tolist() == pair["ids"]
    texts = [one["text"] for one in said(case)["texts"]]
    whole = model.encode(texts)
    assert [ids.tolist() for ids in whole] == [one["ids"] for one in said(case)["texts"]]
    assert model.decode(whole) == texts


@pytest.mark.parametrize("case", CASES)
def test_hidden_states_of_every_layer_are_fairseqs(recorded, case):
    model, wanted = recorded[case], arrays(case)
    texts = [one["text"] for one in said(case)["texts"]]
    every, last = model.extract_features(texts, all=True), model.extract_features(texts)
    first = model.extract_features(texts, layer=0)
    before = model.extract_features(texts, layer=-2)
    for n in range(len(texts)):
        np.testing.assert_allclose(every[n], wanted[f"features/{n}"], atol=1e-4)
        np.testing.assert_allclose(last[n], wanted[f"last/{n}"], atol=1e-4)
        np.testing.assert_allclose(first[n], every[n][0], atol=1e-5)
        np.testing.assert_allclose(before[n], every[n][-2], atol=1e-5)
    assert "prenorm" not in case or np.abs(every[0][-1] - last[0]).max() > 0.1
    alone = model.extract_features(model.encode(texts[3]))
    np.testing.assert_allclose(alone, wanted["last/3"], atol=1e-4)


@pytest.mark.parametrize("case", READERS)
def test_features_of_words_are_fairseqs(recorded, case):
    model, wanted = recorded[case], arrays(case)
    compared = 0
    for n, one in enumerate(said(case)["texts"]):
        found = model.extract_features_aligned_to_words(one["text"])
        assert found.words == ["<s>", *one["text"].split(), "</s>"]
        assert len(found) == len(found.features) == len(list(found))
        whole = model.extract_features(one["text"]).sum(axis=0)
        np.testing.assert_allclose(found.features.sum(axis=0), whole, atol=1e-4)
        if len(wanted[f"words/{n}"]):
            np.testing.assert_allclose(found.features, wanted[f"words/{n}"], atol=1e-4)
            compared += 1
    assert compared >= 4


@pytest.mark.parametrize("case", READERS)
def test_one_mask_is_filled_as_fairseq_fills_it(recorded, case):
    model, cases = recorded[case], said(case)["filled"]
    found = model.fill_mask([one["text"] for one in cases], topk=4)
    for ours, one in zip(found, cases, strict=True):
        assert [(text, word) for text, _, word in ours] == [(a, c) for a, _, c in one["found"]]
        np.testing.assert_allclose([p for _, p, _ in ours], [b for _, b, _ in one["found"]],
                                   atol=1e-5)
    alone = model.fill_mask(cases[0]["text"], topk=4)
    assert [x[::2] for x in alone] == [x[::2] for x in found[0]]
    np.testing.assert_allclose([x[1] for x in alone], [x[1] for x in found[0]], atol=1e-6)
    ids = text_ids.masked_ids(model.task, model.models[0], cases[0]["text"])
    assert [x[2] for x in model.fill_mask(ids, topk=4)] == [x[2] for x in found[0]]


def test_masks_are_written_anew_as_fairseq_does(recorded):
    model, about = recorded["bart"], said("bart")
    found = model.fill_mask([one["text"] for one in about["filled"]], topk=3)
    for ours, one in zip(found, about["filled"], strict=True):
        assert [text for text, _ in ours] == [text for text, _ in one["found"]]
        np.testing.assert_allclose([s for _, s in ours], [s for _, s in one["found"]], atol=1e-4)
    free = model.fill_mask("The <mask> is <mask>.", topk=2, match_source_len=False, beam=4,
                           max_len_b=12)
    assert [text for text, _ in free] == [text for text, _ in about["free"]]
    np.testing.assert_allclose([s for _, s in free], [s for _, s in about["free"]], atol=1e-4)


def test_a_long_text_is_cut_with_a_warning_where_fairseq_cuts_it(recorded):
    long = said("bart")["long"]
    with pytest.warns(UserWarning, match="the model takes 38 between"):
        assert recorded["bart"].encode(long["text"]).tolist() == long["ids"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(recorded["roberta"].encode(long["text"])) > 40  # RoBERTa's is not cut
    for case in CASES:
        with pytest.raises(ValueError, match=r"inputs\[1\]: has \d+ tokens.* 40: shorten"):
            recorded[case].extract_features(["Hello", long["text"]])
        with pytest.raises(ValueError, match=r"inputs\[1\]: has \d+ tokens.* 40: shorten"):
            recorded[case].fill_mask(["Hello <mask>", long["text"] + " <mask>"])


def test_log_probs_are_those_of_the_head(recorded):
    model = recorded["roberta"]
    ids = [model.encode("Hello world"), model.encode("the dog is round")]
    found = model.log_probs(ids)
    assert found.shape == (2, len(ids[1]), len(model.task.vocab)) and found.dtype == np.float32
    np.testing.assert_allclose(np.exp(found[1]).sum(-1), 1, atol=1e-4)
    assert not found[0, len(ids[0]):].any()
    np.testing.assert_allclose(model.log_probs(ids[0]), found[0, : len(ids[0])], atol=1e-5)
    masked = text_ids.masked_ids(model.task, model.models[0], "Hello <mask>")
    place = int(np.flatnonzero(masked == text_ids.mask_id(model.task))[0])
    (_, probability, _), *_ = model.fill_mask("Hello <mask>", topk=1)
    assert np.exp(model.log_probs(masked)[place].max()) == pytest.approx(probability, abs=1e-5)


# ---- nothing depends on the batch ----


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=40), seed=st.integers(0, 99))
def test_features_do_not_depend_on_the_batch(recorded, lengths, seed):
    rng = np.random.default_rng(seed)
    model = recorded["bart" if seed % 2 else "roberta"]
    given = [[0, *rng.integers(4, 60, n).tolist(), 2] for n in lengths]
    together = model.extract_features(given)
    place = int(rng.integers(len(given)))
    np.testing.assert_allclose(model.extract_features(given[place]), together[place], atol=1e-5)
    assert [len(x) for x in together] == [len(x) for x in given]


@given(lengths=st.lists(st.integers(1, 512), max_size=70))
def test_batches_are_of_few_shapes_and_hold_every_row_once(lengths):
    given = [np.full(n, 7, np.int32) for n in lengths]
    found = list(rows.batches(given, pad=1, limit=512))
    assert sorted(i for places, _ in found for i in places) == list(range(len(lengths)))
    for places, tokens in found:
        count, width = tokens.shape
        assert count in (1, 2, 4, 8, 16) and width <= 512 and width % 8 == 0
        for row, place in enumerate(places):
            assert (tokens[row] != 1).sum() == lengths[place]
    widths = {rows.batches([np.full(n, 7, np.int32)], pad=1, limit=512).__next__()[1].shape[1]
              for n in range(1, 513)}
    assert len(widths) == 20


@given(lengths=st.lists(st.integers(1, 512), max_size=70), shared=st.booleans())
def test_short_rows_share_rows_of_few_shapes_and_each_is_there_once(lengths, shared):
    given = [np.full(n, 7 + i, np.int32) for i, n in enumerate(lengths)]
    found = list(rows.layouts(given, limit=512, shared=shared))
    assert sorted(p for layout in found for p, *_ in layout.places) == list(range(len(lengths)))
    for layout in found:
        tokens, segments = layout.filled(given, empty=1), layout.segments(given)
        count, width = tokens.shape
        assert count in (1, 2, 4, 8, 16) and width <= 512 and width % 8 == 0
        assert ((tokens != 1) == (segments > 0)).all() and (shared or segments.max() <= 1)
        for place, row, start in layout.places:
            here = slice(start, start + lengths[place])
            assert (tokens[row, here] == 7 + place).all()
            assert len(set(segments[row, here])) == 1
            assert (segments[row] == segments[row, start]).sum() == lengths[place]
        for row in segments[segments.any(axis=1)]:
            numbers = row[row > 0]  # 1, 2, ... from the left, as packed rows have them
            assert numbers[0] == 1 and set(np.diff(numbers)) <= {0, 1}


def test_little_padding_is_left_of_many_short_rows_and_one_alone_gets_no_more():
    rng = np.random.default_rng(1)
    given = [np.full(n, 7, np.int32) for n in rng.integers(8, 61, 64)]
    work = [np.prod(x.shape) for x in rows.layouts(given, limit=512, shared=True)]
    assert sum(map(len, given)) > 0.9 * sum(work)
    assert [x.shape for x in rows.layouts(given[:1], limit=512, shared=True)] == [
        rows.batches(given[:1], pad=1, limit=512).__next__()[1].shape]


def test_layers_that_were_taken_apart_are_read_as_they_are(recorded):
    model = recorded["roberta"].models[0]
    params = recorded["roberta"].params[0]
    apart = layers_apart(params)
    jax.tree.map(np.testing.assert_array_equal, layers_stacked(apart), params)
    tokens = jnp.full((2, 9), 5, jnp.int32)

    def kernels_moved(read, params):
        program = jax.jit(lambda p: states_of(model, read(p), tokens, tokens)).lower(params)
        text, cfg = program.compile().as_text() or "", model.config
        shape = f"{cfg.encoder_embed_dim},{cfg.encoder_ffn_embed_dim}]"
        return [line for line in text.splitlines()
                if re.search(rf"= f32\[(\d+,)*{shape}\S* (?!parameter|bitcast)", line)]

    assert kernels_moved(lambda p: p, params)  # slices of stacks are copies
    assert not kernels_moved(layers_stacked, apart)


# ---- words and pieces ----


def test_features_of_words_of_ones_own(recorded):
    model = recorded["roberta"]
    text = "The cat isn't there."
    words = ["The", "cat", "is", "n't", "there", "."]
    found = model.extract_features_aligned_to_words(text, words=words)
    assert found.words == ["<s>", *words, "</s>"]
    np.testing.assert_allclose(
        found.features.sum(0), model.extract_features(text).sum(0), atol=1e-4)
    mean = model.extract_features_aligned_to_words("naïve ☕", pieces="mean")
    states = model.extract_features("naïve ☕")
    first = len(model.encode("naïve")) - 2
    np.testing.assert_allclose(mean.features[1], states[1 : 1 + first].mean(0), atol=1e-5)
    with pytest.raises(ValueError, match="words: together they are not the text"):
        model.extract_features_aligned_to_words(text, words=["The", "dog"])
    two = model.extract_features_aligned_to_words([text, "Hello"], layer=0)
    assert [len(x) for x in two] == [6, 3]


WORDS = Words(vocab=Vocabulary([*(f"w{i}" for i in range(20)), "<mask>"]))
SMALL: dict[str, Any] = {"encoder_layers": 2, "encoder_embed_dim": 8, "encoder_ffn_embed_dim": 12,
         "encoder_attention_heads": 2}


def test_words_without_a_tokenizer():
    model = facade(RobertaConfig(**SMALL, max_positions=16), WORDS)
    assert model.encode("w3 w5").tolist() == [0, 7, 9, 2]
    found = model.extract_features_aligned_to_words("w3 w5")
    np.testing.assert_allclose(found.features, model.extract_features("w3 w5"), atol=1e-6)
    for text, probability, word in model.fill_mask("w1 <mask> w2", topk=25):
        assert text == f"w1 {word} w2" and 0 < probability < 1


def test_a_mask_keeps_its_space_where_pieces_do_not_tell():
    assert text_ids.with_word("a <mask> b", "word", spaced=False) == "a word b"
    assert text_ids.with_word("a <mask> b", " word", spaced=True) == "a word b"
    assert text_ids.with_word("a <mask> b", "s", spaced=True) == "as b"
    assert text_ids.with_word("a [MASK] b", "word", spaced=False) == "a word b"


# ---- what cannot be ----


def test_masks_that_are_not_one(recorded):
    model = recorded["roberta"]
    for text, message in (("no mask", "has <mask> 0 times"),
                          ("<mask> and <mask>", "has <mask> 2 times")):
        with pytest.raises(ValueError, match=rf"inputs\[1\]: {message}, and one") as caught:
            model.fill_mask(["a <mask>", text])
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"inputs\[0\]: has no <mask> to fill"):
        recorded["bart"].fill_mask(["no mask"])
    with pytest.raises(ConfigError, match="topk: 0"):
        model.fill_mask("a <mask>", topk=0)


def test_a_vocabulary_without_a_mask():
    model = facade(RobertaConfig(**SMALL), Words(vocab=Vocabulary(["a", "b"])))
    with pytest.raises(ConfigError, match="vocabulary has no <mask>"):
        model.fill_mask("a <mask>")


def test_layers_that_are_not_there(recorded):
    with pytest.raises(ConfigError, match=r"layer: 3, but there are 0 .* to 2"):
        recorded["roberta"].extract_features("a", layer=3)
    assert recorded["bart"].extract_features("a", layer=3).shape[1] == 8
    other = facade(LSTMConfig(encoder_embed_dim=8, encoder_hidden_size=8, decoder_embed_dim=8,
                              decoder_hidden_size=8, decoder_out_embed_dim=8), WORDS)
    with pytest.raises(ConfigError, match="'lstm' tell of their last states alone"):
        other.extract_features("w1", all=True)
    assert other.extract_features("w1 w2").shape[0] == 3
    with pytest.raises(ConfigError, match="reads one text, and was given 2"):
        other.encode("w1", "w2")


def test_a_model_without_tokenizer_takes_ids():
    size = 12
    symbols = [placeholder(i) for i in range(size)]
    vocab = Vocabulary.of_symbols(["<s>", "<pad>", "</s>", "<unk>", *symbols[4:]],
                                  bos=0, pad=1, eos=2, unk=3)
    model = facade(RobertaConfig(**SMALL), Words(vocab=vocab))
    assert model.extract_features([0, 5, 6, 2]).shape == (4, 8)
    assert model.log_probs([[0, 5, 2]]).shape == (1, 3, size)
    with pytest.raises(VocabularyError, match="without a tokenizer .* give ids") as caught:
        model.extract_features("some text")
    assert "\n" not in str(caught.value)
    assert not WORDS.vocab.nameless


def test_methods_of_other_facades_say_what_they_are_for(recorded):
    model = recorded["roberta"]
    for name in ("translate", "generate", "sample", "score"):
        with pytest.raises(AttributeError, match=f"Encoder has no {name}: .*'words' is none of"):
            getattr(model, name)
    assert not hasattr(model, "something")
    with pytest.raises(ConfigError, match="no head that predicts masked words"):
        hub.Encoder(task=model.task, config=model.config, models=recorded["bart"].models,
                    params=recorded["bart"].params).log_probs([[0, 5, 2]])


def test_what_is_given_is_checked(recorded):
    model = recorded["roberta"]
    with pytest.raises(TypeError, match=r"inputs: got None"):
        model.extract_features(None)
    with pytest.raises(ValueError, match=r"inputs\[0\]: has the id 9999"):
        model.extract_features([0, 9999, 2])
    assert model.extract_features([]) == [] and model.fill_mask([]) == []
    assert model.decode([]) == "" and model.decode([[], [0, 2]]) == ["", ""]


def test_pairs_that_share_a_row_know_their_second_text() -> None:
    pair, single, separated = [0, 5, 6, 2, 7, 2], [0, 8, 2], [0, 5, 2, 2, 6, 7, 2]
    rows = [pair, single, separated]
    alone = [protocol.sentence_source(jnp.array([row]), pad=1, eos=2).second[0].tolist()
             for row in rows]
    assert alone == [[False] * 4 + [True] * 2, [False] * 3, [False] * 7]
    together = protocol.sentence_source(
        jnp.array([[*pair, *single, *separated, 1]]), pad=1, eos=2,
        segments=jnp.array([[1] * 6 + [2] * 3 + [3] * 7 + [0]]))
    assert together.second[0].tolist() == [*alone[0], *alone[1], *alone[2], False]
