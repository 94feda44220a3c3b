"""Sentences with labels: what fairseq's tasks `sentence_prediction` and `sentence_ranking` make of
them, logits of heads, losses, gradients and metrics (recorded by
scripts/record_sentence_prediction.py), and a run that learns."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import shutil
from typing import Any

import family_goldens
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import models, tasks
from seqjax.config import Config, ConfigError, GenerationConfig
from seqjax.data.epoch_plan import Shape
from seqjax.interop.fairseq import checkpoint as fairseq
from seqjax.models.protocol import token_source
from seqjax.settings import resolve
from seqjax.training import objective

FOLDER = pathlib.Path(__file__).parent / "goldens" / "sentence_prediction"
CASES = sorted(path.stem for path in FOLDER.glob("*.npz"))
HEAD = "sentence_classification_head"


@dataclasses.dataclass(frozen=True)
class Golden:
    """One recorded case and our model of it."""

    about: dict[str, Any]
    arrays: dict[str, np.ndarray]
    state: dict[str, np.ndarray]
    checkpoint: fairseq.FairseqCheckpoint
    model: Any

    @property
    def params(self) -> Any:
        return jax.tree.map(jnp.asarray, self.checkpoint.params)

    @property
    def sizes(self) -> dict[str, int]:
        size = self.checkpoint.source_vocab_size
        return {"source_vocab_size": size, "target_vocab_size": size}


@functools.cache
def load(name: str) -> Golden:
    about, arrays, state = family_goldens.recorded(FOLDER / f"{name}.npz")
    task = "sentence_ranking" if name == "ranking" else "sentence_prediction"
    checkpoint = fairseq.from_tree({
        "args": {"arch": about["arch"], "task": task, **about["args"]}, "model": state})
    model = models.build(
        checkpoint.config, source_vocab_size=checkpoint.source_vocab_size,
        target_vocab_size=checkpoint.target_vocab_size, compute_dtype=jnp.float32)
    return Golden(about, arrays, state, checkpoint, model)


def data_folder(place: pathlib.Path, keys: dict[str, Any]) -> pathlib.Path:
    """The recorded data as the case's task wants them."""
    shutil.copytree(FOLDER / "data-bin", place)
    if keys.get("single"):
        shutil.rmtree(place / "input1")
    for name, when in (("regression", keys.get("regression_target")),
                       ("ranking", "max_option_length" in keys)):
        if when:
            shutil.rmtree(place / "label")
            shutil.copytree(FOLDER / name, place / "label")
    return place


def configuration(name: str, data: pathlib.Path, **more: Any) -> Config:
    golden = load(name)
    keys = {k: v for k, v in golden.about["task"].items() if k != "single"}
    known = {field.name for field in dataclasses.fields(golden.checkpoint.config)}
    args = {k: v for k, v in golden.about["args"].items() if k in known}
    kind = "sentence_ranking" if name == "ranking" else "sentence_prediction"
    return resolve({
        "task": {"name": kind, "data": str(data), "no_shuffle": True, **keys},
        "model": {"arch": golden.about["arch"], **args}, **more})


@functools.cache
def task_of(name: str, data: pathlib.Path, report: str = "") -> Any:
    loss = {report: True} if report else {}
    return tasks.setup(configuration(name, data, loss=loss))


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    place = tmp_path_factory.mktemp(request.param) / "data"
    return request.param, data_folder(place, load(request.param).about["task"])


def whole_split(task: Any, split: str = "valid") -> dict[str, np.ndarray]:
    dataset = task.dataset(split)
    ids = np.arange(len(dataset))
    shape = Shape(len(ids) + 2, int(dataset.lengths.source.max()) + 3, 0)
    return dataset.materialise(ids, ids, shape)


