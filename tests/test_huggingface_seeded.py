"""Folders of the shape in which models are published, and what transformers does with them: heads
for classification and pairs of texts, every key of `generation_config.json` that is honoured,
languages (scripts/record_huggingface_seeded.py)."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import seeded_folders
from safetensors.numpy import load_file

import seqjax
from seqjax import convert
from seqjax.config import ConfigError
from seqjax.interop.huggingface import forms, symbols

TEXTS = ["Hello world!", "the king said", "A man is in the house ."]
PAIRS = [("Hello world!", "the king"), ("He was here", "the king said no ."), ("no", "it is")]
"""As the script has them."""
HEAD = "sentence_classification_head"


def load(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of what is not honoured
        return seqjax.load(folder, quiet=True)


# ---- heads and pairs ----

CASES, ARRAYS = seeded_folders.recorded("heads")


def of_rows(name, key):
    ends = np.cumsum(ARRAYS[f"{name}/lengths"].astype(int))
    return np.split(ARRAYS[f"{name}/{key}"].astype(int), ends[:-1])


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    place = tmp_path_factory.mktemp("heads")
    found = {}
    for name, case in CASES.items():
        folder = seeded_folders.write(case, place / name)
        found[name] = folder, load(folder)
    return found


def as_transformers_says(logits, name):
    """What `predict` gives of logits."""
    problem = CASES[name]["config"].get("problem_type")
    if problem == "regression":
        return logits
    if problem == "multi_label_classification":
        return -np.log1p(np.exp(-logits.astype(np.float64)))
    return logits - np.log(np.exp(logits.astype(np.float64)).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("name", CASES)
def test_texts_and_pairs_have_the_ids_that_transformers_gives_them(heads, name):
    _, model = heads[name]
    found = [*model.encode(TEXTS), *(model.encode(*pair) for pair in PAIRS)] if (
        name != "bart") else [*(model.encode(text) for text in TEXTS)]
    for ours, theirs in zip(found, of_rows(name, "ids"), strict=name != "bart"):
        assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize("name", [name for name in CASES if f"{name}/logits" in ARRAYS])
def test_heads_say_what_transformers_says(heads, name):
    folder, model = heads[name]
    wanted = as_transformers_says(ARRAYS[f"{name}/logits"], name)
    assert model.classification_heads == {HEAD: wanted.shape[1]}
    found = model.predict(HEAD, [*TEXTS, *PAIRS])
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    rows = of_rows(name, "ids")
    np.testing.assert_allclose(model.predict(HEAD, rows), wanted, atol=1e-4)
    labels = CASES[name]["config"].get("id2label", {})
    names = [labels[key] for key in sorted(labels, key=int)]
    assert list(model.class_names(HEAD)) == (names or list(model.class_names(HEAD)))


def test_states_of_pairs_are_those_of_transformers(heads):
    for name in ("bert_bare", "bert_xlmr"):
        _, model = heads[name]
        assert of_rows(name, "types")[len(TEXTS)].max() == (name == "bert_bare")
        for given in (PAIRS[0], model.encode(*PAIRS[0])):
            np.testing.assert_allclose(
                model.extract_features(given), ARRAYS[f"{name}/states"], atol=1e-4)
    _, model = heads["bert_bare"]
    many = model.extract_features([*TEXTS, *PAIRS])
    np.testing.assert_allclose(many[len(TEXTS)], ARRAYS["bert_bare/states"], atol=1e-4)
    assert model.decode(model.encode(*PAIRS[0])) == "hello world! the king"


@pytest.mark.parametrize("name", CASES)
def test_folders_with_heads_come_back(heads, name, tmp_path):
    folder, _ = heads[name]
    convert.main([str(folder), "--to", "hf", str(tmp_path / "out")])
    was, now = (load_file(f / "model.safetensors") for f in (folder, tmp_path / "out"))
    assert was.keys() == now.keys()
    for key, value in was.items():
        np.testing.assert_array_equal(now[key], value, err_msg=key)
    said, written = (json.loads((f / "config.json").read_text())
                     for f in (folder, tmp_path / "out"))
    assert {k: written.get(k) for k in said} == said


@pytest.mark.parametrize("name, cls", [
    ("bert_bare", "BertForSequenceClassification"), ("bart", "BartForSequenceClassification"),
    ("xlmr", "XLMRobertaForSequenceClassification")])
def test_a_head_that_is_registered_is_saved_restored_and_written(heads, name, cls, tmp_path):
    folder, _ = heads[name]
    model = seqjax.load(folder, quiet=True)
    model.register_classification_head(HEAD, num_classes=2)
    wanted = model.predict(HEAD, [*TEXTS, *PAIRS])
    model.save(tmp_path / "ours")
    restored = load(tmp_path / "ours")
    np.testing.assert_array_equal(restored.predict(HEAD, [*TEXTS, *PAIRS]), wanted)
    assert restored.class_names(HEAD) == ()
    convert.main([str(tmp_path / "ours"), "--to", "hf", str(tmp_path / "out")])
    said = json.loads((tmp_path / "out" / "config.json").read_text())
    assert said["architectures"] == [cls]
    assert said["id2label"] == {"0": "LABEL_0", "1": "LABEL_1"}
    again = load(tmp_path / "out")
    np.testing.assert_array_equal(again.predict(HEAD, [*TEXTS, *PAIRS]), wanted)
    assert again.class_names(HEAD) == ("LABEL_0", "LABEL_1")
    with pytest.raises(ConfigError, match="holds checkpoints already"):
        model.save(tmp_path / "ours")


@pytest.mark.parametrize("changes, message", [
    ({"id2label": {"0": "a", "1": "b"}}, "id2label: 2 labels, but the head of the weights has 3"),
    ({"id2label": {"0": "a", "5": "b"}}, r"id2label: ids \[0, 5\]"),
    ({"problem_type": "guess"}, "problem_type: 'guess' is none of"),
])
def test_labels_that_cannot_be(changes, message, tmp_path):
    case = CASES["bert"]
    folder = seeded_folders.write(
        {**case, "config": {**case["config"], **changes}}, tmp_path / "wrong")
    with pytest.raises(ConfigError, match=message):
        seqjax.load(folder, quiet=True)


# ---- searches ----

SEARCH_CASES, SEARCHED = seeded_folders.recorded("search")
SOURCES = [[0, 9, 5, 9, 5, 12, 2], [0, 7, 2], [0, 4, 11, 6, 6, 2]]
PROMPTS = [[9, 5, 9], [2, 7], [2, 4, 11, 4, 11]]
"""As the script has them."""


@pytest.mark.parametrize("name", SEARCH_CASES)
@pytest.mark.parametrize("beams", [1, 3])
def test_every_key_is_honoured_as_transformers_honours_it(name, beams, tmp_path):
    case = SEARCH_CASES[name]
    inputs = SOURCES if name == "bart" else PROMPTS
    wrong = []
    for key, said in case["searches"].items():
        if not key.endswith(str(beams)):
            continue
        folder = seeded_folders.write({**case, "generation": said}, tmp_path / key)
        found = [h for hypotheses in load(folder).generate(inputs) for h in hypotheses]
        wanted = [[int(t) for t in row if t >= 0] for row in SEARCHED[f"{name}/{key}/tokens"]]
        skip = [0 if name == "bart" else len(ids) for ids in inputs for _ in range(
            said["num_return_sequences"])]
        rows = [h.tokens.tolist()[n:] for h, n in zip(found, skip, strict=True)]
        if rows != wanted:
            wrong.append((key, rows, wanted))
        elif beams > 1:
            np.testing.assert_allclose(
                [h.score for h in found], SEARCHED[f"{name}/{key}/scores"], atol=1e-4,
                err_msg=key)
    assert not wrong


def test_keys_change_what_is_found():
    """Else the test above could not fail: each matters to one of the models, with or without
    beams."""
    every, changes = set(), set()
    for name, case in SEARCH_CASES.items():
        for search in case["searches"]:
            key, beams = search[:-1], search[-1]
            every.add(key)
            if SEARCHED[f"{name}/{search}/tokens"].tolist() != (
                    SEARCHED[f"{name}/plain{beams}/tokens"].tolist()):
                changes.add(key)
    assert every - changes == {"plain", "least"}  # min_length: tests/test_huggingface.py


# ---- languages ----

LANGUAGES, TRANSLATED = seeded_folders.recorded("languages")


@pytest.mark.parametrize("name", LANGUAGES)
def test_languages_are_read_and_written_as_transformers_does(name, tmp_path):
    case = LANGUAGES[name]
    model = load(seeded_folders.write(case, tmp_path / name))
    texts = [f">>fra<< {text}" for text in TEXTS] if name == "marian" else TEXTS
    more = {f"{side}_lang": case[side] for side in ("source", "target") if side in case}
    ids = [[int(t) for t in row if t >= 0] for row in TRANSLATED[f"{name}/ids"]]
    outputs = [[int(t) for t in row if t >= 0] for row in TRANSLATED[f"{name}/outputs"]]
    found = [best.tokens.tolist() for best, *_ in model.generate(texts, **more)]
    if name in ("gpt2", "opt", "xglm"):  # whose outputs begin with the prompt
        assert [row[:len(given)] for row, given in zip(found, ids, strict=True)] == ids
        found = [row[len(given):] for row, given in zip(found, ids, strict=True)]
        assert found == outputs
        return
    reader = model.translating(**more) if more else model
    assert [reader.encode(text).tolist() for text in texts] == ids
    assert found == outputs
    said = json.loads(str(TRANSLATED[f"{name}/texts"]))
    assert model.translate(texts, **more) == said


def test_languages_that_only_lists_of_symbols_name(tmp_path):
    """NLLB's older folders: a SentencePiece model and `special_tokens_map.json`."""
    codes = ["ace_Arab", "deu_Latn", "eng_Latn"]
    case = LANGUAGES["mbart50_spm"]
    read = {}
    for legacy in (False, True):
        folder = tmp_path / str(legacy)
        folder.mkdir()
        seeded_folders.write_tokenizer({**case, "files": {
            "tokenizer_config.json": {"tokenizer_class": "NllbTokenizer",
                                      "legacy_behaviour": legacy},
            "special_tokens_map.json": {"additional_special_tokens": codes}}}, folder)
        (folder / "config.json").write_text(json.dumps({"model_type": "m2m_100"}))
        side, _ = symbols.sides(
            folder, model_type="m2m_100", layout="mbart", sizes=(430, 430))
        special = symbols.Special(bos=0, pad=1, eos=2, unk=3, start=None)
        vocabulary = symbols.vocabulary(side, size=430, special=special)
        assert vocabulary.symbols[421:425] == [*codes, "<mask>"]
        read[legacy] = forms.section(
            vocabulary, side, special, {}, symbols.special_names(folder))["source_form"]
        assert side.tokenizer is not None
        ids = vocabulary.encode_line(side.tokenizer.encode(TEXTS[0]), append_eos=True)
        wanted = [int(t) for t in TRANSLATED["mbart50_spm/ids"][0] if t >= 0]
        assert ids.tolist() == wanted[1:]
    assert read == {False: "{source} ... </s>", True: "... </s> {source}"}
