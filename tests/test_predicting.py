"""`predict` and `register_classification_head` of loaded models, from fairseq's files and ours."""

from __future__ import annotations

import argparse
import pathlib
import shutil

import jax
import numpy as np
import pytest
from test_sentence_prediction import FOLDER, HEAD, data_folder, load

import seqjax
from seqjax.config import ConfigError
from seqjax.hub import text_ids
from seqjax.interop.torch.writer import write_pt


def loaded(name: str, place: pathlib.Path, **args):
    """The recorded model, by way of a `.pt` beside its data."""
    golden = load(name)
    data = data_folder(place / name, golden.about["task"])
    task = {k: v for k, v in golden.about["task"].items() if k != "single"}
    write_pt(data / "model.pt", {
        "args": argparse.Namespace(**{
            "arch": golden.about["arch"], **golden.about["args"],
            "criterion": "sentence_ranking" if name == "ranking" else "sentence_prediction",
            "task": "sentence_ranking" if name == "ranking" else "sentence_prediction",
            **task, **args}),
        "model": golden.state})
    return seqjax.load(data / "model.pt", quiet=True)


def rows(name: str) -> list[list[int]]:
    return [[int(i) for i in row if i != 1] for row in load(name).arrays["source"]]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return np.asarray(jax.nn.log_softmax(logits))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    return {name: loaded(name, place) for name in ("roberta", "bart", "roberta_regression")}


@pytest.mark.parametrize("name", ["roberta", "bart"])
def test_log_probabilities_are_fairseqs(models, name):
    model, recorded = models[name], load(name).arrays["logits"]
    found = model.predict(HEAD, rows(name))
    assert found.dtype == np.float32 and model.classification_heads == {HEAD: 3}
    np.testing.assert_allclose(found, log_softmax(recorded), atol=1e-5)
    np.testing.assert_allclose(
        model.predict(HEAD, rows(name), return_logits=True), recorded, atol=1e-5)


def test_a_regression_gives_its_values(models):
    model, recorded = models["roberta_regression"], load("roberta_regression").arrays["logits"]
    np.testing.assert_allclose(
        model.predict(HEAD, rows("roberta_regression")), recorded, atol=1e-5)
    assert model.task.config.regression_target


@pytest.mark.parametrize("name", ["roberta", "bart"])
def test_what_else_is_in_the_list_changes_nothing(models, name):
    model, given = models[name], rows(name)
    whole = model.predict(HEAD, given)
    for place in (0, 4):
        alone = model.predict(HEAD, [given[place]])
        np.testing.assert_allclose(alone[0], whole[place], atol=1e-6)
        # fairseq's users give one row of ids, or a padded array of several.
        np.testing.assert_array_equal(model.predict(HEAD, np.array(given[place])), alone)
    padded = np.full((10, 30), 1)
    for row, ids in zip(padded, given, strict=True):
        row[: len(ids)] = ids
    np.testing.assert_allclose(model.predict(HEAD, padded), whole, atol=1e-6)
    many = model.predict(HEAD, given * 4)
    np.testing.assert_allclose(many, np.tile(whole, (4, 1)), atol=1e-6)
    assert model.predict(HEAD, []).shape == (0, 3)


def test_texts_and_pairs_are_read_as_the_data_are(models):
    """Lines of the split `valid`, whose ids the recorded batch has."""
    for name in ("roberta", "bart"):
        pairs = list(zip(*((FOLDER / "text" / f"valid.input{i}").read_text().splitlines()
                           for i in (0, 1)), strict=True))
        model = models[name]
        ids = [text_ids.sentence_ids(model.task, model.models[0], pair).tolist() for pair in pairs]
        assert ids == rows(name)
        whole = model.predict(HEAD, rows(name))
        np.testing.assert_array_equal(model.predict(HEAD, pairs), whole)
        np.testing.assert_allclose(model.predict(HEAD, pairs[0]), whole[:1], atol=1e-6)


def test_pairs_are_joined_as_fairseqs_hub_joins_them(tmp_path):
    """Where the task does not say: two `</s>` for a model that encodes, one for one that has a
    decoder; `<s>` in front either way."""
    for name, between in (("roberta", [2, 2]), ("bart", [2])):
        model = loaded(name, tmp_path, init_token=None, separator_token=None)
        a, b = (model.task.vocab.index(word) for word in ("w1", "w2"))
        ids = text_ids.sentence_ids(model.task, model.models[0], ["w1", "w2"])
        assert ids.tolist() == [0, a, *between, b, 2]
        assert text_ids.sentence_ids(model.task, model.models[0], ["w1"]).tolist() == [0, a, 2]


def test_what_cannot_be_predicted(models):
    model = models["bart"]
    with pytest.raises(ConfigError, match=f"no classification head 'mnli'; the model has: {HEAD}$"):
        model.predict("mnli", ["w1"])
    with pytest.raises(ValueError, match=r"inputs\[1\]: has 31 tokens, but the model takes at most "
                                         "30$"):
        model.predict(HEAD, [[0, 2], [0] * 30 + [2]])
    with pytest.raises(ValueError, match=r"inputs\[0\]: has no eos \(2\)"):
        model.predict(HEAD, [[0, 5]])
    with pytest.raises(ValueError, match=r"inputs\[0\]: has the id 99"):
        model.predict(HEAD, [[0, 99, 2]])
    with pytest.raises(TypeError, match=r"inputs\[0\]: got NoneType|inputs\[0\]: got None"):
        model.predict(HEAD, [None])


@pytest.mark.parametrize("name", ["roberta", "bart"])
def test_new_heads_can_be_registered(name, tmp_path):
    model = loaded(name, tmp_path)
    before = model.predict(HEAD, rows(name))
    model.register_classification_head("sst", num_classes=2)
    model.register_classification_head("wide", 4, inner_dim=5)
    assert model.classification_heads == {HEAD: 3, "sst": 2, "wide": 4}
    np.testing.assert_array_equal(model.predict(HEAD, rows(name)), before)
    found = model.predict("sst", ["w1 w2", ("w1", "w3")])
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, rtol=1e-5)
    assert model.predict("wide", ["w1"]).shape == (1, 4)
    with pytest.warns(UserWarning, match="'sst' had 2 classes and is replaced by one of 5"):
        model.register_classification_head("sst", num_classes=5)
    assert model.predict("sst", ["w1"]).shape == (1, 5)
    with pytest.raises(ConfigError, match="register_classification_head: .*give 1 or more"):
        model.register_classification_head("none", num_classes=0)
    with pytest.raises(ConfigError, match="'a b' cannot name a head"):
        model.register_classification_head("a b", num_classes=2)


def test_the_heads_of_a_file_are_its_weights(tmp_path):
    """Files that were made by hand call their head otherwise than the task does."""
    golden = load("roberta")
    data = data_folder(tmp_path / "data", golden.about["task"])
    state = {k.replace(HEAD, "mnli"): v for k, v in golden.state.items()}
    shutil.copy(data / "input0" / "dict.txt", data)
    shutil.rmtree(data / "input0")
    shutil.rmtree(data / "label")
    write_pt(data / "model.pt", {
        "args": argparse.Namespace(arch="roberta", task="sentence_prediction", num_classes=2,
                                   criterion="sentence_prediction", **golden.about["args"]),
        "model": state})
    model = seqjax.load(data / "model.pt", quiet=True)
    assert model.classification_heads == {"mnli": 3}
    np.testing.assert_allclose(model.predict("mnli", rows("roberta")),
                               log_softmax(golden.arrays["logits"]), atol=1e-5)