def test_the_data_are_collated_as_fairseqs(case):
    name, data = case
    recorded = load(name).arrays
    batch = whole_split(task_of(name, data))
    source = batch["source"]
    if name == "ranking":
        source = source.transpose(1, 0, 2)
    rows, width = recorded["source"].shape[-2:]
    np.testing.assert_array_equal(source[..., :rows, :width], recorded["source"])
    assert (source[..., rows:, :] == 1).all() and (source[..., width:] == 1).all()
    labels = batch["labels"][:rows]
    np.testing.assert_allclose(labels.reshape(-1), recorded["target"].reshape(-1), rtol=1e-6)


def test_logits_loss_gradients_and_metrics_are_fairseqs(case):
    name, data = case
    golden, task = load(name), task_of(name, data)
    batch = {k: jnp.asarray(v) for k, v in whole_split(task).items()}
    config = configuration(name, data)
    loss_fn = objective.loss_function(task, golden.model, config.loss)

    @jax.jit
    def run(params):
        def loss(params):
            output, _ = loss_fn(params, {}, batch, None, jnp.int32(0))
            return output.sum, output
        gradient, output = jax.grad(loss, has_aux=True)(params)
        return gradient, output, task.forward(golden.model, params, batch).aux["logits"]

    gradient, output, logits = run(golden.params)
    rows = len(golden.arrays["logits"])
    np.testing.assert_allclose(logits[:rows], golden.arrays["logits"], atol=1e-5)
    np.testing.assert_allclose(output.sum, golden.arrays["loss"], rtol=1e-5)
    assert output.weight == golden.arrays["sample_size"]
    assert output.metrics["ntokens"][0] == golden.arrays["ntokens"]
    theirs = fairseq.to_state(gradient, golden.checkpoint.config, **golden.sizes)
    for key, norm in zip(golden.about["grads"], golden.arrays["grads"], strict=True):
        np.testing.assert_allclose(
            np.linalg.norm(theirs[key].ravel()), norm, rtol=1e-4, atol=1e-6, err_msg=key)
    metrics = golden.about["metrics"]
    values = {k: float(a) / float(b) for k, (a, b) in output.metrics.items()}
    assert round(values["loss"] / np.log(2), 3) == metrics["loss"]
    assert round(values["nll_loss"] / np.log(2), 3) == metrics["nll_loss"]
    if "accuracy" in metrics:
        assert round(100 * values["accuracy"], 1) == metrics["accuracy"]


def test_correlations_of_the_whole_split_are_fairseqs(tmp_path):
    name = "roberta_regression"
    golden = load(name)
    data = data_folder(tmp_path / "data", golden.about["task"])
    task = task_of(name, data, "report_pearson_and_spearman")
    evaluator = task.evaluator(golden.model, task.dataset("valid"), generation=GenerationConfig())
    found = evaluator(golden.params).values
    assert found.keys() == {"pearson", "spearman", "pearson_and_spearman"}
    for key, value in found.items():
        assert round(value, 1) == golden.about["metrics"][key], key


def test_heads_are_written_back_bit_for_bit_in_fairseqs_order(case):
    name, _ = case
    golden = load(name)
    assert list(golden.checkpoint.config.classification_heads) == [HEAD]
    written = fairseq.to_state(golden.checkpoint.params, golden.checkpoint.config,
                               kept=golden.checkpoint.kept, **golden.sizes)
    assert written.keys() == golden.state.keys()
    for key, value in golden.state.items():
        np.testing.assert_array_equal(written[key], value, err_msg=key)
        assert written[key].dtype == value.dtype


def test_a_sentence_is_what_it_is_alone(case):
    name, _ = case
    golden = load(name)
    source = golden.arrays["source"].reshape(-1, golden.arrays["source"].shape[-1])
    run = jax.jit(lambda params, rows: golden.model.class_logits(
        params, HEAD, token_source(rows, pad=1)))
    whole = run(golden.params, jnp.asarray(source, jnp.int32))
    for row in (0, 3):
        alone = source[row][source[row] != 1][None]
        np.testing.assert_allclose(
            run(golden.params, jnp.asarray(alone, jnp.int32))[0], whole[row], atol=1e-5)
